#ifndef WHOPLINE_HTTP_IMPL_H
#define WHOPLINE_HTTP_IMPL_H
/* Between http_client.c (the multi handle and the loop) and http_call.c (one call: what libcurl is
 * told of it, and what came of it). Nobody else includes it. libcurl's types are void here. */
#include "io/http_client.h"

enum { HTTP_WHY_MAX = 256 /* CURL_ERROR_SIZE */ };

struct http_client {
    struct http_client_options options;
    char *ca_file; /* NULL: the system's */
    void *multi;
    void **idle; /* easy handles that may be used again; room for max_connections */
    size_t idle_count;
    uv_timer_t timer;   /* libcurl's */
    uv_timer_t deliver; /* brings callbacks that are due */
    size_t handles;     /* of libuv, not closed yet */
    struct http_call *running;
    struct http_call *ended; /* whose callbacks are due, the oldest first */
    size_t in_flight;        /* both */
    bool closing;
    bool closed;
};

struct http_call {
    struct http_client *client;
    struct http_call *next; /* of running or ended */
    struct http_call *prev;
    http_callback *callback;
    void *data;

    void *easy;
    bool went_well; /* the easy handle may be used again */
    void *headers;
    struct span body; /* a copy */
    size_t body_sent;
    size_t body_max;
    bool asked;          /* libcurl wanted the body's first byte */
    bool resent;         /* it was about to send what had begun */
    int64_t begin_by_ms; /* as in the request */
    bool late;           /* it would have begun after that */
    bool refused;        /* an address that is not public */
    bool broken;         /* a header with a line end in it: not to be sent */
    bool head_done;      /* of the answer */
    bool too_large;
    size_t head_bytes;
    int64_t started_us;
    struct http_response response;
    char why[HTTP_WHY_MAX];
};

/* http_call.c. The easy handle is ready for the multi. */
struct http_call *http_call_new(struct http_client *client, const struct http_request *request);
/* libcurl is done with it: result is a CURLcode. While the easy handle is as it was. */
void http_call_finish(struct http_call *call, int result);
void http_call_finish_cancelled(struct http_call *call);
void http_call_free(struct http_call *call); /* not the response's body, which is the callee's */
void http_call_free_idle(struct http_client *client); /* all handles that were kept */

#endif
