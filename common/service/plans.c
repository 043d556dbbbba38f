#include "service/plans.h"

enum { PARAMS = 10 };

static void bind(int64_t tenant, const struct plan *plan, struct pg_param out[PARAMS])
{
    out[0] = pg_integer(tenant);
    out[1] = pg_text(plan->id);
    out[2] = pg_text(plan->name);
    out[3] = pg_text(plan->pack);
    out[4] = plan->credits >= 0 ? pg_integer(plan->credits) : pg_text(NULL);
    out[5] = plan->price_minor >= 0 ? pg_integer(plan->price_minor) : pg_text(NULL);
    out[6] = pg_text(plan->currency);
    out[7] = plan->if_free == PLAN_KEEP ? pg_text(NULL) : pg_flag(plan->if_free == PLAN_YES);
    out[8] = pg_text(plan->proration);
    out[9] = pg_text_or_null(plan->product != NULL ? plan->product : "");
}

/* Changes of a tenant's plans take turns. */
static struct err lock(struct pg *pg, int64_t tenant)
{
    return PG_EXEC(pg, "SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE", pg_integer(tenant));
}

/* A pack that a plan will have as soon as Whop has made or changed it. */
static struct err check_promised(struct pg *pg, int64_t tenant, const struct plan *plan)
{
    if (plan->pack == NULL || text_is_empty(plan->pack))
        return ERR_NONE;
    TRY(PG_EXEC(pg,
                "SELECT request_id FROM whop_plan_requests WHERE tenant_id = $1 AND pack_id = $2"
                " AND state = 'requested' AND (whop_plan_id = $3::text) IS NOT TRUE",
                pg_integer(tenant), pg_text(plan->pack), pg_text(plan->id)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    return err_make(ERR_REFUSED,
                    "pack %.40s is promised to request %.60s: see whopline credits plans requests",
                    plan->pack, pg_get(pg, 0, 0));
}

/* Refuses what would sell two things under one id. */
static struct err check_free(struct pg *pg, int64_t tenant, const struct plan *plan)
{
    TRY(PG_EXEC(pg,
                "SELECT whop_plan_id = $2, whop_plan_id, plan_name FROM whop_plans"
                " WHERE tenant_id = $1 AND valid_to = 'infinity'"
                " AND (whop_plan_id = $2 OR pack_id = $3) ORDER BY 1 DESC LIMIT 1",
                pg_integer(tenant), pg_text(plan->id),
                pg_text_or_null(plan->pack != NULL ? plan->pack : "")));
    if (pg_rows(pg) == 0)
        return check_promised(pg, tenant, plan);
    if (pg_get_flag(pg, 0, 0))
        return err_make(ERR_REFUSED,
                        "%.60s is on sale already as \"%.40s\": plans update changes its terms, or "
                        "retire it first",
                        plan->id, pg_get(pg, 0, 2));
    return err_make(ERR_REFUSED, "pack %.60s belongs to plan %.60s", plan->pack, pg_get(pg, 0, 1));
}

struct err plan_check_new(struct pg *pg, int64_t tenant, const struct plan *plan)
{
    TRY(lock(pg, tenant));
    return check_free(pg, tenant, plan);
}

static struct err add(struct pg *pg, int64_t tenant, const struct plan *plan, bool from_now)
{
    struct pg_param params[PARAMS + 1];
    TRY(plan_check_new(pg, tenant, plan));
    bind(tenant, plan, params);
    params[PARAMS] = pg_flag(from_now);
    return pg_exec(pg,
                   "INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, pack_id,"
                   " credits_amount, price_cents, currency, credits_when_free, proration_rule,"
                   " whop_product_id, valid_from)"
                   " SELECT $1, $2, $3, nullif($4::text, ''), $5, $6, lower($7::text),"
                   " coalesce($8::boolean, false), nullif($9::text, ''), $10,"
                   " CASE WHEN $11::boolean OR EXISTS (SELECT FROM whop_plans WHERE tenant_id = $1"
                   "  AND (whop_plan_id = $2 OR pack_id = $4))"
                   " THEN whopline_now() ELSE '-infinity' END",
                   params, PARAMS + 1);
}

struct err plan_add(struct pg *pg, int64_t tenant, const struct plan *plan)
{
    return add(pg, tenant, plan, false);
}

struct err plan_add_from_now(struct pg *pg, int64_t tenant, const struct plan *plan)
{
    return add(pg, tenant, plan, true);
}

/* The terms as they shall be, of the version on sale. */
#define WANTED                                                                                     \
    "coalesce($3::text, plan_name),"                                                               \
    " CASE WHEN $4::text IS NULL THEN pack_id ELSE nullif($4::text, '') END,"                      \
    " coalesce($5::integer, credits_amount), coalesce($6::bigint, price_cents),"                   \
    " coalesce(lower($7::text), currency), coalesce($8::boolean, credits_when_free),"              \
    " CASE WHEN $9::text IS NULL THEN proration_rule ELSE nullif($9::text, '') END"
#define TERMS                                                                                      \
    "plan_name, pack_id, credits_amount, price_cents, currency, credits_when_free,"                \
    " proration_rule"
#define ON_SALE " WHERE tenant_id = $1 AND whop_plan_id = $2 AND valid_to = 'infinity'"

/* found: whether it is on sale. */
static struct err change(struct pg *pg, int64_t tenant, const struct plan *plan, bool *found,
                         enum plan_result *out)
{
    struct pg_param params[PARAMS];
    bind(tenant, plan, params);
    *out = PLAN_SAME;
    TRY(lock(pg, tenant));
    TRY(check_promised(pg, tenant, plan));
    TRY(pg_exec(pg,
                "SELECT (" WANTED ") IS DISTINCT FROM (" TERMS "), valid_from < whopline_now()"
                " FROM whop_plans" ON_SALE,
                params, PARAMS - 1));
    *found = pg_rows(pg) == 1;
    if (!*found || !pg_get_flag(pg, 0, 0))
        return ERR_NONE;
    if (!pg_get_flag(pg, 0, 1))
        return err_make(ERR_REFUSED,
                        "%.60s was changed by somebody else just now: look, and run it "
                        "again",
                        plan->id);
    *out = PLAN_CHANGED;
    TRY(PG_EXEC(pg,
                "UPDATE whop_plans SET valid_to = whopline_now(),"
                " updated_at = whopline_now()" ON_SALE " RETURNING id",
                pg_integer(tenant), pg_text(plan->id)));
    params[1] = pg_integer(pg_get_integer(pg, 0, 0));
    return pg_exec(pg,
                   "INSERT INTO whop_plans (tenant_id, whop_plan_id, whop_product_id, valid_from,"
                   " " TERMS
                   ") SELECT tenant_id, whop_plan_id, coalesce($10, whop_product_id), valid_to,"
                   " " WANTED " FROM whop_plans WHERE tenant_id = $1 AND id = $2",
                   params, PARAMS);
}

static struct err not_on_sale(const char *id)
{
    return err_make(ERR_NOT_FOUND, "no plan %.60s is on sale", id);
}

struct err plan_update(struct pg *pg, int64_t tenant, const struct plan *plan,
                       enum plan_result *out)
{
    bool found;
    TRY(change(pg, tenant, plan, &found, out));
    return found ? ERR_NONE : not_on_sale(plan->id);
}

struct err plan_put(struct pg *pg, int64_t tenant, const struct plan *plan, enum plan_result *out)
{
    bool found;
    TRY(change(pg, tenant, plan, &found, out));
    if (found)
        return ERR_NONE;
    *out = PLAN_ADDED;
    return plan_add(pg, tenant, plan);
}

struct err plan_retire(struct pg *pg, int64_t tenant, const char *id)
{
    TRY(lock(pg, tenant));
    TRY(PG_EXEC(
        pg, "UPDATE whop_plans SET valid_to = whopline_now(), updated_at = whopline_now()" ON_SALE,
        pg_integer(tenant), pg_text(id)));
    return pg_affected(pg) > 0 ? ERR_NONE : not_on_sale(id);
}
