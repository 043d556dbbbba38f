#include "ingest/server.h"

#include "base/log.h"
#include "ingest/replay.h"
#include "io/net.h"

#include <errno.h>
#include <sys/resource.h>

#define MODULE "server"

enum {
    BACKLOG = 4096,       /* the kernel cuts it to net.core.somaxconn */
    FILES_BESIDE = 128,   /* listeners, Redis, private connections, libuv's own */
    LINGER_MS = 2000,     /* for a peer to read its refusal and hang up */
    RATE_GRACE_MS = 3000, /* a body's rate says nothing before */
    SWEEP_MAX_MS = 100,   /* deadlines are kept to this precision ... */
    SWEEP_SHARE = 4,      /* ... or to this part of the shortest */
};

/* --- limits ---------------------------------------------------------------------------------- */

static void raise_file_limit(const struct config *config, struct buf *problems)
{
    struct rlimit limit;
    rlim_t need = (rlim_t)config->http_max_connections + FILES_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
        return;
    if (limit.rlim_max < need) {
        buf_printf(problems,
                   "HTTP_MAX_CONNECTIONS: %lld connections need %llu open files, the limit is "
                   "%llu: raise it (ulimit -n, LimitNOFILE=) or lower the setting\n",
                   (long long)config->http_max_connections, (unsigned long long)need,
                   (unsigned long long)limit.rlim_max);
        return;
    }
    limit.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        buf_printf(problems, "HTTP_MAX_CONNECTIONS: cannot raise the limit of open files: %s\n",
                   strerror(errno));
}

bool server_has_body_room(const struct server *server, int64_t bytes)
{
    size_t more = bytes > 0 ? (size_t)bytes : 0;
    return server->body_bytes + more <= (size_t)server->config->http_max_body_in_flight;
}

/* --- deadlines ------------------------------------------------------------------------------- */

static void sweep_state(struct server *server, enum conn_state state, int64_t now_ms)
{
    const struct conn_list *list = &server->lists[state];
    int64_t timeout_ms = server->timeouts_ms[state];
    /* conn_expire moves the first one on, so this ends. */
    while (list->first != NULL && now_ms - list->first->since_ms >= timeout_ms)
        conn_expire(list->first);
}

static void sweep_slow_bodies(struct server *server, int64_t now_ms)
{
    int64_t rate = server->config->http_body_min_rate;
    struct conn *next;
    for (struct conn *conn = server->lists[CONN_BODY].first; conn != NULL; conn = next) {
        int64_t elapsed_ms = now_ms - conn->since_ms;
        next = conn->next;
        if (elapsed_ms < RATE_GRACE_MS)
            break;
        if ((int64_t)conn->body_arrived * 1000 < rate * elapsed_ms)
            conn_expire(conn);
    }
}

static void drained(struct server *server)
{
    void (*on_drained)(void *data) = server->on_drained;
    server->on_drained = NULL;
    if (on_drained != NULL)
        on_drained(server->data);
}

static void on_sweep(uv_timer_t *timer)
{
    struct server *server = timer->data;
    int64_t now_ms = (int64_t)uv_now(server->loop);
    sweep_slow_bodies(server, now_ms);
    for (int state = 0; state < CONN_STATE_COUNT; state++)
        if (server->timeouts_ms[state] > 0)
            sweep_state(server, (enum conn_state)state, now_ms);
    if (server->draining && now_ms >= server->drain_until_ms) {
        log_warning(MODULE, "requests cut off by HTTP_DRAIN_MS",
                    LOG_INT("connections", server->connections));
        drained(server);
    }
}

static uint64_t sweep_interval_ms(const struct server *server)
{
    int64_t interval_ms = SWEEP_MAX_MS;
    for (int state = 0; state < CONN_STATE_COUNT; state++) {
        int64_t share_ms = server->timeouts_ms[state] / SWEEP_SHARE;
        if (server->timeouts_ms[state] > 0 && share_ms < interval_ms)
            interval_ms = share_ms > 0 ? share_ms : 1;
    }
    return (uint64_t)interval_ms;
}

/* --- connections ----------------------------------------------------------------------------- */

static void list_remove(struct conn_list *list, struct conn *conn)
{
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        list->first = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    else
        list->last = conn->previous;
    list->count--;
}

static void list_append(struct conn_list *list, struct conn *conn)
{
    conn->next = NULL;
    conn->previous = list->last;
    if (list->last != NULL)
        list->last->next = conn;
    else
        list->first = conn;
    list->last = conn;
    list->count++;
}

