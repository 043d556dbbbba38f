/* loadgen: signed webhooks from many kept connections, one request in flight on each.
 *
 *   bench_loadgen PORT CONNECTIONS COUNT SECONDS SECRET BODY_FILE [PER_SECOND TIMES_FILE]
 *
 * Ends after COUNT answers or SECONDS, whichever is first. Every request has an id of its own, put
 * wherever the body file says @ID@ (which is as long as an id), and a Standard Webhooks signature
 * made before the clock starts. PER_SECOND: each request has its time, whatever became of those
 * before; one that finds no free connection leaves late, and is counted from when it was due. 0: as
 * fast as answers come. TIMES_FILE gets a line for each request: its id and when it was due, Unix
 * us. Prints one line of JSON. */
#include "bench.h"

#include "codec/signature.h"

#include <sys/epoll.h>

enum {
    ID_LEN = 24, /* "msg_", 8 digits of the run, 12 of the request */
    CONNECTIONS_MAX = 4096,
    COUNT_MAX = 2000000,
    MARKS_MAX = 8,
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
    int64_t *due_us;
    char *request; /* the template */
    size_t request_len;
    size_t marks[MARKS_MAX]; /* in the header and in the body */
    size_t mark_count;
    size_t signature_at;
    size_t signature_len;
    unsigned run;
    int64_t began_ns;
    int64_t began_wall_us;
    long per_second; /* 0: as fast as answers come */
    struct link **idle;
    long idle_count;
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

/* Where the marks are; returns how many. */
static size_t find_marks(const char *text, size_t len, size_t marks[MARKS_MAX])
{
    size_t count = 0;
    const char *at = text;
    while (count < MARKS_MAX &&
           (at = memmem(at, len - (size_t)(at - text), mark, ID_LEN)) != NULL) {
        marks[count++] = (size_t)(at - text);
        at += ID_LEN;
    }
    return count;
}

/* Signs everything there will be; the body's ids are part of what is signed. */
static void sign_all(struct signature_keys *keys, char *body, size_t body_len,
                     const char *time_text)
{
    size_t marks[MARKS_MAX];
    size_t mark_count = find_marks(body, body_len, marks);
    char id[ID_LEN];
    for (long i = 0; i < load.count; i++) {
        write_id(id, i);
        for (size_t m = 0; m < mark_count; m++)
            memcpy(body + marks[m], id, ID_LEN);
        signature_sign(keys, SIGNATURE_STANDARD, (struct span){id, ID_LEN}, span_of(time_text),
                       (struct span){body, body_len}, load.signatures[i]);
    }
    for (size_t m = 0; m < mark_count; m++)
        memcpy(body + marks[m], mark, ID_LEN);
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
    load.mark_count = find_marks(text, load.request_len, load.marks);
    load.signature_at = (size_t)len - 4 - load.signature_len;
}

/* When request number i was due, since the beginning. */
static int64_t due_ns(long i)
{
    return load.per_second > 0 ? i * 1000000000 / load.per_second : 0;
}

static void send_next(struct link *link)
{
    for (size_t m = 0; m < load.mark_count; m++)
        write_id(load.request + load.marks[m], load.sent);
    memcpy(load.request + load.signature_at, load.signatures[load.sent], load.signature_len);
    link->sent_ns = load.per_second > 0 ? load.began_ns + due_ns(load.sent) : bench_now_ns();
    load.due_us[load.sent++] = load.began_wall_us + (link->sent_ns - load.began_ns) / 1000;
    bench_write(link->fd, load.request, load.request_len);
}

/* Sends what is due; returns how long to wait for the next, at most a second. */
static struct timespec send_due(void)
{
    while (load.idle_count > 0 && load.sent < load.count) {
        int64_t wait_ns = load.began_ns + due_ns(load.sent) - bench_now_ns();
        if (load.per_second > 0 && wait_ns > 0 && wait_ns < 1000000000)
            return (struct timespec){.tv_nsec = wait_ns};
        send_next(load.idle[--load.idle_count]);
    }
    return (struct timespec){.tv_sec = 1};
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
    load.idle[load.idle_count++] = link;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(double share)
{
    if (load.answered == 0)
        return 0;
    long at = (long)((double)load.answered * share);
    return load.latencies_us[at < load.answered ? at : load.answered - 1];
}

static void write_times(const char *path)
{
    char id[ID_LEN];
    FILE *file = fopen(path, "w");
    if (file == NULL)
        bench_die(path);
    for (long i = 0; i < load.sent; i++) {
        write_id(id, i);
        fprintf(file, "%.*s %lld\n", ID_LEN, id, (long long)load.due_us[i]);
    }
    if (fclose(file) != 0)
        bench_die(path);
}

static void prepare(const char *secret, const char *body_path)
{
    struct signature_keys *keys = NULL;
    char time_text[24];
    size_t body_len = 0;
    char *body = bench_read_file(body_path, &body_len);
    struct err err = signature_keys_new(secret, &keys);
    if (err_failed(&err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(2);
    }
    load.run = (unsigned)getpid() * 1000U + (unsigned)(bench_now_ns() / 1000000 % 1000);
    load.signatures = mem_alloc((size_t)load.count * sizeof *load.signatures);
    load.latencies_us = mem_alloc((size_t)load.count * sizeof *load.latencies_us);
    load.due_us = mem_alloc((size_t)load.count * sizeof *load.due_us);
    snprintf(time_text, sizeof time_text, "%lld", (long long)time(NULL));
    sign_all(keys, body, body_len, time_text);
    make_template(body, body_len, time_text);
    signature_keys_free(keys);
    free(body);
}

static int open_links(long port)
{
    int poll = epoll_create1(EPOLL_CLOEXEC);
    load.links = mem_zalloc((size_t)load.connections * sizeof *load.links);
    load.idle = mem_alloc((size_t)load.connections * sizeof(struct link *));
    for (long i = 0; i < load.connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &load.links[i]};
        load.links[i].fd = bench_connect(port);
        epoll_ctl(poll, EPOLL_CTL_ADD, load.links[i].fd, &event);
        load.idle[load.idle_count++] = &load.links[i];
    }
    return poll;
}

static void report(double elapsed_s, double cpu_s)
{
    qsort(load.latencies_us, (size_t)load.answered, sizeof *load.latencies_us, compare);
    printf("{\"answered\":%ld,\"ok\":%ld,\"elapsed_s\":%.3f,\"rps\":%.0f,\"p50_us\":%u,"
           "\"p99_us\":%u,\"max_us\":%u,\"loadgen_cpu_s\":%.3f}\n",
           load.answered, load.ok, elapsed_s, (double)load.answered / elapsed_s, percentile(0.5),
           percentile(0.99), percentile(1), cpu_s);
}

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 9) {
        fprintf(stderr,
                "usage: %s PORT CONNECTIONS COUNT SECONDS SECRET BODY_FILE"
                " [PER_SECOND TIMES_FILE]\n",
                argv[0]);
        return 2;
    }
    long port = bench_number(argv[1], 1, 65535);
    load.connections = bench_number(argv[2], 1, CONNECTIONS_MAX);
    load.count = bench_number(argv[3], 1, COUNT_MAX);
    int64_t limit_ns = bench_number(argv[4], 1, 600) * 1000000000LL;
    load.per_second = argc == 9 ? bench_number(argv[7], 0, 1000000) : 0;
    prepare(argv[5], argv[6]);
    int poll = open_links(port);

    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    load.began_wall_us = (int64_t)wall.tv_sec * 1000000 + wall.tv_nsec / 1000;
    load.began_ns = bench_now_ns();
    double cpu_s = bench_cpu_s();
    while (load.answered < load.count && bench_now_ns() - load.began_ns < limit_ns) {
        struct epoll_event events[256];
        struct timespec wait = send_due();
        int count = epoll_pwait2(poll, events, 256, &wait, NULL);
        for (int i = 0; i < count; i++)
            read_answer(events[i].data.ptr);
    }
    report((double)(bench_now_ns() - load.began_ns) / 1e9, bench_cpu_s() - cpu_s);
    if (argc == 9)
        write_times(argv[8]);
    for (long i = 0; i < load.connections; i++)
        close(load.links[i].fd);
    close(poll);
    free(load.signatures);
    free(load.latencies_us);
    free(load.due_us);
    free(load.links);
    free(load.idle);
    free(load.request);
    return 0;
}
