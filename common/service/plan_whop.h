#ifndef WHOPLINE_PLAN_WHOP_H
#define WHOPLINE_PLAN_WHOP_H
/* Plans that are made, changed or taken off sale at Whop, and here with it.
 *
 *   requested ──> done       at Whop and in whop_plans; the answer says what is not as wished for
 *       ├───────> refused    Whop says no: nothing has changed anywhere
 *       └───────> dropped    by an operator, before anything was asked
 *
 * Asking is a row and a job in one transaction, as for orders (order_whop.h); the job calls Whop by
 * way of service/outbound, so that no request makes two plans, whatever dies meanwhile, and enters
 * what has become of it in whop_plans in the transaction that ends the request. Blocking; the
 * connection's thread. REFUSED, NOT_FOUND and USAGE say what to do. */
#include "service/order_whop.h"
#include "service/plans.h"

enum { PLAN_TITLE_MAX = 30, PLAN_DAYS_MAX = 3650, PLAN_REQUEST_MAX = 100 };

enum plan_request_kind { PLAN_REQUEST_CREATE, PLAN_REQUEST_UPDATE, PLAN_REQUEST_RETIRE };
const char *plan_request_kind_name(enum plan_request_kind kind); /* "create" */

struct plan_request {
    int64_t tenant;
    enum plan_request_kind kind;
    const char
        *request; /* 1 to 100 printable ASCII characters without a space: the same asks once */
    /* CREATE: with name, credits, price, currency and product, without id. UPDATE: what changes,
     * here and, of name and price, at Whop. RETIRE: the id. */
    struct plan plan;
    int64_t period_days;    /* CREATE: 0 for a plan that is paid once */
    int64_t trial_days;     /* CREATE: 0 for none */
    const char *visibility; /* CREATE: visible, hidden, quick_link */
    const char *actor;
    const char *reason;
};

/* A name as Whop takes it for a plan's title. USAGE says what is wrong. */
MUST_CHECK struct err plan_whop_check_name(const char *name);

/* In a transaction of its own. Refuses what could not be entered here, before anything is asked of
 * Whop. *is_new: false if that request was made before, with the same terms, which is no error. */
MUST_CHECK struct err plan_whop_ask(struct pg *pg, const struct plan_request *request,
                                    bool *is_new);

/* Forgets a request whose job waits for a person and of which nothing has been asked at Whop.
 * REFUSED otherwise. In a transaction of its own. */
MUST_CHECK struct err plan_whop_drop(struct pg *pg, int64_t tenant, const char *request,
                                     const char *actor, const char *reason);

/* The job's work; may be done again at any time. *why: in the arena, "" for nothing. */
MUST_CHECK struct err plan_whop_work(const struct order_work *work, const char *request,
                                     const char **why);

#endif
