#ifndef WHOPLINE_RECONCILE_DISPUTES_H
#define WHOPLINE_RECONCILE_DISPUTES_H
/* Whop's disputes beside ours. Whop lists them by when they were made, so that a run (of kind
 * "disputes") has two parts: pages of those made lately, or since the payments that say they are in
 * dispute while we know of none; then each that is not decided is asked about alone. What is found
 * becomes holds, releases and losses as if an event had told of it. Locks, transactions and threads
 * as in reconcile.h.
 *
 * A credential without payment:dispute:read is no error: the run ends as failed, which is logged
 * the first time, and events are all there is to tell of disputes. Payments have runs of their own.
 */
#include "service/reconcile.h"

struct reconcile_disputes_result {
    bool taken;   /* by another run of the same job; nothing was done */
    bool refused; /* the credential lacks the permission */
    bool more;
    const char *next; /* in the arena */
};

/* A page. Begins the transaction with all its effects, which the caller commits (with the next
 * page's job) or rolls back. No transaction may be open. */
MUST_CHECK struct err reconcile_take_disputes(struct pg *pg, struct outside *outside,
                                              struct arena *arena, int64_t tenant,
                                              const struct reconcile_page *page,
                                              struct figures *figures,
                                              struct reconcile_disputes_result *out);

/* Those that are not decided and that the run has not read: their ids, at most max, in the arena,
 * those that were asked about longest ago first. Part of the caller's transaction, which makes the
 * jobs that ask. */
MUST_CHECK struct err reconcile_pick_disputes(struct pg *pg, struct arena *arena, int64_t tenant,
                                              int64_t run, size_t max, const char ***out,
                                              size_t *count);
/* What Whop says of one. *why: for the job's row, "" if it was read. As reconcile_take_disputes:
 * begins the transaction. */
MUST_CHECK struct err reconcile_take_dispute(struct pg *pg, struct outside *outside,
                                             struct arena *arena, int64_t tenant,
                                             const char *dispute, struct figures *figures,
                                             const char **why);

#endif
