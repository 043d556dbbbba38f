#include "service/credits.h"

#include "codec/money.h"

/* Ids are kept once known: an event may leave out what the credential may not see. */
static const char upsert_payment[] =
    "INSERT INTO payments AS old (tenant_id, whop_payment_id, whop_user_id, whop_membership_id,"
    " whop_plan_id, whop_checkout_id, pack_id, status, substatus, billing_reason, amount,"
    " amount_text, currency, paid_at, version_at, event_id) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::numeric, $12, $13,"
    " whopline_from_ms($14::bigint), whopline_from_ms($15::bigint), $16) "
    "ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET"
    " whop_user_id = COALESCE(old.whop_user_id, EXCLUDED.whop_user_id),"
    " whop_membership_id = COALESCE(old.whop_membership_id, EXCLUDED.whop_membership_id),"
    " whop_plan_id = COALESCE(old.whop_plan_id, EXCLUDED.whop_plan_id),"
    " whop_checkout_id = COALESCE(old.whop_checkout_id, EXCLUDED.whop_checkout_id),"
    " pack_id = COALESCE(old.pack_id, EXCLUDED.pack_id),"
    " paid_at = COALESCE(old.paid_at, EXCLUDED.paid_at),"
    " billing_reason = COALESCE(old.billing_reason, EXCLUDED.billing_reason),"
    " amount = COALESCE(old.amount, EXCLUDED.amount),"
    " amount_text = COALESCE(old.amount_text, EXCLUDED.amount_text),"
    " currency = COALESCE(old.currency, EXCLUDED.currency),"
    " status = CASE WHEN EXCLUDED.version_at >= old.version_at"
    "  THEN COALESCE(EXCLUDED.status, old.status) ELSE old.status END,"
    " substatus = CASE WHEN EXCLUDED.version_at >= old.version_at"
    "  THEN COALESCE(EXCLUDED.substatus, old.substatus) ELSE old.substatus END,"
    " version_at = GREATEST(old.version_at, EXCLUDED.version_at),"
    " updated_at = whopline_now() "
    "RETURNING whop_user_id, whop_plan_id, pack_id,"
    " COALESCE((extract(epoch FROM paid_at) * 1000)::bigint, 0)";

struct err credits_record_payment(struct pg *pg, struct arena *arena, int64_t tenant,
                                  const struct event *event, struct credits_payment *out)
{
    enum money_sign sign = money_sign(event->amount);
    bool plain = sign == MONEY_POSITIVE || sign == MONEY_ZERO;
    TRY(PG_EXEC(pg, upsert_payment, pg_integer(tenant), pg_text(event->payment),
                pg_text_or_null(event->user), pg_text_or_null(event->membership),
                pg_text_or_null(event->plan), pg_text_or_null(event->checkout),
                pg_text_or_null(event->pack_id), pg_text_or_null(event->status),
                pg_text_or_null(event->substatus), pg_text_or_null(event->billing_reason),
                pg_text(plain ? event->amount : NULL), pg_text_or_null(event->amount),
                pg_text_or_null(event->currency),
                event->paid_ms != 0 ? pg_integer(event->paid_ms) : pg_text(NULL),
                pg_integer(event->occurred_ms), pg_text(event->id)));
    out->user = arena_strdup(arena, pg_get(pg, 0, 0));
    out->plan = arena_strdup(arena, pg_get(pg, 0, 1));
    out->pack_id = arena_strdup(arena, pg_get(pg, 0, 2));
    out->paid_ms = pg_get_integer(pg, 0, 3);
    return ERR_NONE;
}

