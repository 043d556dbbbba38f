/* bare_uv: what libuv and the kernel alone cost: reads a whole POST, answers 200, does nothing
 * else.
 *
 *   bench_bare_uv PORT
 *
 * Trusts its peer entirely; ends with SIGTERM. */
#include "bench.h"

#include <uv.h>

enum { READ_BYTES = 65536, REQUEST_MAX = 16384 };

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static char read_buffer[READ_BYTES];

struct client {
    uv_tcp_t socket;
    size_t len;
    char request[REQUEST_MAX];
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(read_buffer, READ_BYTES);
}

/* Length of the request at the start of the buffer, or 0 if it is not all there. */
static size_t request_len(const struct client *client)
{
    const char *end = memmem(client->request, client->len, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    const char *length = memmem(client->request, client->len, "Content-Length: ", 16);
    size_t body = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
    size_t len = (size_t)(end + 4 - client->request) + body;
    return len <= client->len ? len : 0;
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct client *client = stream->data;
    if (len < 0 || client->len + (size_t)len >= REQUEST_MAX) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    memcpy(client->request + client->len, buffer->base, (size_t)len);
    client->len += (size_t)len;
    client->request[client->len] = '\0';
    if (request_len(client) == 0)
        return;
    client->len = 0; /* this load never pipelines */
    uv_buf_t out = uv_buf_init((char *)(uintptr_t)answer, sizeof answer - 1);
    uv_try_write(stream, &out, 1);
}

static void on_connection(uv_stream_t *listener, int status)
{
    (void)status;
    struct client *client = mem_zalloc(sizeof *client);
    uv_tcp_init(listener->loop, &client->socket);
    client->socket.data = client;
    uv_accept(listener, (uv_stream_t *)&client->socket);
    uv_tcp_nodelay(&client->socket, 1);
    uv_read_start((uv_stream_t *)&client->socket, on_alloc, on_read);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    uv_tcp_t listener;
    struct sockaddr_in address = bench_address(bench_number(argv[1], 1, 65535));
    uv_tcp_init(uv_default_loop(), &listener);
    if (uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) != 0 ||
        uv_listen((uv_stream_t *)&listener, 4096, on_connection) != 0)
        bench_die("listen");
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
