#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

void base_die(const char *file, int line, const char *what)
{
    fprintf(stderr, "fatal: %s:%d: %s\n", file, line, what);
    abort();
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
