#include "service/mails_admin.h"

#include "base/clock.h"
#include "codec/json.h"
#include "service/audit.h"
#include "service/jobs_admin.h"
#include "service/mail_send.h"
#include "service/store.h"

#include <stdio.h>

enum { TARGET_SIZE = 64 };

/* Ends the transaction that the caller has begun, either way. */
static struct err conclude(struct pg *pg, struct err err)
{
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

static struct err note(struct pg *pg, const char *actor, const char *action, const char *target,
                       const char *reason)
{
    const struct audit audit = {
        .actor = actor, .action = action, .target = target, .reason = reason};
    return audit_add(pg, &audit);
}

/* --- once more ------------------------------------------------------------------------------- */

/* A parked job that waits for an operator's word on its call. */
#define UNDECIDED "j.error = 'UNDECIDED'"

static struct err plan_queued(int64_t id, const char *job, bool undecided, enum mail_plan *out)
{
    if (undecided)
        return err_make(
            ERR_REFUSED,
            "nobody knows whether mail %lld was sent: look at the provider, then whopline"
            " outbound resolve",
            (long long)id);
    if (strcmp(job, "parked") != 0 && strcmp(job, "dead") != 0)
        return err_make(ERR_REFUSED, "mail %lld is under way", (long long)id);
    *out = MAIL_PLAN_REQUEUE;
    return ERR_NONE;
}

struct err mails_plan_retry(struct pg *pg, int64_t id, enum mail_plan *out)
{
    char job[JOBS_ADMIN_STATE_SIZE];
    *out = MAIL_PLAN_AGAIN;
    TRY(PG_EXEC(pg,
                "SELECT o.state, coalesce(j.state, 'dead'), coalesce(" UNDECIDED ", false)"
                " FROM email_outbox o LEFT JOIN jobs j ON j.id = o.job_id WHERE o.id = $1",
                pg_integer(id)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no mail %lld; see whopline mail ls",
                        (long long)id);
    snprintf(job, sizeof job, "%s", pg_get(pg, 0, 1));
    if (strcmp(pg_get(pg, 0, 0), "sent") == 0)
        return err_make(ERR_REFUSED, "mail %lld has been sent", (long long)id);
    if (strcmp(pg_get(pg, 0, 0), "queued") == 0)
        return plan_queued(id, job, pg_get_flag(pg, 0, 2), out);
    return ERR_NONE;
}

static struct err add_job(struct pg *pg, struct arena *arena, int64_t id, int64_t tenant,
                          const char *job_id)
{
    int64_t rebuilds;
    struct outgoing job = mails_job(arena, id, tenant, job_id);
    return store_insert_jobs(pg, &job, 1, &rebuilds);
}

static struct err send_again(struct pg *pg, struct arena *arena, int64_t id, const char *actor,
                             const char *reason)
{
    char job[UUID_TEXT_SIZE];
    char target[TARGET_SIZE];
    random_uuid(job);
    snprintf(target, sizeof target, "mail/%lld", (long long)id);
    TRY(PG_EXEC(pg,
                "UPDATE email_outbox SET state = 'queued', uid = gen_random_uuid(), reason = NULL,"
                " request = NULL, attempts = 0, ended_at = NULL, job_id = $2::uuid,"
                " not_after = whopline_now() + interval '1 day'"
                " WHERE id = $1 AND state NOT IN ('queued', 'sent') RETURNING tenant_id",
                pg_integer(id), pg_text(job)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_REFUSED, "mail %lld has changed meanwhile: look again", (long long)id);
    TRY(add_job(pg, arena, id, pg_get_integer(pg, 0, 0), job));
    return note(pg, actor, "mail.retry", target, reason);
}

static struct err requeue(struct pg *pg, int64_t id, const char *actor, const char *reason)
{
    struct job_ref ref = {0};
    size_t changed = 0;
    TRY(PG_EXEC(pg,
                "SELECT j.id, j.gen, j.state FROM email_outbox o JOIN jobs j ON j.id = o.job_id"
                " WHERE o.id = $1",
                pg_integer(id)));
    if (pg_rows(pg) > 0) {
        snprintf(ref.id, sizeof ref.id, "%s", pg_get(pg, 0, 0));
        ref.gen = pg_get_integer(pg, 0, 1);
        snprintf(ref.state, sizeof ref.state, "%s", pg_get(pg, 0, 2));
        TRY(jobs_admin_requeue(pg, &ref, 1, actor, reason, &changed));
    }
    if (changed == 0)
        return err_make(ERR_REFUSED, "mail %lld has changed meanwhile: look again", (long long)id);
    return ERR_NONE;
}

struct err mails_retry(struct pg *pg, struct arena *arena, int64_t id, const char *actor,
                       const char *reason)
{
    enum mail_plan plan;
    TRY(mails_plan_retry(pg, id, &plan));
    if (plan == MAIL_PLAN_REQUEUE)
        return requeue(pg, id, actor, reason);
    TRY(pg_begin(pg));
    return conclude(pg, send_again(pg, arena, id, actor, reason));
}

struct err mails_list_parked(struct pg *pg, struct arena *arena, int64_t most, struct mail_ids *out)
{
    TRY(PG_EXEC(pg,
                "SELECT o.id FROM email_outbox o JOIN jobs j ON j.id = o.job_id"
                " WHERE o.state = 'queued' AND j.state IN ('parked', 'dead')"
                " AND (" UNDECIDED ") IS NOT TRUE ORDER BY o.created_at, o.id LIMIT $1",
                pg_integer(most)));
    out->count = pg_rows(pg);
    out->ids = arena_alloc(arena, (out->count + 1) * sizeof *out->ids);
    for (size_t i = 0; i < out->count; i++)
        out->ids[i] = pg_get_integer(pg, i, 0);
    return ERR_NONE;
}

/* --- addresses that get only what they have to ----------------------------------------------- */

static struct err change_suppression(struct pg *pg, int64_t tenant, const char *address,
                                     const char *reason, const char *actor, bool *changed)
{
    if (reason != NULL)
        TRY(PG_EXEC(pg,
                    "INSERT INTO email_suppressions AS old (tenant_id, email_norm, reason)"
                    " VALUES ($1, lower($2), $3) ON CONFLICT (tenant_id, email_norm)"
                    " DO UPDATE SET reason = EXCLUDED.reason WHERE old.reason <> EXCLUDED.reason",
                    pg_integer(tenant), pg_text(address), pg_text(reason)));
    else
        TRY(PG_EXEC(
            pg, "DELETE FROM email_suppressions WHERE tenant_id = $1 AND email_norm = lower($2)",
            pg_integer(tenant), pg_text(address)));
    *changed = pg_affected(pg) > 0;
    if (!*changed)
        return ERR_NONE;
    return note(pg, actor, reason != NULL ? "mail.suppress" : "mail.unsuppress", address,
                reason != NULL ? reason : "");
}

static struct err check_address(const char *address, bool with_name)
{
    if (mail_is_address(address, with_name))
        return ERR_NONE;
    return err_make(ERR_USAGE, with_name ? "that is no sender such as Name <mail@example.com>"
                                         : "that is no address such as ada@example.com");
}

struct err mails_suppress(struct pg *pg, int64_t tenant, const char *address, const char *reason,
                          const char *actor, bool *changed)
{
    TRY(check_address(address, false));
    TRY(pg_begin(pg));
    return conclude(pg, change_suppression(pg, tenant, address, reason, actor, changed));
}

struct err mails_unsuppress(struct pg *pg, int64_t tenant, const char *address, const char *actor,
                            bool *changed)
{
    TRY(pg_begin(pg));
    return conclude(pg, change_suppression(pg, tenant, address, NULL, actor, changed));
}

/* --- settings -------------------------------------------------------------------------------- */

static struct err write_settings(struct pg *pg, int64_t tenant, const char *slug,
                                 const struct mail_settings *settings, const char *actor)
{
    TRY(PG_EXEC(pg, "INSERT INTO mail_settings (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING",
                pg_integer(tenant)));
    TRY(PG_EXEC(pg,
                "UPDATE mail_settings SET enabled = coalesce($2::boolean, enabled),"
                " from_address = CASE WHEN $3::text IS NULL THEN from_address"
                "  ELSE NULLIF($3, '') END,"
                " admin_address = CASE WHEN $4::text IS NULL THEN admin_address"
                "  ELSE NULLIF($4, '') END,"
                " muted = ARRAY(SELECT DISTINCT m FROM unnest(muted || $5::text) AS m"
                "  WHERE m IS NOT NULL AND m IS DISTINCT FROM $6::text ORDER BY m),"
                " updated_at = whopline_now() WHERE tenant_id = $1",
                pg_integer(tenant), pg_text(settings->enabled), pg_text(settings->from),
                pg_text(settings->admin), pg_text(settings->mute), pg_text(settings->unmute)));
    return note(pg, actor, "mail.settings", slug, "");
}

struct err mails_set(struct pg *pg, int64_t tenant, const char *slug,
                     const struct mail_settings *settings, const char *actor)
{
    if (settings->from != NULL && !text_is_empty(settings->from))
        TRY(check_address(settings->from, true));
    if (settings->admin != NULL && !text_is_empty(settings->admin))
        TRY(check_address(settings->admin, false));
    TRY(pg_begin(pg));
    return conclude(pg, write_settings(pg, tenant, slug, settings, actor));
}
