#ifndef WHOPLINE_BASE_H
#define WHOPLINE_BASE_H
/* What every other file may take for granted: spans, assertions of two kinds, must-check.
 *
 * REQUIRE is for a programmer's error and ends the process in every build. What comes from the
 * network, a file, an API or an operator is never asserted on: it gets a struct err. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK             __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN               __attribute__((noreturn))

#define ARRAY_LEN(a) (sizeof(a) / sizeof(0 [a]))

/* Borrowed bytes; not NUL-terminated. ptr is NULL only where "absent" differs from "empty". */
struct span {
    const char *ptr;
    size_t len;
};

#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})

static inline struct span span_of(const char *text)
{
    return (struct span){text, text != NULL ? strlen(text) : 0};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool text_is_empty(const char *text)
{
    return text[0] == '\0';
}

NORETURN void base_die(const char *file, int line, const char *what);

/* What REQUIRE has found wrong, "slot.c:12: count > 0", for a handler of SIGABRT; "" before. */
const char *base_last_words(void);

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            base_die(__FILE__, __LINE__, #condition);                                              \
    } while (0)

/* malloc and friends that abort instead of returning NULL: a worker that is out of memory dies and
 * its jobs are given to another; ingest bounds what it takes in before it allocates. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *old, size_t size);
char *mem_strdup(const char *text);

#endif
