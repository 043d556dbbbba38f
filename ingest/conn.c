#include "ingest/conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "ingest/server.h"

#include <stdlib.h>

#define MODULE "conn"

enum {
    LINGER_MAX_BYTES = 1 << 20, /* a peer that goes on sending after its refusal gets a reset */
    REST_KEEP_BYTES = 4096,     /* a larger buffer is given back when it is empty */
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out);
static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer);
static void on_verdict(enum accept_verdict verdict, void *data);

/* --- states and life ------------------------------------------------------------------------- */

static void conn_move(struct conn *conn, enum conn_state state)
{
#define TO(state) (1U << CONN_##state)
    static const unsigned moves[CONN_STATE_COUNT] = {
        [CONN_IDLE] = TO(HEAD) | TO(CLOSING),
        [CONN_HEAD] = TO(BODY) | TO(RESPONDING) | TO(CLOSING),
        [CONN_BODY] = TO(ACCEPTING) | TO(RESPONDING) | TO(CLOSING),
        [CONN_ACCEPTING] = TO(RESPONDING) | TO(CLOSING),
        [CONN_RESPONDING] = TO(IDLE) | TO(LINGERING) | TO(CLOSING),
        [CONN_LINGERING] = TO(CLOSING),
    };
#undef TO
    REQUIRE((moves[conn->state] & (1U << state)) != 0);
    server_move(conn->server, conn, state);
}

static void account_body(struct conn *conn, size_t now)
{
    conn->server->body_bytes += now - conn->body_memory;
    conn->body_memory = now;
}

static void maybe_free(struct conn *conn)
{
    if (!conn->handle_closed || conn->with_redis)
        return;
    server_remove(conn->server, conn);
    free(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    conn->handle_closed = true;
    /* What may yet wait long for a verdict is kept small. */
    http1_free(conn->parser);
    conn->parser = NULL;
    buf_close(&conn->rest);
    maybe_free(conn);
}

void conn_close(struct conn *conn)
{
    if (conn->state == CONN_CLOSING)
        return;
    conn_move(conn, CONN_CLOSING);
    account_body(conn, 0);
    uv_close((uv_handle_t *)&conn->socket, on_closed);
}

struct conn *conn_accept(struct server *server, uv_stream_t *listener)
{
    const struct config *config = server->config;
    const struct http1_limits limits = {
        .head_max_bytes = (size_t)config->http_max_header_bytes,
        .header_max_count = (size_t)config->http_max_headers,
        .body_max_bytes = (size_t)config->http_max_body,
    };
    struct conn *conn = mem_zalloc(sizeof *conn);
    conn->server = server;
    conn->parser = http1_new(&limits);
    conn->incoming.accept.callback = on_verdict;
    conn->incoming.accept.data = conn;
    uv_tcp_init(server->loop, &conn->socket);
    conn->socket.data = conn;
    server_add(server, conn);
    if (uv_accept(listener, (uv_stream_t *)&conn->socket) != 0) {
        conn_close(conn);
        return NULL;
    }
    /* Answers to pipelined requests must not wait for the peer's ACK. */
    uv_tcp_nodelay(&conn->socket, 1);
    conn->reading = true;
    uv_read_start((uv_stream_t *)&conn->socket, on_alloc, on_read);
    return conn;
}

/* --- answering ------------------------------------------------------------------------------- */

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)status; /* the deadline of LINGERING closes in any case */
    (void)request;
}

/* A close with unread input makes the kernel send RST, which may overtake the answer: so FIN first,
 * then what still comes is thrown away for a little while. */
static void linger(struct conn *conn)
{
    conn_move(conn, CONN_LINGERING);
    account_body(conn, 0);
    conn->body_arrived = 0;
    buf_close(&conn->rest);
    if (conn->peer_finished ||
        uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->socket, on_shutdown) != 0) {
        conn_close(conn);
        return;
    }
    if (!conn->reading) {
        conn->reading = true;
        uv_read_start((uv_stream_t *)&conn->socket, on_alloc, on_read);
    }
}

