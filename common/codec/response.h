#ifndef WHOPLINE_RESPONSE_H
#define WHOPLINE_RESPONSE_H
/* The bytes of the head of an HTTP answer. ingest's public listener never sends a body: a sender
 * needs the status and nobody else should learn anything; private listeners send theirs behind the
 * head. One struct response_clock per thread. */
#include "base/base.h"

enum {
    RESPONSE_MAX = 320,         /* bytes of any head */
    RESPONSE_RETRY_AFTER_S = 5, /* with 503: a restart or a failover of Redis takes about that */
};

/* The Date header's text, remade once a second. Zeroed at first. */
struct response_clock {
    int64_t second;
    size_t len;
    char text[48];
};

struct response {
    int status;        /* one that response_reason knows */
    bool closes;       /* adds Connection: close */
    const char *allow; /* with 405: "POST"; else NULL */
    const char *type;  /* Content-Type; NULL without a body */
    size_t body_bytes; /* Content-Length; the caller sends the body behind the head */
};

/* Returns the length; no NUL behind it. now_ms: Unix time. */
size_t response_write(struct response_clock *clock, const struct response *response, int64_t now_ms,
                      char out[RESPONSE_MAX]);
const char *response_reason(int status); /* "Not Found"; ends the process for an unknown one */

#endif
