#ifndef WHOPLINE_RECONCILE_H
#define WHOPLINE_RECONCILE_H
/* Whop's books beside ours: payments that no event has told of are found, and credited like any
 * other. A run reads what has changed since the last one, ten minutes overlapping, a page a job; a
 * page is taken once, and its effects, the run's progress and the next page's job are one
 * transaction. Blocking; the connection's thread. */
#include "service/credits_figures.h"
#include "service/queue.h"
#include "service/tenant_whop.h"

/* Begins a run of the tenant, unless one of its kind is under way (*run is 0 then). In the caller's
 * transaction. kind: recent (since the latest), window (72 hours), by_hand; or disputes
 * (reconcile_disputes.h). */
MUST_CHECK struct err reconcile_begin(struct pg *pg, int64_t tenant, const char *kind,
                                      int64_t *run);

struct reconcile_page {
    int64_t run;
    int64_t number; /* from 0 */
    const char *cursor;
};

struct reconcile_result {
    bool taken; /* by another run of the same job; nothing was done */
    bool more;
    const char *next; /* in the arena */
};

/* Reads the page and begins the transaction with all its effects, which the caller commits (with
 * the next page's job) or rolls back. No transaction may be open. figures: the job's. */
MUST_CHECK struct err reconcile_take_page(struct pg *pg, struct outside *outside,
                                          struct arena *arena, int64_t tenant,
                                          const struct reconcile_page *page,
                                          struct figures *figures, struct reconcile_result *out);

/* Orders that wait for their payment, asked about one by one: their ids, at most max, in the arena;
 * those that are due longest first. */
MUST_CHECK struct err reconcile_list_open_orders(struct pg *pg, struct arena *arena, int64_t tenant,
                                                 size_t max, const char ***out, size_t *count);
/* What Whop says of the payments of an order's checkout. As reconcile_take_page: begins the
 * transaction. */
MUST_CHECK struct err reconcile_take_order(struct pg *pg, struct outside *outside,
                                           struct arena *arena, int64_t tenant, const char *order,
                                           struct figures *figures);

/* The proof: how many accounts do not equal their ledger. Each gets a line of level error. What it
 * found, and what was credited without a payment, is noted in credit_proofs. */
MUST_CHECK struct err reconcile_prove(struct pg *pg, size_t *wrong);

#endif
