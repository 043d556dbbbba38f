#ifndef WHOPLINE_HTTP1_CHECK_H
#define WHOPLINE_HTTP1_CHECK_H
/* What RFC 9112 asks of a request's head beyond its grammar, for http1.c. Private to
 * codec/http1*.c.
 */
#include "codec/http1.h"

struct http1_head {
    struct span bytes;  /* request line and headers as they came */
    const char *method; /* as read */
    size_t target_at;   /* within bytes */
    size_t target_len;
    bool is_1_0;
    uint64_t content_length; /* as read, where there is such a header */
    size_t body_max_bytes;
};

/* Fills in path, content_length, chunked and expect_continue; headers and method are already there.
 * False: status and reason say why it is refused. */
bool http1_check_head(const struct http1_head *head, struct http1_request *request);

#endif