void server_add(struct server *server, struct conn *conn)
{
    conn->state = CONN_IDLE;
    conn->since_ms = (int64_t)uv_now(server->loop);
    list_append(&server->lists[CONN_IDLE], conn);
    server->metrics->connections++;
    if (server->connections++ == 0) {
        uint64_t interval_ms = sweep_interval_ms(server);
        uv_timer_start(&server->sweep, on_sweep, interval_ms, interval_ms);
    }
}

void server_move(struct server *server, struct conn *conn, enum conn_state state)
{
    list_remove(&server->lists[conn->state], conn);
    conn->state = state;
    conn->since_ms = (int64_t)uv_now(server->loop);
    list_append(&server->lists[state], conn);
}

void server_remove(struct server *server, struct conn *conn)
{
    list_remove(&server->lists[conn->state], conn);
    server->connections--;
    if (server->waiting && server->listener_open) {
        server->waiting = false;
        conn_accept(server, (uv_stream_t *)&server->listener);
    }
    if (server->connections > 0)
        return;
    uv_timer_stop(&server->sweep);
    if (server->draining)
        drained(server);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *server = listener->data;
    if (status < 0) {
        log_warning(MODULE, "cannot accept a connection", LOG_TEXT("why", uv_strerror(status)));
        return;
    }
    /* libuv does not look at the listener again before this one has been taken. */
    if (server->connections >= (size_t)server->config->http_max_connections)
        server->waiting = true;
    else
        conn_accept(server, listener);
}

/* --- life ------------------------------------------------------------------------------------ */

void server_check(const struct config *config, struct buf *problems)
{
    struct sockaddr_storage address;
    raise_file_limit(config, problems);
    struct err err = net_parse(config->http_listen, &address);
    if (err_failed(&err))
        buf_printf(problems, "HTTP_LISTEN: %s\n", err_text(&err));
}

void server_init(struct server *server, uv_loop_t *loop, struct webhook *webhook,
                 struct metrics *metrics)
{
    const struct config *config = webhook->config;
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->config = config;
    server->webhook = webhook;
    server->metrics = metrics;
    server->timeouts_ms[CONN_IDLE] = config->http_idle_timeout_ms;
    server->timeouts_ms[CONN_HEAD] = config->http_header_timeout_ms;
    server->timeouts_ms[CONN_BODY] = config->http_body_timeout_ms;
    server->timeouts_ms[CONN_ACCEPTING] = config->accept_timeout_ms;
    server->timeouts_ms[CONN_RESPONDING] = config->http_header_timeout_ms;
    server->timeouts_ms[CONN_LINGERING] = LINGER_MS;
    uv_timer_init(loop, &server->sweep);
    server->sweep.data = server;
}

struct err server_listen(struct server *server)
{
    server->listener_open = true;
    struct err err = net_listen(server->loop, server->config->http_listen, BACKLOG, NET_SHARED,
                                on_connection, &server->listener);
    server->listener.data = server;
    if (!err_failed(&err)) {
        char name[NET_NAME_MAX];
        net_name(&server->listener, name);
        log_info(MODULE, "listening", LOG_TEXT("address", name));
    }
    return err;
}

static void close_listener(struct server *server)
{
    if (server->listener_open)
        uv_close((uv_handle_t *)&server->listener, NULL);
    server->listener_open = false;
}

void server_drain(struct server *server)
{
    struct conn *next;
    close_listener(server);
    server->draining = true;
    server->drain_until_ms = (int64_t)uv_now(server->loop) + server->config->http_drain_ms;
    for (struct conn *conn = server->lists[CONN_IDLE].first; conn != NULL; conn = next) {
        next = conn->next;
        conn_drain(conn);
    }
    if (server->connections == 0)
        drained(server);
}

void server_close(struct server *server)
{
    server->on_drained = NULL;
    close_listener(server);
    for (int state = 0; state < CONN_CLOSING; state++)
        while (server->lists[state].first != NULL)
            conn_close(server->lists[state].first);
    uv_close((uv_handle_t *)&server->sweep, NULL);
}

struct metrics_gauges server_gauges(const struct server *server)
{
    const struct replay *replay = server->webhook->replay;
    return (struct metrics_gauges){
        .connections = server->connections,
        .unanswered = server->webhook->unanswered,
        .body_bytes = server->body_bytes,
        .ready = webhook_is_ready(server->webhook) && !server->draining,
        .ring = replay != NULL ? ring_stats(replay->ring) : NULL,
        .ring_stale_bytes = replay != NULL ? ring_stale_bytes(replay->ring) : 0,
    };
}
