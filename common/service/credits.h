#ifndef WHOPLINE_CREDITS_H
#define WHOPLINE_CREDITS_H
/* The credit ledger: it follows what is known of payments, refunds and disputes (service/payments).
 * The rules are SQL (schema/sql/007_orders.sql), where they hold for whoever touches the tables.
 *
 * Blocking; the connection's thread; errors are those of io/pg. Every verb is part of a transaction
 * that the caller has begun. Locks are taken in one order: payments, orders, accounts. */
#include "base/arena.h"
#include "service/credits_figures.h"
#include "service/payments.h"

struct credits_payment {
    int64_t tenant;
    const char *id; /* pay_... */
};

enum credits_result {
    CREDITS_NOT_PAID,  /* so far */
    CREDITS_GRANTED,   /* now */
    CREDITS_UNCHANGED, /* decided before; refunds and disputes may have been booked now */
    CREDITS_NOTHING,   /* decided now: it earns none, and why */
    CREDITS_IN_REVIEW, /* a person decides, and why */
};

struct credits_outcome {
    enum credits_result result;
    const char *why; /* in the arena: "granted", "free_payment", "unknown_plan" ... */
    int64_t credits;
};

/* Brings the ledger, orders, review list and notices in line with what is known of the payments.
 * out: one for each, in their order; of a payment that comes twice the second is UNCHANGED. actor:
 * who is behind it, for the ledger. What it has done is counted in figures, for the caller to
 * forget if the transaction is rolled back. */
MUST_CHECK struct err credits_settle(struct pg *pg, struct arena *arena,
                                     const struct credits_payment *payments, size_t count,
                                     const char *actor, struct figures *figures,
                                     struct credits_outcome *out);

/* Payments that were tried and failed: their orders wait for another try, and the buyers are told.
 */
MUST_CHECK struct err credits_payments_failed(struct pg *pg, const struct payment_news *news,
                                              size_t count, const char *actor);

/* Puts the payment on the review list; one that is there keeps its state, and its reason becomes
 * the newest. */
MUST_CHECK struct err credits_review_payment(struct pg *pg, int64_t tenant, const char *payment,
                                             const char *event_id, const char *reason);

/* Gives back what applications hold longer than they said, a portion at a time: *expired is how
 * many; call again while it is not 0. Makes a transaction of its own. */
MUST_CHECK struct err credits_expire(struct pg *pg, int64_t *expired);

#endif
