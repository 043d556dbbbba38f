#include "service/tenant.h"

#include "service/audit.h"
#include "service/store.h"

#include <stdio.h>
#include <stdlib.h>

enum { RELEASE_MAX = 500 };

struct err tenant_bootstrap(struct pg *pg, const char *company_id, bool *created)
{
    TRY(PG_EXEC(pg,
                "INSERT INTO tenants (slug, whop_company_id) VALUES ($1::text, $1::text)"
                " ON CONFLICT (whop_company_id) DO NOTHING",
                pg_text(company_id)));
    if (created != NULL)
        *created = pg_affected(pg) == 1;
    return ERR_NONE;
}

struct err tenant_add(struct pg *pg, const char *slug, const char *company_id, const char *title,
                      int64_t *out)
{
    TRY(PG_EXEC(pg,
                "INSERT INTO tenants (slug, whop_company_id, title) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING RETURNING id",
                pg_text(slug), pg_text(company_id), pg_text(title)));
    if (pg_rows(pg) == 1) {
        *out = pg_get_integer(pg, 0, 0);
        return ERR_NONE;
    }
    TRY(PG_EXEC(pg,
                "SELECT slug, whop_company_id FROM tenants WHERE slug = $1 OR"
                " whop_company_id = $2 ORDER BY slug = $1 LIMIT 1",
                pg_text(slug), pg_text(company_id)));
    return err_make(ERR_REFUSED,
                    "there is a tenant %.60s for %.40s already: reauth gives it a credential, "
                    "rotate-secret a webhook secret",
                    pg_get(pg, 0, 0), pg_get(pg, 0, 1));
}

/* --- status ---------------------------------------------------------------------------------- */

