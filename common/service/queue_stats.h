#ifndef WHOPLINE_QUEUE_STATS_H
#define WHOPLINE_QUEUE_STATS_H
/* How the installation stands: what waits in each queue, and what waits for a person. Blocking, for
 * a program that owns both connections. The cost is bounded: one small script a queue, and one
 * statement that counts no further than QUEUE_STATS_ROWS_MAX rows of a sort. */
#include "io/pg.h"
#include "io/redis.h"
#include "service/queue.h"

enum { QUEUE_STATS_ROWS_MAX = 10000, QUEUE_STATS_TENANT_STATES = 8, QUEUE_STATS_NOTICE_KINDS = 16 };

struct queue_stats {
    int64_t depth; /* nobody has been given them */
    int64_t pending;
    int64_t delayed;
    int64_t oldest_ms; /* age of the oldest nobody has been given; -1: none */
    int64_t idle_ms;   /* since the oldest pending was prolonged; -1: none */
    int64_t consumers;
};

struct redis_stats {
    struct queue_stats queues[QUEUE_COUNT];
    int64_t events_dead;
};

/* How credits stand (schema/sql/012_credit_figures.sql). */
struct credits_stats {
    int64_t review_open;      /* payments that wait for a person */
    int64_t review_oldest_ms; /* 0: there is none */
    int64_t orders_requested; /* manual orders that wait likewise */
    int64_t orders_unpaid;
    int64_t orders_oldest_ms; /* of the unpaid; 0: there is none */
    int64_t orders_opened;    /* of the last day, as below */
    int64_t orders_paid;
    struct {
        char kind[32];
        int64_t count;
    } notices[QUEUE_STATS_NOTICE_KINDS];
    size_t notice_kinds;
    int64_t owing; /* accounts */
    int64_t paid_without_credit;
    int64_t credited_without_payment; /* by the latest proof, as below; -1: there was none */
    int64_t balances_wrong;
    int64_t proof_age_ms;
};

struct pg_stats {
    int64_t dead[JOB_KIND_COUNT + 1];   /* last: kinds this program does not know */
    int64_t parked[ERR_CODE_COUNT + 1]; /* last: no error, or one this program does not know */
    int64_t calls_parked;               /* of outbound */
    int64_t calls_unknown;              /* nobody knows what came of them, parked ones included */
    int64_t calls_oldest_ms;            /* since the oldest of these was sent; -1: there is none */
    int64_t unrelayed;
    int64_t bulk_waiting;
    struct credits_stats credits;
    int64_t drift_new; /* memberships that Whop's list had told of, not an event */
    int64_t drift_changed;
    int64_t drift_gone;
    int64_t last_event_ms; /* age; -1: there never was one */
    bool queue_paused[QUEUE_COUNT];
    struct {
        char status[32];
        int64_t count;
    } tenants[QUEUE_STATS_TENANT_STATES]; /* that are not active */
    size_t tenant_states;
};

MUST_CHECK struct err queue_stats_ask_redis(struct redis *redis, const char *prefix,
                                            struct redis_stats *out);
MUST_CHECK struct err queue_stats_ask_pg(struct pg *pg, struct pg_stats *out);

#endif
