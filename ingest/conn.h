#ifndef WHOPLINE_INGEST_CONN_H
#define WHOPLINE_INGEST_CONN_H
/* One connection of the public listener: bytes to requests, requests to webhook, answers in order.
 *
 * Owned by its server, which keeps it in the list of its state; conn_move is the only way from one
 * to another. Loop thread. There is at most one request in flight: what a peer sends behind it is
 * kept up to one read (then reading stops) and looked at after the answer.
 *
 *            first byte          head is good         body is there, MAC is right
 *   IDLE ──────────────> HEAD ──────────────> BODY ──────────────────────────────> ACCEPTING
 *    ^                    │                    │                                       │
 *    │                    └───── refused ──────┴───────────┬──── Redis' verdict, ──────┘
 *    │                                                     v     or none in time
 *    ├──────────────── all is written ─────────────── RESPONDING
 *    │                                                     │ this answer closes and the peer
 *    │ peer has gone,                                      │ may still be sending
 *    │ idle too long,                                      v
 *    │ drain                   FIN seen, too much or     LINGERING
 *    └──────────> CLOSING <───── too long ─────────────────┘
 *
 * Every state may go to CLOSING. It lasts until the handle is closed and, if an event is with
 * Redis, until its verdict: only then is the memory freed, so never under a running callback.
 * IDLE, HEAD, BODY, ACCEPTING, RESPONDING and LINGERING have deadlines; see server.c. */
#include "base/buf.h"
#include "codec/response.h"
#include "ingest/webhook.h"

#include <uv.h>

struct server;

enum conn_state {
    CONN_IDLE,
    CONN_HEAD,
    CONN_BODY,
    CONN_ACCEPTING,
    CONN_RESPONDING,
    CONN_LINGERING,
    CONN_CLOSING,
    CONN_STATE_COUNT,
};

/* Oldest first: a connection enters at the end, so the first one's deadline is the next. */
struct conn_list {
    struct conn *first;
    struct conn *last;
    size_t count;
};

struct conn {
    struct server *server; /* borrowed */
    struct conn *next;     /* in the list of the state */
    struct conn *previous;
    enum conn_state state;
    int64_t since_ms; /* of the loop's clock: when the state was entered */
    uv_tcp_t socket;
    struct http1 *parser; /* NULL once CLOSING */
    struct webhook_request incoming;
    struct buf rest;     /* read while a request was in flight */
    int refused;         /* a request without a body, by its head: answered at its end */
    size_t body_memory;  /* what of server.body_bytes is ours */
    size_t body_arrived; /* bytes read in BODY, framing included; reused in LINGERING */
    bool reading;
    bool peer_finished; /* it has sent its FIN */
    bool with_redis;    /* incoming.accept's callback is still to come */
    bool closes;        /* after the answer under way */
    bool unread;        /* ... and the peer may still be sending */
    bool handle_closed;
    uv_write_t write;
    uv_shutdown_t shutdown;
    size_t out_len; /* of the answer under way */
    char out[RESPONSE_MAX];
};

/* Takes the connection waiting at the listener. NULL if it has gone already. */
struct conn *conn_accept(struct server *server, uv_stream_t *listener);
/* The state has lasted too long: 408, 503 or close, as it deserves. */
void conn_expire(struct conn *conn);
/* The server is draining: closes what is idle; the rest closes after its answer. */
void conn_drain(struct conn *conn);
void conn_close(struct conn *conn); /* now; harmless when it is closing */

#endif
