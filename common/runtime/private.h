#ifndef WHOPLINE_PRIVATE_H
#define WHOPLINE_PRIVATE_H
/* The private listener of every long-running program, for supervisors and Prometheus: one request a
 * connection.
 *
 *   GET /livez     200, or 503 and why it should be restarted
 *   GET /readyz    200 if it does its work, else 503 and why not
 *   GET /metrics   Prometheus text
 *
 * It answers while the loop turns, until it is closed. Connections are few and have a deadline, so
 * that no client holds it up. In the caller's memory; loop thread. */
#include "base/buf.h"
#include "codec/response.h"
#include "io/net.h"

struct private_conn;

/* Each writes a page; the first two return its status, 200 or 503. */
struct private_pages {
    int (*live)(void *data, struct buf *out);
    int (*ready)(void *data, struct buf *out);
    void (*metrics)(void *data, struct buf *out);
    void *data;
};

struct private
{
    uv_loop_t *loop;
    struct private_pages pages;
    uv_tcp_t listener;
    bool listener_open;
    char address[NET_NAME_MAX]; /* it listens on; "" for none */
    uv_timer_t sweep;           /* runs while there are connections */
    struct private_conn *first; /* newest first */
    size_t connections;
    struct response_clock clock;
    char read_buffer[4096];
};

/* Adds a line to problems if the setting's value cannot be used; an empty one means none. */
void private_check(const char *setting, const char *address, struct buf *problems);
void private_init(struct private *private, uv_loop_t *loop, const struct private_pages *pages);
/* address "": listens nowhere, which is no error. */
MUST_CHECK struct err private_listen(struct private *private, const char *address,
                                     enum net_sharing sharing);
void private_close(struct private *private);

#endif
