#ifndef WHOPLINE_ORDER_WHOP_H
#define WHOPLINE_ORDER_WHOP_H
/* Orders that are paid at Whop.
 *
 *   created -> checkout_open -> paid -> credited         created, checkout_open, failed -> expired
 *                   └-> failed (the card; another try may follow)
 *
 * Asking is a row and a job in one transaction; the job calls Whop by way of service/outbound, so
 * that no order gets two checkouts and no request two refunds, whatever dies meanwhile. Blocking;
 * the connection's thread. REFUSED and NOT_FOUND say what to do. */
#include "service/credits_figures.h"
#include "service/orders.h"
#include "service/queue.h"
#include "service/tenant_whop.h"

/* An order to be paid at Whop, and the job that gets its checkout, in a transaction of its own.
 * REFUSED where the tenant's switch says no (credit_settings.whop_payments). */
MUST_CHECK struct err order_whop_create(struct pg *pg, const struct order_new *order,
                                        char out[UUID_TEXT_SIZE]);
/* A manual order that waits for approval is to be paid at Whop instead. Likewise. */
MUST_CHECK struct err order_whop_convert(struct pg *pg, int64_t tenant, const char *id,
                                         const char *actor);

struct order_refund {
    int64_t tenant;
    const char *order;
    const char *amount;  /* major units; NULL: all that is left */
    const char *request; /* 1 to 100 printable characters without a space: the same asks once */
    const char *actor;
    const char *reason;
};
/* Likewise. *is_new: false if that request was made before, which is no error. */
MUST_CHECK struct err order_whop_refund(struct pg *pg, const struct order_refund *refund,
                                        bool *is_new);

/* Orders that nobody has paid in time, a portion at a time: *expired is how many; call again while
 * it is not 0. A late payment finds them all the same. */
MUST_CHECK struct err order_whop_expire(struct pg *pg, int64_t *expired);

/* Where a job works. No transaction may be open. */
struct order_work {
    struct pg *pg;
    struct outside *outside;
    struct arena *arena;
    const struct job *job;
    struct figures *figures; /* credits_figures, of this job */
};
/* The work of such jobs; each may be done again at any time. *why: in the arena, for the job's row,
 * "" for nothing. */
MUST_CHECK struct err order_whop_make_checkout(const struct order_work *work, const char *order,
                                               const char **why);
MUST_CHECK struct err order_whop_make_refund(const struct order_work *work, const char *request,
                                             const char **why);

#endif
