#ifndef WHOPLINE_LOOP_H
#define WHOPLINE_LOOP_H
/* The loop thread of a worker process, inside the runtime: its state, and what its parts ask of
 * each other. worker.c starts and stops it and hands jobs to slots, intake.c reads, lease.c keeps
 * and takes over leases, settle.c tells Redis what became of a job. All of it on the loop's thread.
 */
#include "runtime/job_list.h"
#include "runtime/process.h"
#include "runtime/run.h"
#include "service/redis_check.h"

enum { LOOP_CHUNK_MAX = 128 }; /* entries in one call of a script */

/*            Redis safe              schema is ours             first signal
 *   CHECKING ──────────> CHECKING_DB ──────────────> WORKING ──────────────> STOPPING ──> closed
 *      │                    └─ PG_DOWN: again in a second                        ^
 *      └─ unsafe, or a schema that is not ours: exit status 1                    │
 *         a signal before WORKING goes there too ────────────────────────────────┘
 * Waiting states: all. STOPPING waits for the read, the slots and the settlements. */
enum phase { PHASE_CHECKING, PHASE_CHECKING_DB, PHASE_WORKING, PHASE_STOPPING, PHASE_CLOSED };

/* A held job that is no longer a slot's: what Redis has yet to be told. */
enum settlement { SETTLE_DONE, SETTLE_RETRY, SETTLE_BURY, SETTLE_RELEASE };

struct held {
    struct held *next;
    struct job *job;
    enum settlement settlement;
    int64_t delay_ms;
    int attempt;
    char reason[96];
};

struct loop {
    struct process process;
    const struct worker *worker;
    const struct config *config;
    enum phase phase;
    int status;
    size_t run_max;

    struct redis *redis;  /* everything but the read */
    struct redis *reader; /* XREADGROUP, which may be blocked */
    struct queue queue;
    struct redis_check check;
    int64_t reader_client_id; /* to wake a blocked read when stopping */
    bool group_known;
    bool reading;
    bool reclaiming;
    bool promoting;
    char cursor[32]; /* of XAUTOCLAIM */
    int64_t reclaim_from_ms;
    int64_t paused_until_ms; /* PostgreSQL was away */
    bool doubtful;           /* after a pause: read one job only */

    struct slots slots;
    uv_async_t async;
    struct slot_thread **finished;
    struct relay_request **relays;

    struct job_list ready;    /* read, waiting for a slot */
    struct job_list running;  /* on slots or being settled: leases are prolonged */
    struct held *unsettled;   /* waiting for a connection */
    bool refused;             /* Redis refused a verdict: wait for the settle timer */
    size_t settling;          /* calls on the wire */
    struct suspect *suspects; /* lease.c: entries that are to run alone, not started yet */
    bool alone;               /* one of them is being started, or runs */
    int64_t isolating_ms;     /* since when that holds up reading; 0: it does not */
    size_t starting;          /* START calls on the wire */
    size_t busy;              /* slots with a run */
    size_t forced;            /* jobs being given back after the grace */

    uv_timer_t beat;
    uv_timer_t reclaim;
    uv_timer_t promote;
    uv_timer_t resume; /* of the check, later of reading */
    uv_timer_t settle;
    uv_timer_t grace;
};

/* Called after everything that may have changed something: does whatever can be done now. */
void loop_advance(struct loop *loop);

/* intake.c */
void intake_create_group(struct loop *loop);
void intake_read(struct loop *loop);  /* if there is room and nothing speaks against it */
void intake_pause(struct loop *loop); /* PostgreSQL is away: no reading for a while */
bool intake_is_paused(const struct loop *loop);
size_t intake_room(const struct loop *loop); /* for how many more jobs */
/* A job that is ours now; when stopping it is given back. Takes it over. */
void intake_take(struct loop *loop, struct job *job);

/* lease.c */
/* Whether giving the job back unrun would make Redis forget how many workers it has brought down (a
 * new entry counts from 0). Such a job is left to its lease. */
bool lease_must_run_out(const struct job *job);
void lease_init(struct loop *loop); /* its timers */
void lease_close(struct loop *loop);
/* If there are suspects: starts one as soon as nothing else of ours runs. True: read no more. */
bool lease_isolate(struct loop *loop);
void lease_renew(struct loop *loop); /* after a (re)connection: ours first, others' much later */

/* settle.c */
/* The job, which is in running, awaits settlement. verdict: NULL for RELEASE. */
void settle_hold(struct loop *loop, struct job *job, enum settlement settlement,
                 const struct verdict *verdict);
void settle_all(struct loop *loop);  /* says what is to be said, if Redis is there */
void settle_free(struct loop *loop); /* forgets it: the leases run out and the jobs come back */

#endif
