/* loadgen: signed webhooks from many kept connections, one request in flight on each.
 *
 *   bench_loadgen PORT CONNECTIONS COUNT SECONDS SECRET BODY_FILE
 *
 * Ends after COUNT answers or SECONDS, whichever is first. Every request has an id of its own, put
 * where the body file says @ID@ (which is as long as an id), and a Standard Webhooks signature made
 * before the clock starts. Prints one line of JSON. */
#include "bench.h"

#include "codec/signature.h"

#include <sys/epoll.h>

enum {
    ID_LEN = 24, /* "msg_", 8 digits of the run, 12 of the request */
    CONNECTIONS_MAX = 4096,
    COUNT_MAX = 2000000,
};

static const char mark[] = "@ID@@@@@@@@@@@@@@@@@@@@@";

struct link {
    int fd;
    int64_t sent_ns;
    size_t seen;
    char answer[1024];
};

static struct {
    struct link *links;
    long connections;
    long count;
    char (*signatures)[SIGNATURE_HEADER_SIZE];
    uint32_t *latencies_us;
    char *request; /* the template */
    size_t request_len;
    size_t id_at[2]; /* in the header and in the body */
    size_t signature_at;
    size_t signature_len;
    unsigned run;
    long sent;
    long answered;
    long ok;
} load;

static void write_id(char *out, long number)
{
    char text[40];
    snprintf(text, sizeof text, "msg_%08u%012ld", load.run % 100000000, number);
    memcpy(out, text, ID_LEN);
}

/* Signs everything there will be; the body's id is part of what is signed. */
static void sign_all(struct signature_keys *keys, char *body, size_t body_len,
                     const char *time_text)
{
    char *in_body = memmem(body, body_len, mark, ID_LEN);
    char id[ID_LEN];
    for (long i = 0; i < load.count; i++) {
        write_id(id, i);
        if (in_body != NULL)
            memcpy(in_body, id, ID_LEN);
        signature_sign(keys, SIGNATURE_STANDARD, (struct span){id, ID_LEN}, span_of(time_text),
                       (struct span){body, body_len}, load.signatures[i]);
    }
    if (in_body != NULL)
        memcpy(in_body, mark, ID_LEN);
}

static void make_template(const char *body, size_t body_len, const char *time_text)
{
    char *text = mem_alloc(body_len + 1024);
    load.signature_len = strlen(load.signatures[0]);
    int len = snprintf(text, 1024,
                       "POST /webhooks/whop HTTP/1.1\r\n"
                       "Host: 127.0.0.1\r\n"
                       "User-Agent: whop-webhooks\r\n"
                       "Accept: */*\r\n"
                       "Content-Type: application/json\r\n"
                       "Content-Length: %zu\r\n"
                       "webhook-id: %s\r\n"
                       "webhook-timestamp: %s\r\n"
                       "webhook-signature: %s\r\n\r\n",
                       body_len, mark, time_text, load.signatures[0]);
    memcpy(text + len, body, body_len);
    load.request = text;
    load.request_len = (size_t)len + body_len;
    load.id_at[0] = (size_t)((char *)memmem(text, (size_t)len, mark, ID_LEN) - text);
    const char *in_body = memmem(text + len, body_len, mark, ID_LEN);
    load.id_at[1] = in_body != NULL ? (size_t)(in_body - text) : load.id_at[0];
    load.signature_at = (size_t)len - 4 - load.signature_len;
}

static void send_next(struct link *link)
{
    if (load.sent == load.count)
        return;
    write_id(load.request + load.id_at[0], load.sent);
    write_id(load.request + load.id_at[1], load.sent);
    memcpy(load.request + load.signature_at, load.signatures[load.sent], load.signature_len);
    load.sent++;
    link->sent_ns = bench_now_ns();
    bench_write(link->fd, load.request, load.request_len);
}

static void read_answer(struct link *link)
{
    ssize_t len = read(link->fd, link->answer + link->seen, sizeof link->answer - link->seen - 1);
    if (len <= 0)
        bench_die("the server closed a connection");
    link->seen += (size_t)len;
    link->answer[link->seen] = '\0';
    if (strstr(link->answer, "\r\n\r\n") == NULL)
        return;
    load.latencies_us[load.answered++] = (uint32_t)((bench_now_ns() - link->sent_ns) / 1000);
    load.ok += strncmp(link->answer, "HTTP/1.1 200", 12) == 0;
    link->seen = 0;
    send_next(link);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(double share)
{
    long at = (long)((double)load.answered * share);
    return load.latencies_us[at < load.answered ? at : load.answered - 1];
}

int main(int argc, char **argv)
{
    struct signature_keys *keys = NULL;
    char time_text[24];
    size_t body_len = 0;
    if (argc != 7) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS COUNT SECONDS SECRET BODY_FILE\n", argv[0]);
        return 2;
    }
    long port = bench_number(argv[1], 1, 65535);
    load.connections = bench_number(argv[2], 1, CONNECTIONS_MAX);
    load.count = bench_number(argv[3], load.connections, COUNT_MAX);
    int64_t limit_ns = bench_number(argv[4], 1, 600) * 1000000000LL;
    char *body = bench_read_file(argv[6], &body_len);
    struct err err = signature_keys_new(argv[5], &keys);
    if (err_failed(&err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 2;
    }
    load.run = (unsigned)getpid() * 1000U + (unsigned)(bench_now_ns() / 1000000 % 1000);
    load.signatures = mem_alloc((size_t)load.count * sizeof *load.signatures);
    load.latencies_us = mem_alloc((size_t)load.count * sizeof *load.latencies_us);
    load.links = mem_zalloc((size_t)load.connections * sizeof *load.links);
    snprintf(time_text, sizeof time_text, "%lld", (long long)time(NULL));
    sign_all(keys, body, body_len, time_text);
    make_template(body, body_len, time_text);

    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < load.connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &load.links[i]};
        load.links[i].fd = bench_connect(port);
        epoll_ctl(poll, EPOLL_CTL_ADD, load.links[i].fd, &event);
    }
    int64_t began_ns = bench_now_ns();
    double cpu_s = bench_cpu_s();
    for (long i = 0; i < load.connections; i++)
        send_next(&load.links[i]);
    while (load.answered < load.count && bench_now_ns() - began_ns < limit_ns) {
        struct epoll_event events[256];
        int count = epoll_wait(poll, events, 256, 1000);
        for (int i = 0; i < count; i++)
            read_answer(events[i].data.ptr);
    }
    double elapsed_s = (double)(bench_now_ns() - began_ns) / 1e9;
    cpu_s = bench_cpu_s() - cpu_s;
    qsort(load.latencies_us, (size_t)load.answered, sizeof *load.latencies_us, compare);
    printf("{\"answered\":%ld,\"ok\":%ld,\"elapsed_s\":%.3f,\"rps\":%.0f,\"p50_us\":%u,"
           "\"p99_us\":%u,\"max_us\":%u,\"loadgen_cpu_s\":%.3f}\n",
           load.answered, load.ok, elapsed_s, (double)load.answered / elapsed_s, percentile(0.5),
           percentile(0.99), percentile(1), cpu_s);
    for (long i = 0; i < load.connections; i++)
        close(load.links[i].fd);
    close(poll);
    signature_keys_free(keys);
    free(load.signatures);
    free(load.latencies_us);
    free(load.links);
    free(load.request);
    free(body);
    return 0;
}
