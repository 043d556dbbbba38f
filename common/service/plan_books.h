#ifndef WHOPLINE_PLAN_BOOKS_H
#define WHOPLINE_PLAN_BOOKS_H
/* Whop's list of plans beside whop_plans: what is new there, what has another name or price, what
 * is gone. Nothing here changes anything at Whop, and never does Whop say what a plan sells: a new
 * one sells what its pack (metadata.packId) sells here, or nothing.
 *
 * The price of a plan that renews is its renewal's, of any other its first one; a first price
 * besides the renewal's is told and not kept. Blocking; the connection's thread. */
#include "service/plans.h"
#include "service/whop.h"

enum plan_finding {
    PLAN_FOUND_NEW,
    PLAN_FOUND_CHANGED,
    PLAN_FOUND_SAME,
    PLAN_FOUND_ODD,      /* told in a way that cannot be taken; why says how */
    PLAN_FOUND_LEFT_OUT, /* on purpose: why */
    PLAN_FOUND_MISSING,  /* on sale here, and not in Whop's list; nothing is done about it */
};
const char *plan_finding_name(enum plan_finding finding); /* "new" */

/* One of Whop's plans, or of ours that Whop does not have. Texts in the arena, never NULL. */
struct plan_line {
    const char *id;
    enum plan_finding finding;
    const char *why; /* "" for nothing to say */
    bool archived;   /* at Whop */
    bool first_too;  /* a first price besides the renewal's */
    /* As at Whop. */
    const char *product;
    const char *name; /* "" where it has none */
    const char *pack;
    const char *title; /* of whatever length */
    const char *token; /* metadata.whopline_request */
    const char *currency;
    int64_t price_minor;
    bool is_hidden_single; /* paid once and hidden: such plans are made for single orders */
    /* As here, if it is on sale; what a new one is to sell. */
    const char *old_name;
    const char *old_currency;
    int64_t old_price_minor; /* -1: none */
    int64_t credits;
};

struct plan_books {
    struct arena *arena;
    const char *product;      /* only of this one; NULL: all */
    const char *const *names; /* only these; they are taken also where they would be left out */
    size_t name_count;        /* 0: all */
    int64_t most;             /* of Whop's plans */
    struct plan_line *lines;  /* in the order of Whop's list, those of ours behind them */
    size_t count;
};

/* All pages; no transaction may be open. NOT_FOUND if one of the names is not there at all;
 * TOO_LARGE if there are more than most. */
MUST_CHECK struct err plan_books_read(struct plan_books *books, struct whop *whop);
/* Lays them beside ours. In the caller's transaction, which then holds up other changes. */
MUST_CHECK struct err plan_books_compare(struct plan_books *books, struct pg *pg, int64_t tenant);
/* Enters what is new and what has changed, with its row of the audit log each. Likewise. */
MUST_CHECK struct err plan_books_apply(struct plan_books *books, struct pg *pg, int64_t tenant,
                                       const char *actor, const char *reason);

#endif
