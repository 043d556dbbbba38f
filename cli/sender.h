#ifndef WHOPLINE_SENDER_H
#define WHOPLINE_SENDER_H
/* A small HTTP/1.1 client on plain blocking sockets, for forged requests.
 *
 * Not libcurl: it cannot send a header twice, cut a body short or be slow on purpose. Requests are
 * complete bytes, made by the caller; answers are read up to the end of their bodies, which are
 * thrown away. Connections are kept while the server keeps them. No TLS: it speaks to ingest
 * itself, not to the proxy before it. */
#include "base/err.h"

#include <sys/socket.h>

enum { SENDER_PARALLEL_MAX = 256 };

struct sender_target {
    struct sockaddr_storage address;
    socklen_t address_size;
    char host[128]; /* for the Host header, with port */
    char path[256];
};

/* "http://127.0.0.1:8080/webhooks/whop"; without a path the default one. USAGE if malformed or
 * the host is unknown. */
MUST_CHECK struct err sender_target_of_url(const char *url, struct sender_target *out);
/* The same for HTTP_LISTEN, "0.0.0.0:8080": all addresses becomes the loopback one. */
MUST_CHECK struct err sender_target_of_listen(const char *listen, struct sender_target *out);
bool sender_target_is_loopback(const struct sender_target *target);

struct sender_result {
    int status; /* 0: no answer, see err */
    int64_t elapsed_us;
    struct err err;
};

/* Sends the requests over so many connections at a time, each on its own thread; the order is kept
 * with one. results: count of them. */
void sender_send(const struct sender_target *target, const struct span *requests, size_t count,
                 unsigned parallel, struct sender_result *results);

#endif
