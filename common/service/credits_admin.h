#ifndef WHOPLINE_CREDITS_ADMIN_H
#define WHOPLINE_CREDITS_ADMIN_H
/* What an operator does to credits by hand. The rules are SQL (schema/sql/007_orders.sql).
 *
 * Blocking; the connection's thread; errors are those of io/pg. Verbs make a transaction of their
 * own, with the audit row in it; asked twice, or by two at once, a thing is done once. */
#include "io/pg.h"

enum { CREDITS_TEXT_SIZE = 64 };

/* --- moving credits -------------------------------------------------------------------------- */

struct credits_wish {
    int64_t tenant;
    const char *company; /* the tenant's slug or company id */
    const char *user;
    int64_t credits;     /* of an adjustment signed */
    const char *request; /* an id: with it a wish is done once */
    const char *reason;
    const char *actor;
    bool open_account; /* adjust: make the account if there is none */
    int64_t hold_s;    /* hold: for so long */
};

enum credits_verb {
    CREDITS_ADJUST,
    CREDITS_SPEND,
    CREDITS_HOLD,
    CREDITS_CAPTURE, /* of a hold: so many of its credits, the rest is given back */
    CREDITS_RELEASE, /* of a hold: none */
};

struct credits_reply {
    bool done;                      /* now; false: see result */
    char result[CREDITS_TEXT_SIZE]; /* adjusted spent held captured released; repeated conflict
                                     * insufficient invalid unknown expired */
    bool has_available;
    int64_t available; /* the balance less what is held */
};

MUST_CHECK struct err credits_move(struct pg *pg, enum credits_verb verb,
                                   const struct credits_wish *wish, struct credits_reply *out);

/* --- the review list ------------------------------------------------------------------------- */

enum review_verb {
    REVIEW_ASSIGN,  /* to wish.user; credits 0: as many as the plan sells */
    REVIEW_DISMISS, /* nobody gets credits for it */
    REVIEW_REOPEN,  /* takes a dismissal back */
};

struct review_deed {
    bool done;
    char result[CREDITS_TEXT_SIZE];  /* assigned dismissed reopened; not_open not_dismissed not_paid
                                      * undecided (nothing was done: state says why), or "" where
                                      * the payment is not on the list */
    char state[CREDITS_TEXT_SIZE];   /* the payment's now: credited, dismissed, open, a reason */
    char done_by[CREDITS_TEXT_SIZE]; /* who decided it */
    char done_at[CREDITS_TEXT_SIZE];
    char owner[CREDITS_TEXT_SIZE];
    int64_t credits;
};

MUST_CHECK struct err credits_review_decide(struct pg *pg, enum review_verb verb, int64_t tenant,
                                            const char *payment, const char *user, int64_t credits,
                                            const char *actor, const char *reason,
                                            struct review_deed *out);

/* --- how a tenant wants it ------------------------------------------------------------------- */

/* NULL leaves a thing as it is. Booleans as "true" and "false". */
struct credits_settings {
    const char *enabled;
    const char *negative; /* allow_negative, clamp */
    const char *email_match;
    const char *whop; /* off, listed, on */
    struct pg_array *add_users;
    struct pg_array *remove_users;
    const char *order_ttl_hours;
};

/* *changed: false if all of it was so. */
MUST_CHECK struct err credits_set(struct pg *pg, int64_t tenant, const char *slug,
                                  const struct credits_settings *settings, const char *actor,
                                  const char *reason, bool *changed);

/* What the environment says of a tenant that has no settings of its own yet. Nothing is written
 * where that is the defaults. CONFIG for a policy that nobody knows. */
struct config;
MUST_CHECK struct err credits_bootstrap(struct pg *pg, const char *company_id,
                                        const struct config *config);

/* --- applications ---------------------------------------------------------------------------- */

/* A role may read balances (user_profiles) and call spend, hold, capture, release and available;
 * or no longer. REFUSED for a role that may more than that by itself. */
MUST_CHECK struct err credits_allow(struct pg *pg, const char *role, bool revoke,
                                    const char *actor);

#endif
