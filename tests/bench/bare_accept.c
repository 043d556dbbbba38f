/* bare_accept: the least a server can do that keeps ingest's promise: epoll, one HMAC over the
 * body, ACCEPT batched per turn, 200 when Redis has answered. No limits, no deadlines, no JSON, no
 * checks of the head: the distance to it is what ingest's care costs.
 *
 *   bench_bare_accept PORT SOCKET SECRET
 *
 * Trusts its peer entirely; ends with SIGTERM. */
#include "accept_command.h"

#include "codec/signature.h"

#include <signal.h>
#include <sys/epoll.h>

enum { REQUEST_MAX = 16384, IN_FLIGHT_MAX = 8192, EVENTS_MAX = 256 };

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

struct client {
    int fd;
    bool waiting; /* for Redis */
    bool gone;    /* the load has ended meanwhile */
    size_t len;
    char request[REQUEST_MAX];
};

static struct {
    int poll;
    int redis;
    char sha[41];
    struct buf out;
    struct signature_keys *keys;
    struct client *waiting[IN_FLIGHT_MAX]; /* a ring, in the order Redis answers */
    size_t first;
    size_t count;
    size_t held;
    char replies[65536];
} server;

static struct span header(const struct client *client, const char *name)
{
    const char *at = memmem(client->request, client->len, name, strlen(name));
    if (at == NULL)
        return (struct span){NULL, 0};
    at += strlen(name);
    return (struct span){at, strcspn(at, "\r")};
}

static void on_request(struct client *client, struct span body)
{
    const struct signature_headers headers = {.id = header(client, "webhook-id: "),
                                              .timestamp = header(client, "webhook-timestamp: "),
                                              .signature = header(client, "webhook-signature: ")};
    struct signature_check check;
    if (signature_precheck(&headers, SIGNATURE_STANDARD, time(NULL), 300, &check) != SIGNATURE_OK ||
        signature_verify(server.keys, &headers, body, &check) != SIGNATURE_OK)
        bench_die("a wrong signature");
    accept_add_command(&server.out, server.sha, headers.id, body);
    REQUIRE(server.count < IN_FLIGHT_MAX);
    client->waiting = true;
    server.waiting[(server.first + server.count++) % IN_FLIGHT_MAX] = client;
}

static void on_client(struct client *client)
{
    ssize_t len = read(client->fd, client->request + client->len, REQUEST_MAX - 1 - client->len);
    if (len <= 0) {
        close(client->fd);
        client->gone = true;
        if (!client->waiting)
            free(client);
        return;
    }
    client->len += (size_t)len;
    client->request[client->len] = '\0';
    const char *end = memmem(client->request, client->len, "\r\n\r\n", 4);
    if (end == NULL)
        return;
    size_t head_len = (size_t)(end + 4 - client->request);
    struct span length = header(client, "Content-Length: ");
    size_t body_len = length.ptr != NULL ? strtoul(length.ptr, NULL, 10) : 0;
    if (client->len < head_len + body_len)
        return;
    on_request(client, (struct span){end + 4, body_len});
    client->len = 0; /* this load never pipelines */
}

static void on_redis(void)
{
    ssize_t len =
        read(server.redis, server.replies + server.held, sizeof server.replies - server.held);
    if (len <= 0)
        bench_die("Redis closed the connection");
    server.held += (size_t)len;
    for (long left = accept_take_replies(server.replies, &server.held); left > 0; left--) {
        struct client *client = server.waiting[server.first];
        server.first = (server.first + 1) % IN_FLIGHT_MAX;
        server.count--;
        client->waiting = false;
        if (client->gone)
            free(client);
        else if (write(client->fd, answer, sizeof answer - 1) < 0 && errno != EPIPE &&
                 errno != ECONNRESET)
            bench_die("write");
    }
}

static void watch(int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(server.poll, EPOLL_CTL_ADD, fd, &event) != 0)
        bench_die("epoll_ctl");
}

static void on_listener(int listener)
{
    const int yes = 1;
    struct client *client = mem_zalloc(sizeof *client);
    client->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    watch(client->fd, client);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s PORT SOCKET SECRET\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = bench_address(bench_number(argv[1], 1, 65535));
    struct err err = signature_keys_new(argv[3], &server.keys);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (err_failed(&err) || listener < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 4096) != 0)
        bench_die("start");
    server.poll = epoll_create1(EPOLL_CLOEXEC);
    server.redis = bench_connect_unix(argv[2]);
    accept_load(server.redis, server.sha);
    watch(listener, &listener);
    watch(server.redis, &server);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(server.poll, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            void *data = events[i].data.ptr;
            if (data == &server)
                on_redis();
            else if (data == &listener)
                on_listener(listener);
            else
                on_client(data);
        }
        if (server.out.len > 0)
            bench_write(server.redis, server.out.ptr, server.out.len);
        buf_clear(&server.out);
    }
}
