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
#include "runtime/process.h"
#include "runtime/slot.h"

struct handler {
    enum job_kind kind;
    /* One of the two. handle_batch is called in a transaction that holds the rows of all items (of
     * kinds that have rows), so that nobody else has done them or is doing them; it ends with
     * slot_commit_batch. After an error that is the data's fault the batch is run again in halves,
     * until the culprit is alone. */
    struct err (*handle)(struct slot *slot, const void *payload);
    struct err (*handle_batch)(struct slot *slot, struct batch_item *items, size_t count);
    /* May be NULL. Of a batch, those that somebody has done already, who may have died before he
     * told others than the database. No transaction is open, and none is to be left. */
    void (*handle_skipped)(struct slot *slot, const struct batch_item *items, size_t count);
};

struct outside_face; /* runtime/outside_face.h */

struct worker {
    const char *name;    /* "whopline-credits" */
    const char *purpose; /* for --help */
    enum queue_name queue;
    const struct handler *handlers;
    size_t handler_count;
    struct err (*prepare)(struct slot *slot); /* once before the first job; may be NULL */
    /* &outside_face for workers whose handlers call out (slot->outside), else NULL: only they are
     * linked with libcurl. */
    const struct outside_face *outside;
    /* What it shows of itself on /metrics, counted by handlers in slot->figures; may be NULL. */
    const struct figures_list *figures;
    process_check *check; /* of its own settings, telemetry_check included; may be NULL */
};

/* The whole of main(). */
int worker_main(int argc, char **argv, const struct worker *worker);

#endif
