#include "service/order_whop.h"

#include "base/clock.h"
#include "codec/money.h"
#include "service/audit.h"
#include "service/store.h"

#include <ctype.h>
#include <stdio.h>

/* --- the job that calls ---------------------------------------------------------------------- */

static struct err add_job(struct pg *pg, enum job_kind kind, int64_t tenant, const char *order,
                          const char *request)
{
    const struct order_call payload = {.order = order, .request = request};
    struct buf packed = {0};
    int64_t rebuilds;
    char key[96];
    struct err err = payload_encode(PAYLOAD_order_call, &payload, &packed);
    snprintf(key, sizeof key, "%lld/%s", (long long)tenant, order);
    struct outgoing job = {.kind = kind,
                           .tenant = tenant,
                           .key = key,
                           .event_id = "",
                           .trace = order,
                           .occurred_ms = clock_wall_ms(),
                           .created_ms = clock_wall_ms(),
                           .version = job_type(kind)->version,
                           .payload = buf_span(&packed)};
    random_uuid(job.id);
    if (!err_failed(&err))
        err = store_insert_jobs(pg, &job, 1, &rebuilds);
    buf_close(&packed);
    return err;
}

/* --- checkouts ------------------------------------------------------------------------------- */

static struct err check_switch(struct pg *pg, int64_t tenant, const char *user)
{
    TRY(PG_EXEC(pg, "SELECT credits_whop_payments($1, $2)", pg_integer(tenant), pg_text(user)));
    if (pg_get_flag(pg, 0, 0))
        return ERR_NONE;
    return err_make(ERR_REFUSED,
                    "payments at Whop are switched off for %.60s: see whopline credits"
                    " settings, or make a manual order",
                    user);
}

static struct err create(struct pg *pg, const struct order_new *order, char out[UUID_TEXT_SIZE])
{
    TRY(check_switch(pg, order->tenant, order->user));
    TRY(order_insert(pg, order, ORDER_BY_WHOP, out));
    TRY(add_job(pg, JOB_credits_checkout, order->tenant, out, ""));
    const struct audit audit = {
        .actor = order->actor, .action = "orders.create", .target = out, .reason = order->notes};
    return audit_add(pg, &audit);
}

/* Ends the transaction that the caller has begun, either way. */
static struct err conclude(struct pg *pg, struct err err)
{
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

struct err order_whop_create(struct pg *pg, const struct order_new *order, char out[UUID_TEXT_SIZE])
{
    TRY(pg_begin(pg));
    return conclude(pg, create(pg, order, out));
}

static struct err convert(struct pg *pg, int64_t tenant, const char *id, const char *actor)
{
    TRY(PG_EXEC(pg,
                "SELECT a.owner_id, o.state FROM credit_orders o"
                " JOIN credit_accounts a ON a.id = o.account_id"
                " WHERE o.id = credits_uuid($1) AND o.tenant_id = $2 FOR NO KEY UPDATE OF o",
                pg_text(id), pg_integer(tenant)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %.60s", id);
    if (strcmp(pg_get(pg, 0, 1), "requested") != 0)
        return err_make(ERR_REFUSED,
                        "the order is %.40s: only one that waits for approval can be"
                        " paid at Whop instead",
                        pg_get(pg, 0, 1));
    char user[ORDER_TEXT_SIZE];
    snprintf(user, sizeof user, "%s", pg_get(pg, 0, 0));
    TRY(check_switch(pg, tenant, user));
    TRY(PG_EXEC(pg,
                "UPDATE credit_orders SET payment_method = 'whop',"
                " expires_at = whopline_now() + credits_order_ttl(tenant_id)"
                " WHERE id = credits_uuid($1)",
                pg_text(id)));
    TRY(PG_EXEC(pg,
                "SELECT credit_orders_move(credits_uuid($1), 'created', NULL, $2,"
                " 'to be paid at Whop')",
                pg_text(id), pg_text(actor)));
    TRY(add_job(pg, JOB_credits_checkout, tenant, id, ""));
    const struct audit audit = {
        .actor = actor, .action = "orders.convert", .target = id, .reason = ""};
    return audit_add(pg, &audit);
}

struct err order_whop_convert(struct pg *pg, int64_t tenant, const char *id, const char *actor)
{
    TRY(pg_begin(pg));
    return conclude(pg, convert(pg, tenant, id, actor));
}

/* --- refunds --------------------------------------------------------------------------------- */

enum { REQUEST_MAX = 100 };

static struct err check_refund(const struct order_refund *refund)
{
    size_t len = strlen(refund->request);
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)refund->request[i]))
            len = 0;
    if (len == 0 || len > REQUEST_MAX)
        return err_make(ERR_USAGE, "a request's id has 1 to %d printable characters, no spaces",
                        REQUEST_MAX);
    if (refund->amount != NULL && money_sign(refund->amount) != MONEY_POSITIVE)
        return err_make(ERR_USAGE,
                        "\"%.40s\" is no amount to refund: digits, and a fraction or"
                        " none",
                        refund->amount);
    return ERR_NONE;
}

