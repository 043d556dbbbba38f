#ifndef WHOPLINE_CREDITS_H
#define WHOPLINE_CREDITS_H
/* Payments, plans and the credit ledger. Blocking; the connection's thread; errors are those of
 * io/pg. Every verb is part of a transaction that the caller has begun.
 *
 * Locks are taken in one order: the payment's row, then the account's. */
#include "codec/job.h"
#include "io/pg.h"

/* What we know of a payment after all its events so far; texts in the caller's arena. */
struct credits_payment {
    const char *user; /* "" while no event has named one */
    const char *plan;
    const char *pack_id;
    int64_t paid_ms; /* 0: not said */
};

/* Writes the payment or adds what it did not say before, and holds its row until the end of the
 * transaction. An older event adds ids but changes no status. */
MUST_CHECK struct err credits_record_payment(struct pg *pg, struct arena *arena, int64_t tenant,
                                             const struct event *event,
                                             struct credits_payment *out);

struct credits_plan {
    int64_t id;
    const char *name;
    int64_t credits;
    bool when_free; /* a payment of 0 is granted too */
};

/* The plan as it was at that time: by its id, else by pack_id (a checkout with a plan made for it
 * alone is known by its pack only). *found is false where there is neither. */
MUST_CHECK struct err credits_find_plan(struct pg *pg, struct arena *arena, int64_t tenant,
                                        const char *plan, const char *pack_id, int64_t at_ms,
                                        struct credits_plan *out, bool *found);

/* Whether the payment has been credited before. */
MUST_CHECK struct err credits_is_granted(struct pg *pg, int64_t tenant, const char *payment,
                                         bool *out);

struct credits_grant {
    int64_t tenant;
    const char *user;
    const char *payment;
    const char *event_id;
    const struct credits_plan *plan;
    const char *flag; /* "" for none */
};

/* Ledger row and balance together, once per payment: *granted is false where it was there already.
 * An open review of the payment is closed by it. */
MUST_CHECK struct err credits_grant_payment(struct pg *pg, const struct credits_grant *grant,
                                            bool *granted);

/* Puts the payment on the review list; one that is there keeps its state, and its reason becomes
 * the newest. */
MUST_CHECK struct err credits_review_payment(struct pg *pg, int64_t tenant, const char *payment,
                                             const char *event_id, const char *reason);

#endif