static struct err find_plan_by(struct pg *pg, struct arena *arena, int64_t tenant, bool by_pack,
                               const char *id, int64_t at_ms, struct credits_plan *out, bool *found)
{
    *found = false;
    if (text_is_empty(id))
        return ERR_NONE;
    TRY(PG_EXEC(pg,
                "SELECT id, plan_name, credits_amount, credits_when_free FROM whop_plans "
                "WHERE tenant_id = $1 AND CASE WHEN $2 THEN pack_id ELSE whop_plan_id END = $3"
                " AND valid_from <= whopline_from_ms($4) AND whopline_from_ms($4) < valid_to "
                "ORDER BY valid_from DESC LIMIT 1",
                pg_integer(tenant), pg_flag(by_pack), pg_text(id), pg_integer(at_ms)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    *out = (struct credits_plan){
        .id = pg_get_integer(pg, 0, 0),
        .name = arena_strdup(arena, pg_get(pg, 0, 1)),
        .credits = pg_get_integer(pg, 0, 2),
        .when_free = pg_get_flag(pg, 0, 3),
    };
    *found = true;
    return ERR_NONE;
}

struct err credits_find_plan(struct pg *pg, struct arena *arena, int64_t tenant, const char *plan,
                             const char *pack_id, int64_t at_ms, struct credits_plan *out,
                             bool *found)
{
    TRY(find_plan_by(pg, arena, tenant, false, plan, at_ms, out, found));
    return *found ? ERR_NONE : find_plan_by(pg, arena, tenant, true, pack_id, at_ms, out, found);
}

struct err credits_is_granted(struct pg *pg, int64_t tenant, const char *payment, bool *out)
{
    TRY(PG_EXEC(pg,
                "SELECT 1 FROM credit_transactions WHERE tenant_id = $1"
                " AND source_type = 'payment' AND source_id = $2 AND kind = 'topup'",
                pg_integer(tenant), pg_text(payment)));
    *out = pg_rows(pg) > 0;
    return ERR_NONE;
}

/* Opens the account if need be and holds its row. */
static struct err lock_account(struct pg *pg, int64_t tenant, const char *user, int64_t *account)
{
    TRY(PG_EXEC(pg,
                "INSERT INTO credit_accounts AS account (tenant_id, owner_type, owner_id) "
                "VALUES ($1, 'whop_user', $2) "
                "ON CONFLICT (tenant_id, owner_type, owner_id) DO UPDATE"
                " SET updated_at = account.updated_at RETURNING id",
                pg_integer(tenant), pg_text(user)));
    *account = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

struct err credits_grant_payment(struct pg *pg, const struct credits_grant *grant, bool *granted)
{
    int64_t account;
    TRY(lock_account(pg, grant->tenant, grant->user, &account));
    /* The unique key decides; the balance moves only if the row went in. */
    TRY(PG_EXEC(
        pg,
        "WITH entry AS ("
        " INSERT INTO credit_transactions (tenant_id, account_id, kind, amount,"
        "  balance_after, source_type, source_id, plan_id, actor, reason, flag, event_id)"
        " SELECT $1::bigint, id, 'topup', $3::bigint, credits_balance + $3::bigint, 'payment', $4,"
        "  $5::bigint, 'whopline-credits', 'payment succeeded', $6, $7"
        " FROM credit_accounts WHERE id = $2"
        " ON CONFLICT (tenant_id, source_type, source_id, kind) DO NOTHING"
        " RETURNING account_id, amount) "
        "UPDATE credit_accounts SET credits_balance = credits_balance + entry.amount,"
        " updated_at = whopline_now() FROM entry WHERE credit_accounts.id = entry.account_id",
        pg_integer(grant->tenant), pg_integer(account), pg_integer(grant->plan->credits),
        pg_text(grant->payment), pg_integer(grant->plan->id), pg_text_or_null(grant->flag),
        pg_text(grant->event_id)));
    *granted = pg_affected(pg) == 1;
    if (!*granted)
        return ERR_NONE;
    return PG_EXEC(pg,
                   "UPDATE credit_review SET state = 'assigned', handled_by = 'whopline-credits',"
                   " handled_at = whopline_now() "
                   "WHERE tenant_id = $1 AND whop_payment_id = $2 AND state = 'open'",
                   pg_integer(grant->tenant), pg_text(grant->payment));
}

struct err credits_review_payment(struct pg *pg, int64_t tenant, const char *payment,
                                  const char *event_id, const char *reason)
{
    return PG_EXEC(pg,
                   "INSERT INTO credit_review AS old (tenant_id, whop_payment_id, reason, event_id)"
                   " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE"
                   " SET reason = EXCLUDED.reason, event_id = EXCLUDED.event_id"
                   " WHERE old.state = 'open'",
                   pg_integer(tenant), pg_text(payment), pg_text(reason), pg_text(event_id));
}