/* The answer is in the kernel's hands. */
static void answered(struct conn *conn)
{
    if (!conn->closes) {
        http1_next(conn->parser);
        account_body(conn, http1_body_bytes(conn->parser));
        conn_move(conn, CONN_IDLE);
    } else if (conn->unread || conn->rest.len > 0) {
        linger(conn);
    } else {
        conn_close(conn);
    }
}

static void go_on(struct conn *conn);

static void on_written(uv_write_t *write, int status)
{
    struct conn *conn = write->data;
    if (conn->state != CONN_RESPONDING)
        return; /* closed meanwhile */
    if (status < 0) {
        conn_close(conn);
        return;
    }
    answered(conn);
    go_on(conn);
}

/* Gives the answer; afterwards the state is IDLE, RESPONDING, LINGERING or CLOSING. unread: the
 * peer may not have sent all of its request, so the connection cannot go on. */
static void respond(struct conn *conn, int status, bool unread)
{
    struct server *server = conn->server;
    const struct http1_request *request = http1_request(conn->parser);
    conn->unread = unread;
    conn->closes = unread || status == 400 || server->draining || !request->keep_alive;
    struct response response = {
        .status = status,
        .closes = conn->closes,
        .allow = status == 405 ? "POST" : NULL,
    };
    conn->out_len = response_write(&server->clock, &response, clock_wall_ms(), conn->out);
    metrics_count_response(server->metrics, status);
    conn_move(conn, CONN_RESPONDING);

    uv_buf_t buffer = uv_buf_init(conn->out, (unsigned)conn->out_len);
    int written = uv_try_write((uv_stream_t *)&conn->socket, &buffer, 1);
    if (written == (int)conn->out_len) {
        answered(conn);
        return;
    }
    if (written < 0 && written != UV_EAGAIN) {
        conn_close(conn);
        return;
    }
    size_t sent = written > 0 ? (size_t)written : 0;
    buffer = uv_buf_init(conn->out + sent, (unsigned)(conn->out_len - sent));
    conn->write.data = conn;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->socket, &buffer, 1, on_written) != 0)
        conn_close(conn);
}

/* --- requests -------------------------------------------------------------------------------- */

