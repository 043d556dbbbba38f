#ifndef WHOPLINE_HTTP_CLIENT_H
#define WHOPLINE_HTTP_CLIENT_H
/* HTTP(S) calls to the outside, on a libuv loop; libcurl multi beneath.
 *
 * Everything happens on the loop's thread. A request is sent at most once. libcurl by itself sends
 * it again when a kept connection turns out to be closed, a POST included; here bodies are given by
 * a READFUNCTION whose SEEKFUNCTION fails, and before each try a PREREQFUNCTION refuses the second
 * one of a request that has begun. HTTP/1.1 is spoken, one call at a time on a connection, so that
 * what has begun can be told. What an outcome means is told apart strictly, because a caller may
 * repeat only what has not begun:
 *
 *   NOT_BEGUN  libcurl never asked for the first byte of the body (of a request without one: it
 *              never gave a byte of it to the connection): no name, no connection, no valid
 *              certificate, an address that is refused, a header with a line end in it, cancelled
 *              while waiting
 *   LOST       it did, and no complete answer came: time-out, reset, an answer cut short or larger
 *              than body_max_bytes, cancelled meanwhile. What the other side did is not known
 *   ANSWERED   a complete answer, whatever its status (one without a length is complete when the
 *              connection ends, as HTTP has it)
 *
 * Certificates and host names are verified; redirects are not followed (a 3xx is an answer); no
 * proxy of the environment is used; only http and https; addresses that are not public (see
 * io/address.h) are refused when the name has been resolved, unless allow_private. Texts name
 * neither URL queries nor headers. SIGPIPE must be ignored by the process. */
#include "base/buf.h"
#include "base/err.h"

#include <uv.h>

struct http_client;
struct http_call;

struct http_client_options {
    uv_loop_t *loop;
    int64_t connect_timeout_ms;
    size_t max_connections; /* kept open; further calls open and close their own */
    bool allow_private;
    const char *ca_file; /* certificates to trust instead of the system's; NULL or "": those */
};

struct http_request {
    const char *method; /* "GET", "POST", "PATCH", "PUT", "DELETE" */
    const char *url;
    const char *const *headers; /* "Name: value" lines; may hold secrets, are never shown */
    size_t header_count;
    struct span body;      /* ptr NULL: none */
    int64_t timeout_ms;    /* for all of it, connecting included */
    size_t body_max_bytes; /* of the answer */
    int64_t begin_by_ms;   /* clock_mono_ms after which its first byte must not leave: NOT_BEGUN; 0:
                            * none. For a process that stood still in between */
};

enum http_outcome { HTTP_NOT_BEGUN, HTTP_LOST, HTTP_ANSWERED };

struct http_response {
    enum http_outcome outcome;
    int status;             /* ANSWERED */
    int64_t retry_after_ms; /* of the header, seconds or a date; -1: not said */
    bool replayed;          /* Idempotent-Replayed: true */
    bool cancelled;         /* NOT_BEGUN, LOST: by http_client_cancel */
    struct buf body;        /* the caller closes it */
    struct err why;         /* NOT_BEGUN, LOST: HTTP_NOT_SENT or HTTP_LOST with a text */
    int64_t took_us;
};

/* Fires exactly once, never from within http_client_start. response: the callee's to keep (it may
 * move the struct; body is to be closed). */
typedef void http_callback(struct http_response *response, void *data);

/* CONFIG if ca_file cannot be read. */
MUST_CHECK struct err http_client_new(const struct http_client_options *options,
                                      struct http_client **out);
/* Calls in flight are cancelled, their callbacks fire in later turns; run the loop until it is
 * empty. No call may be started any more. NULL is no harm. */
void http_client_close(struct http_client *client);
size_t http_client_in_flight(const struct http_client *client);

/* The request is copied, its body included. The call belongs to the client, valid until its
 * callback. May be called from within a callback. */
struct http_call *http_client_start(struct http_client *client, const struct http_request *request,
                                    http_callback *callback, void *data);
void http_client_cancel(struct http_call *call); /* the callback still fires, later */

#endif
