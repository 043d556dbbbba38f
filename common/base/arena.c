#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(ptr, len)   ASAN_POISON_MEMORY_REGION(ptr, len)
#define UNPOISON(ptr, len) ASAN_UNPOISON_MEMORY_REGION(ptr, len)
#else
#define POISON(ptr, len)   ((void)(ptr), (void)(len))
#define UNPOISON(ptr, len) ((void)(ptr), (void)(len))
#endif

enum { BLOCK_BYTES = 8192, ALIGNMENT = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size;
    _Alignas(ALIGNMENT) char bytes[];
};

void arena_init(struct arena *arena)
{
    *arena = (struct arena){0};
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        UNPOISON(block->bytes, block->size);
        free(block);
        block = next;
    }
}

void arena_reset(struct arena *arena)
{
    if (arena->block == NULL)
        return;
    free_blocks(arena->block->next);
    arena->block->next = NULL;
    if (arena->block->size > BLOCK_BYTES) {
        free_blocks(arena->block);
        arena->block = NULL;
    } else {
        POISON(arena->block->bytes, arena->block->size);
    }
    arena->used = 0;
}

void arena_close(struct arena *arena)
{
    free_blocks(arena->block);
    *arena = (struct arena){0};
}

void *arena_alloc(struct arena *arena, size_t size)
{
    REQUIRE(size < SIZE_MAX / 2);
    size_t need = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (arena->block == NULL || arena->block->size - arena->used < need) {
        size_t bytes = need > BLOCK_BYTES ? need : BLOCK_BYTES;
        struct arena_block *block = mem_alloc(sizeof *block + bytes);
        block->next = arena->block;
        block->size = bytes;
        POISON(block->bytes, bytes);
        arena->block = block;
        arena->used = 0;
    }
    void *memory = arena->block->bytes + arena->used;
    UNPOISON(memory, size);
    arena->used += need;
    return memory;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    return memset(arena_alloc(arena, size), 0, size);
}

char *arena_copy(struct arena *arena, const char *ptr, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);
    if (len != 0)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_copy(arena, text, strlen(text));
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    REQUIRE(len >= 0);
    char *text = arena_alloc(arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}
