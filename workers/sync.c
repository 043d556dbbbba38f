/* whopline-sync: keeps tenants able to work.
 *
 * Tokens are refreshed before they expire, and a tenant whose credential lacked a permission is
 * asked about again. A schedule's job belongs to no tenant: it inserts one for each that needs it.
 */
#include "base/log.h"
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/permissions.h"
#include "service/tenant.h"
#include "service/tenant_sweep.h"
#include "service/tenant_whop.h"

#define ACTOR "whopline-sync"

/* Ends the schedule's job with a job of the same kind for each tenant. */
static struct err fan_out(struct slot *slot, const struct tenant_ids *tenants)
{
    struct outgoing *jobs = arena_zalloc(&slot->arena, (tenants->count + 1) * sizeof *jobs);
    const struct job *own = slot->job;
    for (size_t i = 0; i < tenants->count; i++)
        jobs[i] = (struct outgoing){
            .kind = own->known,
            .tenant = tenants->ids[i],
            .key = arena_printf(&slot->arena, "%lld/", (long long)tenants->ids[i]),
            .event_id = "",
            .trace = own->trace,
            .occurred_ms = own->occurred_ms,
            .version = own->version,
            .payload = own->payload,
        };
    TRY(pg_begin(slot->db));
    if (tenants->count == 0)
        return slot_commit(slot, JOB_STATE_SKIPPED, "nobody_needs_it");
    TRY(slot_add_jobs(slot, jobs, tenants->count));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err end(struct slot *slot, enum job_state state, const char *reason)
{
    TRY(pg_begin(slot->db));
    return slot_commit(slot, state, reason);
}

/* A tenant that cannot be served until somebody has set it right: the schedule comes back anyway,
 * so that a parked job for each time would only pile up. */
static struct err end_without(struct slot *slot, struct err err)
{
    enum err_class class = err_class_of(err.code);
    if (class != ERR_CLASS_AUTH && class != ERR_CLASS_PARK)
        return err;
    if (err.code == ERR_TENANT_REAUTH) /* the tenant's status tells */
        return end(slot, JOB_STATE_SKIPPED, "reauth_required");
    log_warning("sync", "nothing can be done for a tenant", LOG_INT("tenant", slot->job->tenant),
                LOG_TEXT("error", err_text(&err)));
    return end(slot, JOB_STATE_SKIPPED, err_name(err.code));
}

/* --- tokens ---------------------------------------------------------------------------------- */

static struct err sweep_tokens(struct slot *slot)
{
    struct tenant_ids *expiring = arena_alloc(&slot->arena, sizeof *expiring);
    size_t moved;
    struct err stranded = tenant_sweep_stranded(slot->db, ACTOR, &moved);
    if (moved > 0)
        log_info("sync", "what had been left behind goes on", LOG_INT("rows", moved));
    if (err_failed(&stranded)) /* some tenant's; the next sweep tries again, tokens do not wait */
        log_warning("sync", "something stays behind", LOG_TEXT("error", err_text(&stranded)));
    TRY(tenant_sweep_expiring(slot->db, slot->config, expiring));
    return fan_out(slot, expiring);
}

static struct err refresh_token(struct slot *slot, const void *payload)
{
    struct tenant_whop client;
    (void)payload;
    if (slot->job->tenant == 0)
        return sweep_tokens(slot);
    /* Opening it is all: what is about to expire is refreshed then. */
    struct err err = tenant_whop_open(&client, slot->db, slot->outside, &slot->arena,
                                      slot->job->tenant, CREDENTIAL_FOR_CHECK);
    if (err_failed(&err))
        return end_without(slot, err);
    TRY(tenant_whop_close(&client, ERR_NONE));
    return end(slot, JOB_STATE_DONE, "");
}

/* --- permissions ----------------------------------------------------------------------------- */

static struct err release(struct slot *slot)
{
    size_t released;
    do {
        TRY(tenant_release_jobs(slot->db, slot->job->tenant, ACTOR, &released));
    } while (released > 0);
    return ERR_NONE;
}

static struct err check_tenant(struct slot *slot, const void *payload)
{
    struct permissions_found found;
    (void)payload;
    if (slot->job->tenant == 0) {
        struct tenant_ids *lacking = arena_alloc(&slot->arena, sizeof *lacking);
        TRY(tenant_sweep_lacking(slot->db, slot->config, lacking));
        return fan_out(slot, lacking);
    }
    struct err err =
        permissions_check(slot->db, slot->outside, &slot->arena, slot->job->tenant, ACTOR, &found);
    bool lacks = found.missing.len > 0;
    buf_close(&found.missing);
    if (err_failed(&err))
        return end_without(slot, err);
    if (found.active)
        TRY(release(slot));
    return end(slot, JOB_STATE_DONE, lacks ? "permission_missing" : "");
}

static const struct handler handlers[] = {
    {JOB_sync_refresh_token, .handle = refresh_token},
    {JOB_sync_check_tenant, .handle = check_tenant},
};

static const struct worker sync_worker = {
    .name = "whopline-sync",
    .purpose = "refreshes tenants' tokens and looks after their permissions",
    .queue = QUEUE_sync,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .outside = &outside_face,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &sync_worker);
}
