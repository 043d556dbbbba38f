/* grants: batches of paid payments, each noted and settled in one transaction as whopline-credits
 * does it, by the product's own code, from several connections at once.
 *
 *   bench_grants [--statements] DATABASE_URL CONNECTIONS BATCHES USERS NAME
 *
 * Each connection makes BATCHES transactions of 50 payments of random buyers among USERS; ids
 * contain NAME. --statements: one batch twice from one connection, then the texts of what was
 * prepared, each ended by a NUL. Otherwise prints payments, seconds between the first begin and the
 * last commit, and how many batches had to be run again (deadlocks). Of tenant 1 and plan_bench. */
#include "bench.h"
#include "service/credits.h"

#include <getopt.h>
#include <pthread.h>

enum { BATCH = 50, CONNECTIONS_MAX = 64, USERS_MAX = 1000000, ID_MAX = 64 };

struct connection {
    pthread_t thread;
    struct pg *pg;
    const char *name;
    int number;
    long batches;
    long users;
    long again;
    uint64_t random;
};

struct payment_texts {
    char id[ID_MAX];
    char user[ID_MAX];
};

/* xorshift64: the same buyers in every run. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct err run_batch(struct connection *connection, const struct payment_news *news)
{
    struct credits_payment payments[BATCH];
    struct credits_outcome outcomes[BATCH];
    struct figures uncounted = {0};
    struct arena arena;
    for (size_t i = 0; i < BATCH; i++)
        payments[i] = (struct credits_payment){news[i].tenant, news[i].event->payment};
    TRY(pg_begin(connection->pg));
    TRY(payments_note(connection->pg, news, BATCH));
    arena_init(&arena);
    struct err err = credits_settle(connection->pg, &arena, payments, BATCH, "whopline-credits",
                                    &uncounted, outcomes);
    arena_close(&arena);
    TRY(err);
    return pg_commit(connection->pg);
}

static void make_batch(struct connection *connection, long number, struct event *events,
                       struct payment_texts *texts, struct payment_news *news)
{
    for (int i = 0; i < BATCH; i++) {
        snprintf(texts[i].id, ID_MAX, "pay_%.20s_%02d_%06ld_%02d", connection->name,
                 connection->number, number, i);
        snprintf(texts[i].user, ID_MAX, "user_%06ld",
                 (long)(next_random(&connection->random) % (uint64_t)connection->users));
        payload_init(PAYLOAD_event, &events[i]);
        events[i].id = events[i].payment = texts[i].id;
        events[i].user = texts[i].user;
        events[i].kind = "payment.succeeded";
        events[i].plan = "plan_bench";
        events[i].status = "paid";
        events[i].substatus = "succeeded";
        events[i].amount = "49.99";
        events[i].currency = "usd";
        events[i].occurred_ms = events[i].paid_ms = 1790000000000;
        news[i] = (struct payment_news){1, &events[i]};
    }
}

static void *work(void *data)
{
    struct connection *connection = data;
    struct event events[BATCH];
    struct payment_texts texts[BATCH];
    struct payment_news news[BATCH];
    for (long number = 0; number < connection->batches; number++) {
        make_batch(connection, number, events, texts, news);
        for (;;) {
            struct err err = run_batch(connection, news);
            if (!err_failed(&err))
                break;
            if (err.code != ERR_PG_CONFLICT) {
                fprintf(stderr, "%s\n", err_text(&err));
                exit(1);
            }
            pg_rollback(connection->pg);
            connection->again++;
        }
    }
    return NULL;
}

static void connect_to(struct connection *connection, const char *url)
{
    connection->pg = pg_new(url);
    pg_set_prepare(connection->pg, true);
    struct err err = PG_EXEC(connection->pg, "SELECT $1", pg_text("here"));
    if (err_failed(&err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
}

static void print_statements(struct connection *connection)
{
    connection->batches = 4;
    work(connection);
    struct err err = pg_exec(connection->pg,
                             "SELECT statement FROM pg_prepared_statements"
                             " WHERE statement ~ 'payments|credits' ORDER BY prepare_time",
                             NULL, 0);
    if (err_failed(&err)) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
    for (size_t i = 0; i < pg_rows(connection->pg); i++)
        printf("%s%c", pg_get(connection->pg, i, 0), 0);
}

static void run_all(struct connection *connections, long count)
{
    int64_t began_ns = bench_now_ns();
    long again = 0;
    for (long i = 0; i < count; i++)
        if (pthread_create(&connections[i].thread, NULL, work, &connections[i]) != 0)
            bench_die("pthread_create");
    for (long i = 0; i < count; i++) {
        pthread_join(connections[i].thread, NULL);
        again += connections[i].again;
    }
    printf("{\"payments\":%ld,\"seconds\":%.6f,\"again\":%ld}\n",
           count * connections[0].batches * BATCH, (double)(bench_now_ns() - began_ns) / 1e9,
           again);
}

static NORETURN void usage(const char *program)
{
    fprintf(stderr, "usage: %s [--statements] DATABASE_URL CONNECTIONS BATCHES USERS NAME\n",
            program);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"statements", no_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    static struct connection connections[CONNECTIONS_MAX];
    bool statements = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 's')
            usage(argv[0]);
        statements = true;
    }
    if (argc - optind != 5)
        usage(argv[0]);
    long count = statements ? 1 : bench_number(argv[optind + 1], 1, CONNECTIONS_MAX);
    for (long i = 0; i < count; i++) {
        connections[i] = (struct connection){
            .name = argv[optind + 4],
            .number = (int)i,
            .batches = bench_number(argv[optind + 2], 1, 1000000),
            .users = bench_number(argv[optind + 3], 1, USERS_MAX),
            .random = 88172645463325252U + (uint64_t)i * 7919,
        };
        connect_to(&connections[i], argv[optind]);
    }
    if (statements)
        print_statements(&connections[0]);
    else
        run_all(connections, count);
    for (long i = 0; i < count; i++)
        pg_free(connections[i].pg);
    return 0;
}
