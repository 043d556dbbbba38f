#ifndef WHOPLINE_WORKER_H
#define WHOPLINE_WORKER_H
/* The runtime of a worker process: it reads jobs of one queue, runs them on slots and settles them.
 *
 * One loop thread owns Redis (one connection that may be blocked in a read, one for all else),
 * timers and signals. N slot threads own a database connection each and meet the loop only in a
 * mailbox.
 *
 *   read ─> ready ─> running on a slot ─> relay ─> settle: DONE | RETRY | BURY
 *             └──────────(stopping)──────────────────> RELEASE
 *
 * From its reading to its settlement a job is held: BEAT prolongs its lease. A verdict that Redis
 * has not answered for is sent again. */
#include "runtime/slot.h"

struct batch_item {
    const struct job *job;
    const void *payload; /* as jobs.def declares it for the kind */
};

struct handler {
    enum job_kind kind;
    /* One of the two. A batch handler commits its own transaction (its jobs have no row) and
     * answers for all items; after an error that is the data's fault the batch is halved until the
     * culprit is alone. */
    struct err (*handle)(struct slot *slot, const void *payload);
    struct err (*handle_batch)(struct slot *slot, const struct batch_item *items, size_t count);
};

struct worker {
    const char *name;    /* "whopline-credits" */
    const char *purpose; /* for --help */
    enum queue_name queue;
    const struct handler *handlers;
    size_t handler_count;
    struct err (*prepare)(struct slot *slot); /* once before the first job; may be NULL */
};

/* The whole of main(). */
int worker_main(int argc, char **argv, const struct worker *worker);

#endif
