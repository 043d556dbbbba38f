#ifndef WHOPLINE_LOOP_H
#define WHOPLINE_LOOP_H
/* The loop thread of a worker process, inside the runtime: its state, and what its parts ask of
 * each other. All of it on the loop's thread.
 *
 *   worker.c    starts it; what is done when something has changed
 *   connect.c   the two connections to Redis
 *   intake.c    reads, or not: no room, an operator's pause (held), a database that is away
 *   dispatch.c  hands jobs to slots and takes them back
 *   watch.c     stops those that take too long or are not ours any more
 *   lease.c     keeps leases and takes over; brings back what is due, and learns by that whether an
 *               operator holds the queue
 *   isolate.c   runs suspects alone
 *   settle.c    tells Redis what became of a job
 *   outside_face.c calls to the outside, for slots
 *   show.c      tells the outside what the process does
 *   stop.c      ends it */
#include "runtime/job_list.h"
#include "runtime/process.h"
#include "runtime/run.h"
#include "runtime/worker_telemetry.h"
#include "service/redis_check.h"

enum {
    LOOP_CHUNK_MAX = 128, /* entries in one call of a script */
    LOOP_ENTRY_MAX = 48,  /* "1700000000000-0": two 64-bit numbers, a dash and a NUL */
};

/*            Redis safe              schema is ours             first signal
 *   CHECKING ──────────> CHECKING_DB ──────────────> WORKING ──────────────> STOPPING ──> closed
 *      │                    └─ PG_DOWN: again in a second                        ^
 *      └─ unsafe, or a schema that is not ours: exit status 1                    │
 *         a signal before WORKING goes there too ────────────────────────────────┘
 * Waiting states: all. STOPPING waits for the read, the slots and the settlements. */
enum phase { PHASE_CHECKING, PHASE_CHECKING_DB, PHASE_WORKING, PHASE_STOPPING, PHASE_CLOSED };

/* What Redis has yet to be told of a job that is no longer a slot's. In the order of telling. */
enum settlement { SETTLE_DONE, SETTLE_RETRY, SETTLE_BURY, SETTLE_RELEASE, SETTLEMENT_COUNT };

struct loop {
    struct process process;
    const struct worker *worker;
    const struct config *config;
    enum phase phase;
    int status;
    size_t run_max; /* the largest of the worker's kinds */

    struct redis *redis;  /* everything but the read */
    struct redis *reader; /* XREADGROUP, which may be blocked */
    struct queue queue;
    struct redis_check check;
    int64_t reader_client_id; /* to wake a blocked read */
    bool group_known;
    bool reading;
    bool reclaiming;
    bool promoting;
    char cursor[32]; /* of XAUTOCLAIM */
    int64_t reclaim_from_ms;
    int64_t back_off_until_ms; /* PostgreSQL was away */
    bool doubtful;             /* after that: one job only, to see */
    bool held;                 /* an operator has paused the queue */

    struct slots slots;
    uv_async_t async;
    struct slot_thread **finished;
    struct relay_request **relays;
    struct outside_request **asked;
    struct http_client *http; /* of a worker that calls out */

    /* A job is in one of these from its reading to its settlement; the lease of all but the last is
     * prolonged. */
    struct job_list ready;                       /* waiting for a slot */
    struct job_list running;                     /* on slots */
    struct job_list unsettled[SETTLEMENT_COUNT]; /* waiting for a connection */
    struct job_list settling;                    /* Redis has been told and has not answered */

    bool refused;             /* Redis refused a verdict: wait for the settle timer */
    size_t calls;             /* settlements on the wire */
    struct suspect *suspects; /* isolate.c: entries that are to run alone, not started yet */
    bool alone;               /* one of them is being started, or runs */
    int64_t isolating_ms;     /* since when that holds up reading; 0: it does not */
    size_t starting;          /* START calls on the wire */
    size_t busy;              /* slots with a run */
    size_t forced;            /* jobs being given back after the grace */