static void on_head(struct conn *conn)
{
    static const char go_ahead[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct server *server = conn->server;
    const struct http1_request *request = http1_request(conn->parser);
    bool has_body = request->chunked || request->content_length > 0;
    int status = webhook_check_head(server->webhook, request, &conn->incoming);
    if (status == 0 && (server->draining || !server_has_body_room(server, request->content_length)))
        status = 503;
    if (status != 0 && has_body) {
        log_debug(MODULE, "refused", LOG_INT("status", status));
        respond(conn, status, true);
        return;
    }
    conn->refused = status;
    conn->body_arrived = 0;
    conn_move(conn, CONN_BODY);
    if (!request->expect_continue || !has_body)
        return;
    uv_buf_t buffer = uv_buf_init((char *)go_ahead, sizeof go_ahead - 1);
    /* Nothing else is being written, so only a peer that does not read makes this fail. */
    if (uv_try_write((uv_stream_t *)&conn->socket, &buffer, 1) != (int)sizeof go_ahead - 1)
        conn_close(conn);
}

static void on_request(struct conn *conn)
{
    int status = conn->refused;
    if (status == 0)
        status = webhook_take(conn->server->webhook, http1_request(conn->parser), &conn->incoming);
    if (status != 0) {
        log_debug(MODULE, "refused", LOG_INT("status", status));
        respond(conn, status, false);
        return;
    }
    conn->with_redis = true;
    conn_move(conn, CONN_ACCEPTING);
}

static void on_verdict(enum accept_verdict verdict, void *data)
{
    struct conn *conn = data;
    int status = webhook_settle(conn->server->webhook, &conn->incoming, verdict);
    conn->with_redis = false;
    if (conn->state == CONN_ACCEPTING) {
        respond(conn, status, false);
        go_on(conn);
    } else {
        /* The peer has gone, or was told 503 when its time was up. */
        maybe_free(conn);
    }
}

/* After HTTP1_ERROR there is no telling where a next request would begin. */
static void on_malformed(struct conn *conn)
{
    const struct http1_request *request = http1_request(conn->parser);
    log_debug(MODULE, "malformed", LOG_INT("status", request->status),
              LOG_TEXT("why", request->reason));
    respond(conn, request->status, true);
}

/* --- input ----------------------------------------------------------------------------------- */

static bool is_receiving(const struct conn *conn)
{
    return conn->state == CONN_IDLE || conn->state == CONN_HEAD || conn->state == CONN_BODY;
}

static bool is_in_flight(const struct conn *conn)
{
    return conn->state == CONN_ACCEPTING || conn->state == CONN_RESPONDING;
}

/* Feeds input until it is used up or a request is in flight; returns how much was taken. */
static size_t consume(struct conn *conn, const char *ptr, size_t len)
{
    size_t taken = 0;
    while (is_receiving(conn)) {
        size_t used = 0;
        if (conn->state == CONN_IDLE) {
            if (taken == len)
                break;
            conn_move(conn, CONN_HEAD);
        }
        enum http1_event event = http1_feed(conn->parser, ptr + taken, len - taken, &used);
        taken += used;
        if (conn->state == CONN_BODY) {
            conn->body_arrived += used;
            account_body(conn, http1_body_bytes(conn->parser));
        }
        switch (event) {
        case HTTP1_MORE:
            if (conn->state == CONN_BODY && !server_has_body_room(conn->server, 0))
                respond(conn, 503, true);
            return taken;
        case HTTP1_HEAD: on_head(conn); break;
        case HTTP1_DONE: on_request(conn); break;
        case HTTP1_ERROR: on_malformed(conn); break;
        }
    }
    return taken;
}

/* Keeps what cannot be looked at yet; until it is, nothing more is read. */
static void keep(struct conn *conn, const char *ptr, size_t len)
{
    buf_add(&conn->rest, ptr, len);
    uv_read_stop((uv_stream_t *)&conn->socket);
    conn->reading = false;
}

/* After an answer that did not close: what was kept, then the socket again. */
static void go_on(struct conn *conn)
{
    if (is_receiving(conn) && conn->rest.len > 0) {
        size_t taken = consume(conn, conn->rest.ptr, conn->rest.len);
        if (is_receiving(conn) || is_in_flight(conn))
            buf_consume(&conn->rest, taken);
        if (conn->rest.len == 0 && conn->rest.cap > REST_KEEP_BYTES)
            buf_close(&conn->rest);
    }
    if (!is_receiving(conn))
        return;
    if (conn->peer_finished) {
        conn_close(conn);
    } else if (!conn->reading) {
        conn->reading = true;
        uv_read_start((uv_stream_t *)&conn->socket, on_alloc, on_read);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct conn *conn = handle->data;
    (void)suggested;
    *out = uv_buf_init(conn->server->read_buffer, SERVER_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct conn *conn = stream->data;
    if (len == 0 || conn->state == CONN_CLOSING)
        return;
    if (len < 0) {
        conn->reading = false; /* libuv has stopped it */
        if (len == UV_EOF && is_in_flight(conn))
            conn->peer_finished = true; /* it may still be listening for the answer */
        else
            conn_close(conn);
        return;
    }
    if (conn->state == CONN_LINGERING) {
        conn->body_arrived += (size_t)len;
        if (conn->body_arrived > LINGER_MAX_BYTES)
            conn_close(conn);
        return;
    }
    size_t taken = consume(conn, buffer->base, (size_t)len);
    if (is_in_flight(conn) && taken < (size_t)len)
        keep(conn, buffer->base + taken, (size_t)len - taken);
}

/* --- from the server ------------------------------------------------------------------------- */

void conn_expire(struct conn *conn)
{
    switch (conn->state) {
    case CONN_HEAD:
    case CONN_BODY: respond(conn, 408, true); break;
    case CONN_ACCEPTING:
        /* The event may yet get in. incoming stays in use until its verdict, so this connection
         * cannot take another request. Only debug: main.c says that Redis is gone, once. */
        log_debug(MODULE, "no verdict in time", LOG_TEXT("event", conn->incoming.event_id));
        respond(conn, 503, true);
        break;
    default: conn_close(conn); break;
    }
}

void conn_drain(struct conn *conn)
{
    if (conn->state == CONN_IDLE)
        conn_close(conn);
}
