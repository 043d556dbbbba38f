#include "service/orders.h"

#include "codec/money.h"
#include "service/audit.h"

#include <stdio.h>

/* --- asking ---------------------------------------------------------------------------------- */

/* An order's terms: its own, else its plan's. */
struct terms {
    int64_t plan_id; /* 0: none */
    char name[128];
    int64_t credits;
    char price[MONEY_TEXT_SIZE];
    char currency[16];
    bool own;
};

static struct err take_plan(struct pg *pg, const struct order_new *order, struct terms *out)
{
    TRY(PG_EXEC(pg,
                "SELECT id, plan_name, credits_amount, price_cents, currency FROM whop_plans"
                " WHERE tenant_id = $1 AND whop_plan_id = $2 AND valid_from <= whopline_now()"
                " AND whopline_now() < valid_to",
                pg_integer(order->tenant), pg_text(order->plan)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "no plan %.60s is on sale: see whopline credits plans",
                        order->plan);
    out->plan_id = pg_get_integer(pg, 0, 0);
    out->credits = pg_get_integer(pg, 0, 2);
    snprintf(out->name, sizeof out->name, "%s", pg_get(pg, 0, 1));
    snprintf(out->currency, sizeof out->currency, "%s", pg_get(pg, 0, 4));
    if (!pg_is_null(pg, 0, 3) && !pg_is_null(pg, 0, 4))
        money_format_minor(pg_get_integer(pg, 0, 3), out->currency, out->price);
    return ERR_NONE;
}

static struct err find_terms(struct pg *pg, const struct order_new *order, struct terms *out)
{
    int64_t minor;
    *out = (struct terms){.own = order->plan == NULL || order->credits > 0 || order->price != NULL};
    if (order->plan != NULL)
        TRY(take_plan(pg, order, out));
    if (order->credits > 0)
        out->credits = order->credits;
    if (order->name != NULL)
        snprintf(out->name, sizeof out->name, "%s", order->name);
    if (order->price != NULL) {
        if (order->currency == NULL || !money_parse_minor(order->price, order->currency, &minor))
            return err_make(ERR_USAGE, "\"%.40s\" is not a price in %.8s", order->price,
                            order->currency != NULL ? order->currency : "no currency");
        snprintf(out->price, sizeof out->price, "%s", order->price);
        snprintf(out->currency, sizeof out->currency, "%s", order->currency);
    }
    if (out->credits <= 0)
        return err_make(ERR_REFUSED,
                        "the order sells no credits: name a plan that does, or a number");
    if (out->price[0] == '\0')
        return err_make(ERR_REFUSED, "the order has no price: its plan has none, so give one");
    if (out->name[0] == '\0')
        return err_make(ERR_USAGE, "an order without a plan needs a name");
    return ERR_NONE;
}

static struct err open_already(struct pg *pg, int64_t account)
{
    TRY(PG_EXEC(pg, "SELECT id FROM credit_orders WHERE account_id = $1 AND state = 'requested'",
                pg_integer(account)));
    return err_make(ERR_REFUSED, "the account has an open manual order: approve or cancel %s first",
                    pg_rows(pg) > 0 ? pg_get(pg, 0, 0) : "it");
}

struct err order_insert(struct pg *pg, const struct order_new *order, enum order_method method,
                        char out[UUID_TEXT_SIZE])
{
    bool by_whop = method == ORDER_BY_WHOP;
    struct terms terms;
    TRY(find_terms(pg, order, &terms));
    TRY(PG_EXEC(pg, "SELECT credits_open_account($1, $2)", pg_integer(order->tenant),
                pg_text(order->user)));
    int64_t account = pg_get_integer(pg, 0, 0);
    TRY(PG_EXEC(
        pg,
        "WITH made AS (INSERT INTO credit_orders (tenant_id, account_id, plan_id,"
        "  whop_plan_id, plan_name, credits_amount, own_price, price, currency,"
        "  payment_method, state, requested_by, notes, expires_at)"
        "  VALUES ($1, $2, nullif($3, 0), $4, $5, $6, $7, $8, lower($9), $12, $13, $10, $11,"
        "  CASE WHEN $12 = 'whop' THEN whopline_now() + credits_order_ttl($1) END)"
        "  ON CONFLICT (account_id) WHERE state = 'requested' DO NOTHING RETURNING id),"
        " told AS (INSERT INTO credit_order_history (order_id, to_state, actor, reason)"
        "  SELECT id, $13, $10, $13 FROM made)"
        " SELECT id FROM made",
        pg_integer(order->tenant), pg_integer(account), pg_integer(terms.plan_id),
        pg_text(order->plan), pg_text(terms.name), pg_integer(terms.credits), pg_flag(terms.own),
        pg_text(terms.price), pg_text(terms.currency), pg_text(order->actor), pg_text(order->notes),
        pg_text(by_whop ? "whop" : "manual"), pg_text(by_whop ? "created" : "requested")));
    if (pg_rows(pg) == 0)
        return open_already(pg, account);
    snprintf(out, UUID_TEXT_SIZE, "%s", pg_get(pg, 0, 0));
    return ERR_NONE;
}

struct err order_request(struct pg *pg, const struct order_new *order, char out[UUID_TEXT_SIZE])
{
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = order_insert(pg, order, ORDER_MANUAL, out);
    const struct audit audit = {
        .actor = order->actor, .action = "orders.create", .target = out, .reason = order->notes};
    if (!err_failed(&err))
        err = audit_add(pg, &audit);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

/* --- deciding -------------------------------------------------------------------------------- */

static struct err act(struct pg *pg, const char *sql, int64_t tenant, const struct audit *audit,
                      struct order_deed *out)
{
    TRY(PG_EXEC(pg, "SELECT FROM credit_orders WHERE id = $1 AND tenant_id = $2",
                pg_text(audit->target), pg_integer(tenant)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %.60s", audit->target);
    TRY(PG_EXEC(pg, sql, pg_text(audit->target), pg_text(audit->actor), pg_text(audit->reason)));
    *out = (struct order_deed){.done = strcmp(pg_get(pg, 0, 0), "not_open") != 0,
                               .credits = pg_get_integer(pg, 0, 4)};
    snprintf(out->state, sizeof out->state, "%s", pg_get(pg, 0, 1));
    snprintf(out->done_by, sizeof out->done_by, "%s", pg_get(pg, 0, 2));
    snprintf(out->done_at, sizeof out->done_at, "%s", pg_get(pg, 0, 3));
    snprintf(out->owner, sizeof out->owner, "%s", pg_get(pg, 0, 5));
    return out->done ? audit_add(pg, audit) : ERR_NONE;
}

static struct err decide(struct pg *pg, const char *sql, int64_t tenant, const struct audit *audit,
                         struct order_deed *out)
{
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = act(pg, sql, tenant, audit, out);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

#define TOLD                                                                                       \
    "SELECT d.result, d.state, d.done_by, to_char(d.done_at AT TIME ZONE 'UTC',"                   \
    " 'YYYY-MM-DD HH24:MI:SS'), d.credits, d.owner FROM "

struct err order_approve(struct pg *pg, int64_t tenant, const char *id, const char *actor,
                         const char *reason, struct order_deed *out)
{
    const struct audit audit = {
        .actor = actor, .action = "orders.approve", .target = id, .reason = reason};
    return decide(pg, TOLD "credit_orders_approve($1, $2, $3) d", tenant, &audit, out);
}

struct err order_cancel(struct pg *pg, int64_t tenant, const char *id, const char *actor,
                        const char *reason, struct order_deed *out)
{
    const struct audit audit = {
        .actor = actor, .action = "orders.cancel", .target = id, .reason = reason};
    return decide(pg, TOLD "credit_orders_cancel($1, $2, $3) d", tenant, &audit, out);
}
