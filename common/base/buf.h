#ifndef WHOPLINE_BUF_H
#define WHOPLINE_BUF_H
/* A growing byte buffer on the heap. One owner, one thread; aborts when out of memory. */
#include "base/base.h"

struct buf {
    char *ptr;
    size_t len;
    size_t cap;
};

void buf_close(struct buf *buf);                /* frees; the buffer is empty and usable again */
void buf_clear(struct buf *buf);                /* len = 0, memory kept */
void buf_reserve(struct buf *buf, size_t more); /* room for so many bytes beyond len */
void buf_add(struct buf *buf, const void *ptr, size_t len);
void buf_add_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_consume(struct buf *buf, size_t len); /* drops the first bytes */

/* The content with a NUL behind it (not counted in len); valid until the next change. */
const char *buf_text(struct buf *buf);

static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){buf->ptr != NULL ? buf->ptr : "", buf->len};
}

#endif
