#ifndef WHOPLINE_ARENA_H
#define WHOPLINE_ARENA_H
/* Memory of one unit of work (a job, a request), thrown away at its end.
 *
 * One owner, one thread. arena_reset keeps one block for the next unit and poisons it under ASan,
 * so that a pointer kept too long is found. Aborts when out of memory. */
#include "base/base.h"

struct arena_block;

struct arena {
    struct arena_block *block; /* newest first */
    size_t used;               /* bytes of the newest block */
};

void arena_init(struct arena *arena);
void arena_reset(struct arena *arena);
void arena_close(struct arena *arena);

/* Aligned for any type; not zeroed. Valid until arena_reset or arena_close. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zalloc(struct arena *arena, size_t size);
char *arena_copy(struct arena *arena, const char *ptr, size_t len); /* adds a NUL */
char *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
