#ifndef WHOPLINE_HTTP1_H
#define WHOPLINE_HTTP1_H
/* HTTP/1.1 requests as the ingest server wants them: bytes in, one request at a time out.
 *
 * llhttp does the grammar without any lenient flag; what it lets through and RFC 9112 does not
 * (Host missing or twice, TE in HTTP/1.0, both lengths, a body on GET, absolute targets ...) is
 * refused here. Upgrade is ignored, trailers are read and dropped. The parser copies what it keeps,
 * so input buffers may be reused at once. One parser per connection, one thread; after HTTP1_ERROR
 * only http1_request and http1_free are allowed.
 *
 *            feed                 feed                  http1_next
 *   [start] ─────> HTTP1_HEAD ───────────> HTTP1_DONE ────────────> [start]
 *      └─ HTTP1_MORE at any point: everything was consumed, feed the next bytes
 *      └─ HTTP1_ERROR at any point: answer http1_request.status and close
 *
 * At HTTP1_HEAD the caller looks at the request and decides whether to read the body. */
#include "base/base.h"

struct http1;

struct http1_limits {
    size_t head_max_bytes; /* request line and headers, and separately the trailers */
    size_t header_max_count;
    size_t body_max_bytes;
};

enum http1_event { HTTP1_MORE, HTTP1_HEAD, HTTP1_DONE, HTTP1_ERROR };

enum http1_method { HTTP1_GET, HTTP1_HEAD_METHOD, HTTP1_POST, HTTP1_OTHER };

struct http1_header {
    struct span name;  /* as sent; compare without case */
    struct span value; /* without surrounding blanks; not NULL */
};

/* Spans point into the parser and are valid until http1_next or http1_free. */
struct http1_request {
    enum http1_method method;
    struct span path; /* of the target, without query; begins with '/'; escapes as they came */
    const struct http1_header *headers;
    size_t header_count;
    int64_t content_length; /* declared; -1 where there is none */
    bool chunked;
    bool keep_alive; /* the client would like to go on */
    bool expect_continue;
    struct span body;   /* from HTTP1_DONE on */
    int status;         /* at HTTP1_ERROR: 400, 413, 414, 417, 431, 501 or 505 */
    const char *reason; /* at HTTP1_ERROR: a word for logs and metrics, e.g. "two_lengths" */
};

struct http1 *http1_new(const struct http1_limits *limits); /* limits: copied */
void http1_free(struct http1 *parser);

/* Feeds bytes; *used tells how many were taken. At HTTP1_HEAD and HTTP1_DONE the rest must be fed
 * again (after http1_next, for the latter): it may be a pipelined request. After HTTP1_HEAD feed
 * again even if nothing is left (len 0): a request without a body is done then. The events do not
 * depend on where the input is cut. */
enum http1_event http1_feed(struct http1 *parser, const char *ptr, size_t len, size_t *used);
const struct http1_request *http1_request(const struct http1 *parser);
/* After HTTP1_DONE; keeps its memory up to a small size. Where keep_alive was false, whatever is
 * fed from now on is an error. */
void http1_next(struct http1 *parser);

/* Bytes the parser holds for the request's body right now (its memory, for the global bound). */
size_t http1_body_bytes(const struct http1 *parser);
/* Nothing of a next request has arrived yet. */
bool http1_is_idle(const struct http1 *parser);

/* The first value of the header and how often it occurs (count may be NULL); an absent one has a
 * NULL pointer. */
struct span http1_header(const struct http1_request *request, const char *name, size_t *count);

#endif
