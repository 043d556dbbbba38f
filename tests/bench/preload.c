/* preload: jobs of any kind, with an empty payload, put in the way the product does it: rows by
 * store_insert_jobs, entries by ENQUEUE, then the mark that they are relayed.
 *
 *   bench_preload [--rows URL] [--tenant ID] [--bulk] [--no-relay] [--per-second N] REDIS_URL KIND
 *                 COUNT
 *
 * Without --rows there are entries only, as of volatile kinds. --tenant: whose they are (1).
 * --bulk: rows that wait for their tenant's turn, which is the scheduler's to give; with
 * --no-relay, which leaves the rows to the scheduler. --per-second: one after the other at that
 * pace, as a worker adds them, instead of 1,000 at once. STREAM_PREFIX as for the product. Prints
 * how many there are. */
#include "base/clock.h"
#include "bench.h"
#include "service/scripts.h"
#include "service/store.h"

#include <getopt.h>

#include <uv.h>

enum { AT_ONCE = 1000, REDIS_TIMEOUT_MS = 30000 };

static struct {
    struct redis *redis;
    struct pg *pg; /* NULL without rows */
    const char *prefix;
    bool relay;
    size_t waiting; /* for Redis */
    long refused;
} load;

static void check(struct err err)
{
    if (err_failed(&err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
}

static void on_enqueued(const struct err *err, const struct redis_reply *reply, void *data)
{
    (void)data;
    if (err != NULL) {
        fprintf(stderr, "ENQUEUE: %s\n", err_text(err));
        exit(1);
    }
    load.refused += redis_reply_integer(reply) != 1;
    load.waiting--;
}

static void put(struct outgoing *jobs, size_t count)
{
    int64_t rebuilds = 0;
    for (size_t i = 0; i < count; i++) {
        random_uuid(jobs[i].id);
        jobs[i].created_ms = jobs[i].occurred_ms = clock_wall_ms();
        jobs[i].trace = jobs[i].id;
    }
    if (load.pg != NULL) {
        check(pg_begin(load.pg));
        check(store_insert_jobs(load.pg, jobs, count, &rebuilds));
        check(pg_commit(load.pg));
    }
    if (!load.relay)
        return;
    load.waiting = count;
    for (size_t i = 0; i < count; i++)
        queue_enqueue(load.redis, load.prefix, &jobs[i], on_enqueued, NULL);
    redis_settle(load.redis, &load.waiting);
    if (load.pg != NULL)
        check(store_mark_relayed(load.pg, jobs, count, rebuilds));
}

static void put_all(const struct outgoing *model, long count)
{
    struct outgoing *jobs = mem_alloc(AT_ONCE * sizeof *jobs);
    for (long i = 0; i < AT_ONCE; i++)
        jobs[i] = *model;
    for (long left = count; left > 0; left -= AT_ONCE)
        put(jobs, left < AT_ONCE ? (size_t)left : AT_ONCE);
    free(jobs);
}

static void put_paced(const struct outgoing *model, long count, long per_second)
{
    struct outgoing job = *model;
    int64_t began_ns = bench_now_ns();
    for (long i = 0; i < count; i++) {
        int64_t wait_ns = began_ns + i * 1000000000 / per_second - bench_now_ns();
        struct timespec pause = {.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
        if (wait_ns > 0)
            nanosleep(&pause, NULL);
        put(&job, 1);
    }
}

static void pack_nothing(const struct job_type *type, struct buf *out)
{
    void *payload = mem_alloc(payload_size(type->payload));
    payload_init(type->payload, payload);
    check(payload_encode(type->payload, payload, out));
    free(payload);
}

static void open_redis(uv_loop_t *loop, const char *url)
{
    const struct redis_options options = {
        .loop = loop,
        .url = url,
        .scripts = scripts_all(),
        .script_count = SCRIPT_COUNT,
        .timeout_ms = REDIS_TIMEOUT_MS,
    };
    uv_loop_init(loop);
    check(redis_new(&options, &load.redis));
    check(redis_wait_ready(load.redis));
}

static NORETURN void usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--rows URL] [--tenant ID] [--bulk] [--no-relay] [--per-second N]"
            " REDIS_URL KIND COUNT\n",
            program);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"rows", required_argument, NULL, 'r'},
                                            {"tenant", required_argument, NULL, 't'},
                                            {"bulk", no_argument, NULL, 'b'},
                                            {"no-relay", no_argument, NULL, 'n'},
                                            {"per-second", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    struct outgoing model = {.tenant = 1, .key = "bench", .event_id = ""};
    const char *rows = NULL;
    long per_second = 0;
    int option;
    load.relay = true;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'r': rows = optarg; break;
        case 't': model.tenant = bench_number(optarg, 1, 1000000); break;
        case 'b': model.bulk = true; break;
        case 'n': load.relay = false; break;
        case 'p': per_second = bench_number(optarg, 1, 100000); break;
        default: usage(argv[0]);
        }
    }
    if (argc - optind != 3)
        usage(argv[0]);
    if (!job_kind_find(span_of(argv[optind + 1]), &model.kind)) {
        fprintf(stderr, "there is no kind %s\n", argv[optind + 1]);
        return 2;
    }
    long count = bench_number(argv[optind + 2], 1, 100000000);
    struct buf packed = {0};
    pack_nothing(job_type(model.kind), &packed);
    model.payload = buf_span(&packed);
    model.version = job_type(model.kind)->version;
    const char *prefix = getenv("STREAM_PREFIX");
    load.prefix = prefix != NULL ? prefix : "wl";
    load.pg = rows != NULL ? pg_new(rows) : NULL;
    uv_loop_t loop;
    open_redis(&loop, argv[optind]);

    if (per_second > 0)
        put_paced(&model, count, per_second);
    else
        put_all(&model, count);
    printf("{\"jobs\":%ld,\"refused\":%ld}\n", count, load.refused);

    redis_close(load.redis);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    pg_free(load.pg);
    buf_close(&packed);
    return load.refused > 0;
}