/* A request of this id is there: it must be the same, or who asks would wait for a refund that
 * nobody has asked for. */
static struct err check_repeated(struct pg *pg, const struct order_refund *refund)
{
    TRY(PG_EXEC(pg,
                "SELECT order_id = credits_uuid($3) AND amount IS NOT DISTINCT FROM $4::numeric,"
                " order_id, COALESCE(trim_scale(amount)::text, 'all that was left')"
                " FROM credit_refund_requests WHERE tenant_id = $1 AND request_id = $2",
                pg_integer(refund->tenant), pg_text(refund->request), pg_text(refund->order),
                pg_text(refund->amount)));
    if (pg_rows(pg) == 1 && pg_get_flag(pg, 0, 0))
        return ERR_NONE;
    return err_make(ERR_REFUSED,
                    "request %.60s was for %.40s of order %.40s: use another id for another refund",
                    refund->request, pg_rows(pg) == 1 ? pg_get(pg, 0, 2) : "a part",
                    pg_rows(pg) == 1 ? pg_get(pg, 0, 1) : "another");
}

static struct err request_refund(struct pg *pg, const struct order_refund *refund, bool *is_new)
{
    TRY(PG_EXEC(pg,
                "SELECT state, whop_payment_id FROM credit_orders"
                " WHERE id = credits_uuid($1) AND tenant_id = $2 FOR NO KEY UPDATE",
                pg_text(refund->order), pg_integer(refund->tenant)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %.60s", refund->order);
    if (pg_is_null(pg, 0, 1))
        return err_make(ERR_REFUSED, "the order is %.40s: nothing has been paid for it at Whop",
                        pg_get(pg, 0, 0));
    char payment[ORDER_TEXT_SIZE];
    snprintf(payment, sizeof payment, "%s", pg_get(pg, 0, 1));
    TRY(PG_EXEC(pg,
                "SELECT request_id FROM credit_refund_requests WHERE tenant_id = $1"
                " AND whop_payment_id = $2 AND state = 'requested' AND request_id <> $3",
                pg_integer(refund->tenant), pg_text(payment), pg_text(refund->request)));
    if (pg_rows(pg) > 0)
        return err_make(ERR_REFUSED,
                        "another refund of %.40s is under way (request %.60s): wait"
                        " for its end",
                        payment, pg_get(pg, 0, 0));
    TRY(PG_EXEC(pg,
                "INSERT INTO credit_refund_requests (tenant_id, order_id, request_id, amount,"
                " whop_payment_id, actor, reason)"
                " VALUES ($1, credits_uuid($2), $3, $4::numeric, $5, $6, $7)"
                " ON CONFLICT (tenant_id, request_id) DO NOTHING",
                pg_integer(refund->tenant), pg_text(refund->order), pg_text(refund->request),
                pg_text(refund->amount), pg_text(payment), pg_text(refund->actor),
                pg_text(refund->reason)));
    *is_new = pg_affected(pg) == 1;
    if (!*is_new)
        return check_repeated(pg, refund);
    TRY(add_job(pg, JOB_credits_refund_call, refund->tenant, refund->order, refund->request));
    const struct audit audit = {.actor = refund->actor,
                                .action = "orders.refund",
                                .target = refund->order,
                                .reason = refund->reason};
    return audit_add(pg, &audit);
}

struct err order_whop_refund(struct pg *pg, const struct order_refund *refund, bool *is_new)
{
    TRY(check_refund(refund));
    TRY(pg_begin(pg));
    return conclude(pg, request_refund(pg, refund, is_new));
}

/* --- time ------------------------------------------------------------------------------------ */

enum { EXPIRE_MAX = 500 };

struct err order_whop_expire(struct pg *pg, int64_t *expired)
{
    *expired = 0;
    TRY(PG_EXEC(pg, "SELECT credit_orders_expire($1::integer)", pg_integer(EXPIRE_MAX)));
    *expired = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}
