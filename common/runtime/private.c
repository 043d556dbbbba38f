#include "runtime/private.h"

#include "base/clock.h"
#include "base/log.h"
#include "codec/http1.h"

#include <stdlib.h>

#define MODULE "private"

enum {
    BACKLOG = 16,
    CONNECTIONS_MAX = 32, /* more are hung up on: they are ours, not the world's */
    DEADLINE_MS = 5000,   /* from accepting to the last byte of the answer */
    SWEEP_MS = 500,
};

struct private_conn {
    struct private *private;
    struct private_conn *next;
    uv_tcp_t socket;
    struct http1 *parser;
    int64_t opened_ms; /* of the loop's clock */
    bool answered;
    uv_write_t write;
    struct buf body;
    char head[RESPONSE_MAX];
};

/* --- connections ----------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct private_conn *conn = handle->data;
    struct private *private = conn->private;
    struct private_conn **link = &private->first;
    while (*link != conn)
        link = &(*link)->next;
    *link = conn->next;
    if (--private->connections == 0)
        uv_timer_stop(&private->sweep);
    http1_free(conn->parser);
    buf_close(&conn->body);
    free(conn);
}

static void conn_hang_up(struct private_conn *conn)
{
    if (!uv_is_closing((uv_handle_t *)&conn->socket))
        uv_close((uv_handle_t *)&conn->socket, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status; /* whoever asked has gone, or has its answer */
    conn_hang_up(write->data);
}

static void answer(struct private_conn *conn, int status)
{
    struct response response = {
        .status = status,
        .closes = true,
        .allow = status == 405 ? "GET" : NULL,
        .type = conn->body.len > 0 ? "text/plain; version=0.0.4" : NULL,
        .body_bytes = conn->body.len,
    };
    size_t len = response_write(&conn->private->clock, &response, clock_wall_ms(), conn->head);
    const uv_buf_t buffers[] = {
        uv_buf_init(conn->head, (unsigned)len),
        uv_buf_init(conn->body.ptr, (unsigned)conn->body.len),
    };
    conn->answered = true;
    conn->write.data = conn;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->socket, buffers, 2, on_written) != 0)
        conn_hang_up(conn);
}

/* --- what is asked --------------------------------------------------------------------------- */

static int give_metrics(struct private *private, struct buf *out)
{
    private->pages.metrics(private->pages.data, out);
    return 200;
}

static int give_live(struct private *private, struct buf *out)
{
    return private->pages.live(private->pages.data, out);
}

static int give_ready(struct private *private, struct buf *out)
{
    return private->pages.ready(private->pages.data, out);
}

static const struct {
    const char *path;
    int (*give)(struct private *private, struct buf *out);
} paths[] = {
    {"/livez", give_live},
    {"/readyz", give_ready},
    {"/metrics", give_metrics},
};

static int give_page(struct private_conn *conn, const struct http1_request *request)
{
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (!span_equal(request->path, span_of(paths[i].path)))
            continue;
        return request->method == HTTP1_GET ? paths[i].give(conn->private, &conn->body) : 405;
    }
    return 404;
}

/* --- reading --------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct private_conn *conn = handle->data;
    (void)suggested;
    *out = uv_buf_init(conn->private->read_buffer, sizeof conn->private->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct private_conn *conn = stream->data;
    size_t used = 0;
    if (len == 0)
        return;
    if (len < 0) {
        /* A peer that has sent its FIN may still read; on_written hangs up. */
        if (!conn->answered || len != UV_EOF)
            conn_hang_up(conn);
        return;
    }
    if (conn->answered)
        return;
    switch (http1_feed(conn->parser, buffer->base, (size_t)len, &used)) {
    case HTTP1_MORE: break;
    case HTTP1_ERROR: answer(conn, http1_request(conn->parser)->status); break;
    case HTTP1_HEAD:
    case HTTP1_DONE: answer(conn, give_page(conn, http1_request(conn->parser))); break;
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct private *private = timer->data;
    int64_t now_ms = (int64_t)uv_now(timer->loop);
    for (struct private_conn *conn = private->first; conn != NULL; conn = conn->next)
        if (now_ms - conn->opened_ms >= DEADLINE_MS)
            conn_hang_up(conn);
}

static void on_connection(uv_stream_t *listener, int status)
{
    static const struct http1_limits limits = {4096, 64, 1024};
    struct private *private = listener->data;
    if (status < 0)
        return;
    struct private_conn *conn = mem_zalloc(sizeof *conn);
    conn->private = private;
    conn->parser = http1_new(&limits);
    conn->opened_ms = (int64_t)uv_now(listener->loop);
    conn->next = private->first;
    private->first = conn;
    uv_tcp_init(listener->loop, &conn->socket);
    conn->socket.data = conn;
    if (private->connections++ == 0)
        uv_timer_start(&private->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    if (uv_accept(listener, (uv_stream_t *)&conn->socket) != 0 ||
        private->connections > CONNECTIONS_MAX ||
        uv_read_start((uv_stream_t *)&conn->socket, on_alloc, on_read) != 0)
        conn_hang_up(conn);
}

/* --- life ------------------------------------------------------------------------------------ */

void private_check(const char *setting, const char *address, struct buf *problems)
{
    struct sockaddr_storage parsed;
    if (text_is_empty(address))
        return;
    struct err err = net_parse(address, &parsed);
    if (err_failed(&err))
        buf_printf(problems, "%s: %s\n", setting, err_text(&err));
}

void private_init(struct private *private, uv_loop_t *loop, const struct private_pages *pages)
{
    memset(private, 0, sizeof *private);
    private->loop = loop;
    private->pages = *pages;
    uv_timer_init(loop, &private->sweep);
    private->sweep.data = private;
}

struct err private_listen(struct private *private, const char *address, enum net_sharing sharing)
{
    if (text_is_empty(address))
        return ERR_NONE;
    private->listener_open = true;
    struct err err =
        net_listen(private->loop, address, BACKLOG, sharing, on_connection, &private->listener);
    private->listener.data = private;
    if (!err_failed(&err)) {
        net_name(&private->listener, private->address);
        log_info(MODULE, "listening", LOG_TEXT("address", private->address));
    }
    return err;
}

void private_close(struct private *private)
{
    if (private->listener_open)
        uv_close((uv_handle_t *)&private->listener, NULL);
    private->listener_open = false;
    for (struct private_conn *conn = private->first; conn != NULL; conn = conn->next)
        conn_hang_up(conn);
    uv_close((uv_handle_t *)&private->sweep, NULL);
}
