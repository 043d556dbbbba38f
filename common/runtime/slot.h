#ifndef WHOPLINE_SLOT_H
#define WHOPLINE_SLOT_H
/* What a handler has at hand: memory, a database connection, the job, and the way to end it.
 *
 * A slot is one thread; nothing in it is shared. A handler is blocking prose:
 *
 *   static struct err handle(struct slot *slot, const void *payload)
 *   {
 *       TRY(pg_begin(slot->db));
 *       ...                                            effects
 *       TRY(slot_add_jobs(slot, jobs, n));             what follows from them
 *       return slot_commit(slot, JOB_STATE_DONE, "");  all of it, and the job's own row
 *   }
 *
 * An error returned with a transaction open rolls it back. Its class (schema/errors.def) decides
 * what becomes of the job. A handler must be able to run again at any time, also beside itself: if
 * its row is finished already, slot_commit answers ALREADY_DONE and nothing has happened. Jobs that
 * were added are given to Redis once the transaction is committed; if the process dies before that,
 * the scheduler does it.
 *
 * A handler that takes longer than max_run_ms of its kind, or whose lease is lost, is stopped: its
 * statements fail with PG_CANCELLED, its calls to the outside end (LOST, or NOT_BEGUN), waiting for
 * one ends with CANCELLED, and it should return what it gets. One that does not come back within
 * CANCEL_GRACE_MS ends the process. */
#include "base/arena.h"
#include "base/config.h"
#include "base/figures.h"
#include "service/outside.h"
#include "service/store.h"

struct slot {
    const struct config *config;
    struct pg *db;           /* connects at the first use */
    struct outside *outside; /* NULL for a worker that does not call out */
    struct arena arena;      /* for this job or batch */
    const struct job *job;   /* NULL in a batch */
    struct figures figures;  /* worker->figures: what is counted here counts if the job commits */

    /* The runtime's own. */
    struct outgoing *added; /* in the arena; of the transaction in progress or committed */
    size_t added_count;
    int64_t rebuilds; /* of Redis, when they were added */
    bool committed;
    enum job_state ended; /* as committed */
    bool batch_has_rows;
};

/* One job of a batch. What is not set by the handler is done. */
struct batch_item {
    const struct job *job;
    const void *payload;  /* as jobs.def declares it for the kind */
    enum job_state state; /* set by the handler: DONE (as it is at first), SKIPPED, PARKED, DEAD */
    const char *reason;   /* with the other states, or of note; lives until the handler returns */
};

/* Inserts rows for jobs that follow, of kinds that have rows; fills in each id. In the handler's
 * transaction. The texts and
 * payloads must live until the handler returns. */
MUST_CHECK struct err slot_add_jobs(struct slot *slot, struct outgoing *jobs, size_t count);

/* Ends the job's row with state and reason, and the transaction. */
MUST_CHECK struct err slot_commit(struct slot *slot, enum job_state state, const char *reason);
/* The same for a batch: each item's row gets its state and reason. */
MUST_CHECK struct err slot_commit_batch(struct slot *slot, const struct batch_item *items,
                                        size_t count);

#endif
