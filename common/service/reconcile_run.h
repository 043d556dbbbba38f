#ifndef WHOPLINE_RECONCILE_RUN_H
#define WHOPLINE_RECONCILE_RUN_H
/* A run's row, for whoever takes its pages: reconcile.c and reconcile_disputes.c. Private to them.
 */
#include "service/reconcile.h"

struct reconcile_tally {
    int64_t fetched;
    int64_t unknown;
    int64_t credited;
};

struct reconcile_run {
    int64_t since_ms; /* Unix ms; 0 if it is not this page's turn (any more) */
    int64_t now_ms;   /* the database's clock, before anything is asked of Whop */
};

MUST_CHECK struct err reconcile_load_run(struct pg *pg, const struct reconcile_page *page,
                                         struct reconcile_run *out);
/* The page has been taken: the run goes on, or ends well. *taken: somebody else has taken it. */
MUST_CHECK struct err reconcile_advance(struct pg *pg, const struct reconcile_page *page, bool more,
                                        const struct reconcile_tally *tally, bool *taken);

#endif