    struct worker_telemetry telemetry; /* what is counted, and said to the outside */
    bool left;                         /* we have said that we go */
    size_t farewells;                  /* replies to that which are awaited */

    uv_timer_t beat;
    uv_timer_t reclaim;
    uv_timer_t promote;
    uv_timer_t resume; /* of the check, later of reading */
    uv_timer_t settle;
    uv_timer_t watch;
    uv_timer_t grace;
};

/* Called after everything that may have changed something: does whatever can be done now. */
void loop_advance(struct loop *loop);

/* connect.c */
MUST_CHECK struct err connect_open(struct loop *loop); /* both connections, and what follows */
void connect_close(struct loop *loop);

/* stop.c */
void stop_begin(void *loop);      /* the first signal */
void stop_end(struct loop *loop); /* in STOPPING: closes everything once that can be done */

/* show.c */
MUST_CHECK struct err show_start(struct loop *loop); /* the private listener and the registry */
void show_intake(struct loop *loop);                 /* whether it reads, for its health */

/* dispatch.c */
/* Hands ready jobs to free slots. */
void dispatch_ready(struct loop *loop);
/* Takes what slots have sent: finished runs, jobs for Redis. */
void dispatch_take(struct loop *loop);
/* The slots' first task: the database. Its outcome comes to worker.c. */
void dispatch_check(struct loop *loop);
void worker_on_checked_db(struct loop *loop, const struct err *err, bool held);

/* watch.c */
void watch_init(struct loop *loop);
/* Another consumer has the entry: whoever runs it is stopped, and nothing is settled. */
void watch_lost(struct loop *loop, struct span entry);

/* intake.c */
void intake_create_group(struct loop *loop);
void intake_read(struct loop *loop);     /* if there is room and nothing speaks against it */
void intake_back_off(struct loop *loop); /* PostgreSQL is away: no reading for a while */
bool intake_backs_off(const struct loop *loop);
void intake_hold(struct loop *loop, bool held); /* as the operator wants it */
void intake_wake(struct loop *loop);            /* ends a read that waits */
void intake_release(struct loop *loop);         /* gives back what has not begun */
size_t intake_room(const struct loop *loop);    /* for how many more jobs */
/* A job that is ours now; when none are to be begun it is given back. Takes it over. */
void intake_take(struct loop *loop, struct job *job);

/* lease.c */
/* Whether giving the job back unrun would make Redis forget how many workers it has brought down (a
 * new entry counts from 0). Such a job is left to its lease. */
bool lease_must_run_out(const struct job *job);
void lease_init(struct loop *loop); /* its timers */
void lease_close(struct loop *loop);
void lease_renew(struct loop *loop); /* after a (re)connection: ours first, others' much later */
void lease_start(struct loop *loop, struct span entry, bool alone);

/* isolate.c */
void isolate_add(struct loop *loop, struct span entry);
bool isolate_has(const struct loop *loop, struct span entry);
void isolate_lost(struct loop *loop, struct span entry); /* it is another consumer's */
size_t isolate_list(const struct loop *loop, struct span *entries, size_t max); /* those waiting */
/* If there are suspects: starts one as soon as nothing else of ours runs. True: read no more. */
bool isolate_next(struct loop *loop);
/* Their leases run out, and the next owner finds them as suspect as they are. */
void isolate_forget(struct loop *loop);
/* A job that does not end, alone or before those who wait for it, must not keep the whole worker
 * from reading: gives up when it has been too long, and tells. */
bool isolate_give_up(struct loop *loop);

/* settle.c */
/* The job, which is in no list, awaits settlement. verdict: NULL for RELEASE. */
void settle_job(struct loop *loop, struct job *job, enum settlement settlement,
                const struct verdict *verdict);
void settle_all(struct loop *loop); /* says what is to be said, if Redis is there */
bool settle_is_over(const struct loop *loop);
void settle_free(struct loop *loop); /* forgets it: the leases run out and the jobs come back */

#endif