struct err tenant_change_status(struct pg *pg, int64_t tenant, const struct tenant_change *change,
                                bool *changed)
{
    char target[64];
    *changed = false;
    TRY(PG_EXEC(pg,
                "UPDATE tenants SET status = $2, pause_reason = $3,"
                " status_changed_at = whopline_now(), updated_at = whopline_now(),"
                " missing_permissions = CASE WHEN $2 = 'permission_missing'"
                "  THEN missing_permissions ELSE '{}' END"
                " WHERE id = $1::bigint AND status = ANY ($4::text[]) RETURNING slug",
                pg_integer(tenant), pg_text(change->status), pg_text_or_null(change->reason),
                pg_text(change->from)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    snprintf(target, sizeof target, "%.63s", pg_get(pg, 0, 0));
    *changed = true;
    const struct audit audit = {.actor = change->actor,
                                .action = change->action,
                                .target = target,
                                .reason = change->reason};
    return audit_add(pg, &audit);
}

struct err tenant_found(struct pg *pg, int64_t tenant, const struct tenant_change *change,
                        bool *changed)
{
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = tenant_change_status(pg, tenant, change, changed);
    if (!err_failed(&err) && *changed)
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

/* --- parked for the tenant's sake ------------------------------------------------------------ */

/* Errors that end with the tenant's trouble: its status, and all that is about its credential. */
static bool is_tenants(enum err_code code)
{
    return code == ERR_TENANT_PAUSED || code == ERR_TENANT_DISCONNECTED || code == ERR_FORBIDDEN ||
           err_class_of(code) == ERR_CLASS_AUTH;
}

static const char release_jobs[] =
    "WITH picked AS (SELECT id FROM jobs WHERE tenant_id = $1::bigint AND state = 'parked'"
    "  AND error = ANY ($2::text[]) ORDER BY id LIMIT $3::integer FOR UPDATE),"
    " moved AS (UPDATE jobs SET gen = gen + 1, state = 'queued', bulk = true, relayed_at = NULL,"
    "  finished_at = NULL, reason = NULL, error = NULL, attempts = 0, due_at = whopline_now(),"
    "  requeued_at = whopline_now() FROM picked WHERE jobs.id = picked.id RETURNING jobs.id) "
    "INSERT INTO audit_log (actor, action, target, detail) SELECT $4, 'tenants.release', slug,"
    " jsonb_build_object('jobs', (SELECT count(*) FROM moved)) FROM tenants"
    " WHERE id = $1::bigint AND EXISTS (SELECT FROM moved)"
    " RETURNING (detail ->> 'jobs')::bigint";

static struct err release(struct pg *pg, int64_t tenant, const char *actor, size_t *released)
{
    struct pg_array errors;
    /* A share of the row: whoever pauses it now waits, and finds these queued. */
    TRY(PG_EXEC(pg,
                "SELECT 1 FROM tenants WHERE id = $1::bigint"
                " AND status NOT IN ('paused', 'disconnected') FOR SHARE",
                pg_integer(tenant)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    pg_array_init(&errors, PG_ELEMENT_TEXT);
    for (int code = 0; code < ERR_CODE_COUNT; code++)
        if (is_tenants((enum err_code)code))
            pg_array_add_text(&errors, err_name((enum err_code)code));
    struct err err = PG_EXEC(pg, release_jobs, pg_integer(tenant), pg_array_param(&errors),
                             pg_integer(RELEASE_MAX), pg_text(actor));
    pg_array_close(&errors);
    TRY(err);
    size_t count = pg_rows(pg) == 1 ? (size_t)pg_get_integer(pg, 0, 0) : 0;
    TRY(pg_commit(pg));
    *released = count;
    return ERR_NONE;
}

struct err tenant_release_jobs(struct pg *pg, int64_t tenant, const char *actor, size_t *released)
{
    *released = 0;
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = release(pg, tenant, actor, released);
    pg_rollback(pg);
    return err;
}

/* --- held ------------------------------------------------------------------------------------ */

struct err tenant_list_held(struct pg *pg, int64_t **out, size_t *count)
{
    TRY(pg_exec(pg, "SELECT id FROM tenants WHERE status IN ('paused', 'disconnected') ORDER BY id",
                NULL, 0));
    *count = pg_rows(pg);
    *out = mem_alloc((*count + 1) * sizeof **out);
    for (size_t row = 0; row < *count; row++)
        (*out)[row] = pg_get_integer(pg, row, 0);
    return ERR_NONE;
}

static struct err find_held(struct pg *pg, struct tenant_job *jobs, size_t count)
{
    struct pg_array ids;
    pg_array_init(&ids, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < count; i++)
        pg_array_add_integer(&ids, jobs[i].tenant);
    struct err err = PG_EXEC(pg,
                             "SELECT id, status = 'paused' FROM tenants WHERE id = ANY ($1)"
                             " AND status IN ('paused', 'disconnected') ORDER BY id FOR SHARE",
                             pg_array_param(&ids));
    pg_array_close(&ids);
    TRY(err);
    for (size_t row = 0; row < pg_rows(pg); row++)
        for (size_t i = 0; i < count; i++)
            if (jobs[i].tenant == pg_get_integer(pg, row, 0))
                jobs[i].held =
                    pg_get_flag(pg, row, 1) ? ERR_TENANT_PAUSED : ERR_TENANT_DISCONNECTED;
    return ERR_NONE;
}

static struct err park(struct pg *pg, const struct tenant_job *jobs, size_t count,
                       enum err_code why)
{
    struct err named = err_make(why, "%s", "");
    const char **ids = mem_alloc((count + 1) * sizeof *ids);
    size_t parked = 0;
    for (size_t i = 0; i < count; i++)
        if (jobs[i].held == why && jobs[i].has_row)
            ids[parked++] = jobs[i].id;
    struct err err = ERR_NONE;
    if (parked > 0)
        err = store_park_jobs(pg, ids, parked, err_text(&named), err_name(why));
    free(ids);
    return err;
}

static struct err hold(struct pg *pg, struct tenant_job *jobs, size_t count)
{
    TRY(pg_begin(pg));
    TRY(find_held(pg, jobs, count));
    TRY(park(pg, jobs, count, ERR_TENANT_PAUSED));
    TRY(park(pg, jobs, count, ERR_TENANT_DISCONNECTED));
    return pg_commit(pg);
}

struct err tenant_hold_jobs(struct pg *pg, struct tenant_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        jobs[i].held = ERR_OK;
    struct err err = hold(pg, jobs, count);
    pg_rollback(pg);
    return err;
}
