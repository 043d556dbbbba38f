#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

/* The dying thread's: it is its handler that reads them. */
static _Thread_local char last_words[160];

void base_die(const char *file, int line, const char *what)
{
    const char *slash = strrchr(file, '/');
    fprintf(stderr, "fatal: %s:%d: %s\n", file, line, what);
    snprintf(last_words, sizeof last_words, "%s:%d: %s", slash != NULL ? slash + 1 : file, line,
             what);
    abort();
}

const char *base_last_words(void)
{
    return last_words;
}

void *mem_alloc(size_t size)
{
    void *memory = malloc(size != 0 ? size : 1);
    REQUIRE(memory != NULL);
    return memory;
}

void *mem_zalloc(size_t size)
{
    void *memory = calloc(1, size != 0 ? size : 1);
    REQUIRE(memory != NULL);
    return memory;
}

void *mem_realloc(void *old, size_t size)
{
    void *memory = realloc(old, size != 0 ? size : 1);
    REQUIRE(memory != NULL);
    return memory;
}

char *mem_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(mem_alloc(size), text, size);
}
