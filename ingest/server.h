#ifndef WHOPLINE_INGEST_SERVER_H
#define WHOPLINE_INGEST_SERVER_H
/* The public listener: its connections by state, their limits and deadlines, and draining.
 *
 * One per process, in the caller's memory, loop thread. webhook, metrics and config are borrowed
 * and outlive it. One timer serves all deadlines: it runs while there are connections and looks
 * only at the oldest of each state. At HTTP_MAX_CONNECTIONS nothing more is accepted; the kernel's
 * backlog holds what comes until a connection has gone. */
#include "ingest/conn.h"

enum { SERVER_READ_BYTES = 65536 };

struct server {
    uv_loop_t *loop;
    const struct config *config;
    struct webhook *webhook;
    struct metrics *metrics;
    uv_tcp_t listener;
    bool listener_open;
    bool waiting; /* a connection is at the listener and there is no room */
    uv_timer_t sweep;
    int64_t timeouts_ms[CONN_STATE_COUNT]; /* by state; 0 = none */
    struct conn_list lists[CONN_STATE_COUNT];
    size_t connections; /* in all lists */
    size_t body_bytes;  /* memory of all bodies */
    bool draining;
    int64_t drain_until_ms;         /* of the loop's clock */
    void (*on_drained)(void *data); /* after server_drain, once, when no connection is left or
                                       HTTP_DRAIN_MS is over */
    void *data;
    struct response_clock clock;
    char read_buffer[SERVER_READ_BYTES]; /* shared: a read is used up within its callback */
};

/* Adds a line to problems for each setting that cannot be used, e.g. more connections than this
 * process may have files; raises that limit where it may. */
void server_check(const struct config *config, struct buf *problems);
/* With settings that have passed. Starts nothing. */
void server_init(struct server *server, uv_loop_t *loop, struct webhook *webhook,
                 struct metrics *metrics);
MUST_CHECK struct err server_listen(struct server *server);
/* No new connections, no new requests; what is in flight ends within HTTP_DRAIN_MS. */
void server_drain(struct server *server);
/* After on_drained, or instead of it: closes what is open. Connections with an event at Redis are
 * freed by the callbacks that follow from redis_close. */
void server_close(struct server *server);

struct metrics_gauges server_gauges(const struct server *server);

/* For conn.c: a connection goes from one list to another, comes and goes. */
void server_add(struct server *server, struct conn *conn);
void server_move(struct server *server, struct conn *conn, enum conn_state state);
void server_remove(struct server *server, struct conn *conn);
/* There may be room for bodies of so many bytes more. */
bool server_has_body_room(const struct server *server, int64_t bytes);

#endif
