#ifndef WHOPLINE_PLANS_H
#define WHOPLINE_PLANS_H
/* What plans sell, in versions: a payment is worth what its plan sold when it was paid. A version
 * is ended, never changed or deleted; of one plan, or one pack, there is at most one at a time,
 * which the table sees to itself.
 *
 * Blocking; the connection's thread; errors are those of io/pg. Every verb is part of a transaction
 * that the caller has begun. REFUSED says what to do. */
#include "io/pg.h"

enum { PLAN_CREDITS_MAX = 2000000000 };

enum plan_flag { PLAN_KEEP, PLAN_NO, PLAN_YES };

/* Texts are borrowed. When a plan is changed, NULL, -1 and KEEP leave things as they are. */
struct plan {
    const char *id; /* plan_... */
    const char *name;
    const char *pack;     /* metadata.packId that finds it too; "": none */
    const char *currency; /* with the price */
    const char *product;  /* prod_...; only kept, never compared */
    const char
        *proration;  /* of a change in mid-period: none, difference, full; "": a person decides */
    int64_t credits; /* 0: it sells none */
    int64_t price_minor;
    enum plan_flag if_free; /* whether a payment of 0 is granted */
};

enum plan_result { PLAN_ADDED, PLAN_CHANGED, PLAN_SAME };

/* Its first version holds for all of the past, a later one from now on. REFUSED if it, or its pack,
 * is on sale, or the pack is promised to one that Whop is asked to make (service/plan_whop.h). */
MUST_CHECK struct err plan_add(struct pg *pg, int64_t tenant, const struct plan *plan);
/* Likewise, but from now on: what was paid before stays with a person. */
MUST_CHECK struct err plan_add_from_now(struct pg *pg, int64_t tenant, const struct plan *plan);
/* Whether plan_add would take it. Nothing changes but that changes of this tenant's plans wait. */
MUST_CHECK struct err plan_check_new(struct pg *pg, int64_t tenant, const struct plan *plan);
/* Ends the version on sale and begins another, unless nothing differs. NOT_FOUND if none is. */
MUST_CHECK struct err plan_update(struct pg *pg, int64_t tenant, const struct plan *plan,
                                  enum plan_result *out);
/* Either. */
MUST_CHECK struct err plan_put(struct pg *pg, int64_t tenant, const struct plan *plan,
                               enum plan_result *out);
/* Ends what is on sale. */
MUST_CHECK struct err plan_retire(struct pg *pg, int64_t tenant, const char *id);

#endif
