#ifndef WHOPLINE_INGEST_PRIVATE_H
#define WHOPLINE_INGEST_PRIVATE_H
/* The private listener, for supervisors and Prometheus: one request a connection.
 *
 *   GET /livez     200 while the loop turns
 *   GET /readyz    200 if events are being accepted, else 503
 *   GET /metrics   Prometheus text
 *
 * Goes on answering while the server drains. server and metrics are borrowed; loop thread. */
#include "ingest/server.h"

struct private_conn;

struct private
{
    const struct server *server;
    uv_tcp_t listener;
    bool listener_open;
    uv_timer_t sweep;           /* runs while there are connections */
    struct private_conn *first; /* newest first */
    size_t connections;
    struct response_clock clock;
    char read_buffer[4096];
};

/* Adds a line to problems if PRIVATE_LISTEN cannot be used; an empty one means none. */
void private_check(const struct config *config, struct buf *problems);
void private_init(struct private *private, const struct server *server);
MUST_CHECK struct err private_listen(struct private *private);
void private_close(struct private *private);

#endif
