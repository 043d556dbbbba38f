#ifndef WHOPLINE_ORDERS_H
#define WHOPLINE_ORDERS_H
/* Wishes to buy credits, from their making to their end (credit_orders). States move in SQL alone
 * (credit_orders_move, schema/sql/007_orders.sql), which also writes their history.
 *
 *   manual:  requested -> approved -> credited        requested -> cancelled
 *
 * Blocking; the connection's thread; errors are those of io/pg, and REFUSED or NOT_FOUND, which say
 * what to do. Verbs make a transaction of their own, with the audit row in it, and may be called by
 * many at once: a deed is done by whoever is first. */
#include "base/random.h"
#include "io/pg.h"

enum { ORDER_CREDITS_MAX = 2000000000, ORDER_TEXT_SIZE = 64 };

struct order_new {
    int64_t tenant;
    const char *user;     /* user_...; gets an account if it has none */
    const char *plan;     /* what is on sale; NULL: terms of its own */
    const char *name;     /* shown; NULL: the plan's */
    int64_t credits;      /* 0: the plan's */
    const char *price;    /* major units, "7.50"; NULL: the plan's */
    const char *currency; /* with the price */
    const char *notes;    /* "" for none */
    const char *actor;
};

enum order_method {
    ORDER_MANUAL,  /* requested: a person approves it */
    ORDER_BY_WHOP, /* created: service/order_whop gets it a checkout */
};
/* The order's row and the first of its history, in the caller's transaction. REFUSED where its
 * terms are not whole, or, for a manual one, if the account has one open. out: its id. */
MUST_CHECK struct err order_insert(struct pg *pg, const struct order_new *order,
                                   enum order_method method, char out[UUID_TEXT_SIZE]);

/* Asks for a manual order. REFUSED if the account has one open. out: its id. */
MUST_CHECK struct err order_request(struct pg *pg, const struct order_new *order,
                                    char out[UUID_TEXT_SIZE]);

/* What became of an order. */
struct order_deed {
    bool done;                     /* by us, now; false: it was not open any more */
    char state[ORDER_TEXT_SIZE];   /* the order's now */
    char done_by[ORDER_TEXT_SIZE]; /* who brought it there, and when */
    char done_at[ORDER_TEXT_SIZE];
    char owner[ORDER_TEXT_SIZE];
    int64_t credits;
};

/* Grants a manual order's credits. */
MUST_CHECK struct err order_approve(struct pg *pg, int64_t tenant, const char *id,
                                    const char *actor, const char *reason, struct order_deed *out);
/* Ends an order that is not paid; a late payment goes to the review list. */
MUST_CHECK struct err order_cancel(struct pg *pg, int64_t tenant, const char *id, const char *actor,
                                   const char *reason, struct order_deed *out);

#endif
