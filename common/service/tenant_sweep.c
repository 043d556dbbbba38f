#include "service/tenant_sweep.h"

#include "service/quarantine.h"
#include "service/tenant.h"

#include <stdlib.h>

/* A portion is some hundreds; what is beyond comes in the next sweep. */
enum { PORTIONS_MAX = 20 };

/* One that has such a job waiting needs no other: a sweep each minute would otherwise add up while
 * Whop is slow, or while nobody runs them. */
#define NONE_WAITING(kind)                                                                         \
    " AND NOT EXISTS (SELECT FROM jobs j WHERE j.tenant_id = t.id AND j.state = 'queued'"          \
    " AND j.kind = '" kind "')"

static void take_ids(struct pg *pg, struct tenant_ids *out)
{
    out->count = pg_rows(pg);
    for (size_t row = 0; row < out->count; row++)
        out->ids[row] = pg_get_integer(pg, row, 0);
}

struct err tenant_sweep_expiring(struct pg *pg, const struct config *config, struct tenant_ids *out)
{
    TRY(PG_EXEC(pg,
                "SELECT t.id FROM tenant_credentials c JOIN tenants t ON t.id = c.tenant_id"
                " WHERE c.revoked_at IS NULL AND c.kind = 'whop_oauth'"
                " AND c.access_expires_at <= whopline_now() + $1::bigint * interval '1 second'"
                " AND t.status IN ('active', 'permission_missing')" NONE_WAITING(
                    "sync.refresh_token") " ORDER BY c.access_expires_at LIMIT $2::integer",
                pg_integer(config->token_refresh_ahead_seconds), pg_integer(TENANT_SWEEP_MAX)));
    take_ids(pg, out);
    return ERR_NONE;
}

struct err tenant_sweep_lacking(struct pg *pg, const struct config *config, struct tenant_ids *out)
{
    (void)config;
    TRY(PG_EXEC(pg,
                "SELECT id FROM tenants t WHERE status = 'permission_missing'" NONE_WAITING(
                    "sync.check_tenant") " ORDER BY checked_at NULLS FIRST LIMIT $1::integer",
                pg_integer(TENANT_SWEEP_MAX)));
    take_ids(pg, out);
    return ERR_NONE;
}

struct err tenant_sweep_selling(struct pg *pg, const struct config *config, const char *kind,
                                struct tenant_ids *out)
{
    TRY(PG_EXEC(pg,
                "SELECT id FROM tenants t WHERE status = 'active'"
                " AND ($2 OR EXISTS (SELECT FROM tenant_credentials c WHERE c.tenant_id = t.id"
                "  AND c.kind IN ('whop_api_key', 'whop_oauth') AND c.revoked_at IS NULL))"
                " AND (EXISTS (SELECT FROM whop_plans p WHERE p.tenant_id = t.id)"
                "  OR EXISTS (SELECT FROM credit_orders o WHERE o.tenant_id = t.id))"
                " ORDER BY (SELECT max(r.started_at) FROM reconcile_runs r WHERE r.tenant_id = t.id"
                "  AND r.kind = $3) NULLS FIRST, id LIMIT $1::integer",
                pg_integer(TENANT_SWEEP_MAX), pg_flag(!text_is_empty(config->whop_api_key)),
                pg_text(kind)));
    take_ids(pg, out);
    return ERR_NONE;
}

struct err tenant_sweep_members(struct pg *pg, const struct config *config, const char *kind,
                                struct tenant_ids *out)
{
    out->count = 0;
    if (!config->whop_sync_enabled)
        return ERR_NONE;
    /* Schedules look every ten minutes, or every hour: what becomes due a little later is taken
     * now, or it would be a round late each time. Runs that failed do not count. */
    TRY(PG_EXEC(pg,
                "SELECT id FROM tenants t WHERE status = 'active'"
                " AND ($2 OR EXISTS (SELECT FROM tenant_credentials c WHERE c.tenant_id = t.id"
                "  AND c.kind IN ('whop_api_key', 'whop_oauth') AND c.revoked_at IS NULL))"
                " AND NOT EXISTS (SELECT FROM member_runs r WHERE r.tenant_id = t.id"
                "  AND r.kind = $3 AND r.status = 'success' AND r.started_at > whopline_now()"
                "   - CASE $3 WHEN 'full' THEN interval '23 hours 30 minutes'"
                "     WHEN 'open' THEN $4::bigint * interval '1 minute' - interval '5 minutes'"
                "     ELSE interval '0' END)"
                " AND NOT EXISTS (SELECT FROM jobs j WHERE j.tenant_id = t.id"
                "  AND j.state = 'queued' AND j.kind = 'sync.members_' || $3)"
                " ORDER BY (SELECT max(r.started_at) FROM member_runs r WHERE r.tenant_id = t.id"
                "  AND r.kind = $3) NULLS FIRST, id LIMIT $1::integer",
                pg_integer(TENANT_SWEEP_MAX), pg_flag(!text_is_empty(config->whop_api_key)),
                pg_text(kind), pg_integer(config->whop_sync_interval_minutes)));
    take_ids(pg, out);
    return ERR_NONE;
}

static struct err release_events(struct pg *pg, const char *actor, size_t *moved)
{
    struct quarantine_released released = {.events = 1};
    struct buf company = {0};
    struct err err = quarantine_find(pg, &company);
    for (int i = 0; i < PORTIONS_MAX && !err_failed(&err) && company.len > 0 && released.events > 0;
         i++) {
        err = quarantine_release(pg, buf_text(&company), actor, &released);
        *moved += released.events;
    }
    buf_close(&company);
    return err;
}

static struct err release_tenant(struct pg *pg, int64_t tenant, const char *actor, size_t *moved)
{
    size_t released = 1;
    for (int i = 0; i < PORTIONS_MAX && released > 0; i++) {
        TRY(tenant_release_jobs(pg, tenant, actor, &released));
        *moved += released;
    }
    return ERR_NONE;
}

static struct err release_jobs(struct pg *pg, const char *actor, size_t *moved)
{
    struct tenant_ids *active = mem_alloc(sizeof *active);
    struct err err = PG_EXEC(pg,
                             "SELECT id FROM tenants t WHERE status = 'active' AND EXISTS (SELECT"
                             " FROM jobs j WHERE j.tenant_id = t.id AND j.state = 'parked' AND"
                             " j.error LIKE 'TENANT\\_%') ORDER BY id LIMIT $1::integer",
                             pg_integer(TENANT_SWEEP_MAX));
    active->count = 0;
    if (!err_failed(&err))
        take_ids(pg, active);
    for (size_t i = 0; i < active->count && err.code != ERR_PG_DOWN; i++) {
        struct err one = release_tenant(pg, active->ids[i], actor, moved);
        if (err_failed(&one)) /* and on with the others */
            err = one;
    }
    free(active);
    return err;
}

struct err tenant_sweep_stranded(struct pg *pg, const char *actor, size_t *moved)
{
    *moved = 0;
    struct err events = release_events(pg, actor, moved);
    struct err jobs = release_jobs(pg, actor, moved);
    return err_failed(&events) ? events : jobs;
}
