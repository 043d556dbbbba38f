/* redis_ceiling: how many ACCEPTs a second Redis itself can do, from one connection in batches.
 *
 *   bench_redis_ceiling SOCKET BATCH COUNT SECONDS BODY_FILE
 *
 * A batch leaves in one write and the next one follows when all its replies are there. Prints one
 * line of JSON. */
#include "accept_command.h"

static void await_replies(int fd, long count)
{
    static char buffer[65536];
    size_t held = 0;
    while (count > 0) {
        ssize_t len = read(fd, buffer + held, sizeof buffer - held);
        if (len <= 0)
            bench_die("Redis closed the connection");
        held += (size_t)len;
        count -= accept_take_replies(buffer, &held);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s SOCKET BATCH COUNT SECONDS BODY_FILE\n", argv[0]);
        return 2;
    }
    long batch = bench_number(argv[2], 1, 1024);
    long count = bench_number(argv[3], 1, 10000000);
    int64_t limit_ns = bench_number(argv[4], 1, 600) * 1000000000LL;
    size_t body_len = 0;
    char *body = bench_read_file(argv[5], &body_len);
    int fd = bench_connect_unix(argv[1]);
    char sha[41];
    accept_load(fd, sha);

    struct buf out = {0};
    long sent = 0;
    int64_t began_ns = bench_now_ns();
    while (sent < count && bench_now_ns() - began_ns < limit_ns) {
        buf_clear(&out);
        for (long i = 0; i < batch; i++) {
            char id[48];
            snprintf(id, sizeof id, "msg_%08d%012ld", (int)getpid(), sent++);
            accept_add_command(&out, sha, span_of(id), (struct span){body, body_len});
        }
        bench_write(fd, out.ptr, out.len);
        await_replies(fd, batch);
    }
    double elapsed_s = (double)(bench_now_ns() - began_ns) / 1e9;
    printf("{\"answered\":%ld,\"elapsed_s\":%.3f,\"rps\":%.0f}\n", sent, elapsed_s,
           (double)sent / elapsed_s);
    buf_close(&out);
    free(body);
    close(fd);
    return 0;
}
