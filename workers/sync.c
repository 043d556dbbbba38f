/* whopline-sync: what is asked of Whop by the clock.
 *
 * Tokens are refreshed before they expire, a tenant whose credential lacked a permission is asked
 * about again, and Whop's books are laid beside ours. A schedule's job belongs to no tenant: it
 * inserts one for each that needs it. */
#include "base/log.h"
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/permissions.h"
#include "service/reconcile_disputes.h"
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
    buf_close(&found.lacking);
    if (err_failed(&err))
        return end_without(slot, err);
    if (found.active)
        TRY(release(slot));
    return end(slot, JOB_STATE_DONE, lacks ? "permission_missing" : "");
}

/* --- books ----------------------------------------------------------------------------------- */

enum { OPEN_ORDERS_MAX = 200, OPEN_DISPUTES_MAX = 200 };

static struct err make_job(struct slot *slot, enum job_kind kind, const struct books *books,
                           struct outgoing *out)
{
    struct buf packed = {0};
    struct err err = payload_encode(PAYLOAD_books, books, &packed);
    *out = (struct outgoing){
        .kind = kind,
        .tenant = slot->job->tenant,
        .key = slot->job->key,
        .event_id = "",
        .trace = slot->job->trace,
        .occurred_ms = slot->job->occurred_ms,
        .version = job_type(kind)->version,
        .bulk = true,
        .payload = {arena_copy(&slot->arena, packed.ptr, packed.len), packed.len},
    };
    buf_close(&packed);
    return err;
}

/* Begins a run with its first page, and asks about each order that is still open. */
static struct err open_books(struct slot *slot, const char *kind)
{
    struct outgoing *jobs = arena_alloc(&slot->arena, (OPEN_ORDERS_MAX + 1) * sizeof *jobs);
    const char **orders;
    size_t count = 0;
    size_t order_count;
    int64_t run;
    TRY(pg_begin(slot->db));
    TRY(reconcile_begin(slot->db, slot->job->tenant, kind, &run));
    if (run == 0)
        return slot_commit(slot, JOB_STATE_SKIPPED, "one_is_under_way");
    TRY(make_job(slot, JOB_sync_books_page,
                 &(struct books){.run = run, .cursor = "", .order = "", .dispute = ""},
                 &jobs[count++]));
    TRY(reconcile_list_open_orders(slot->db, &slot->arena, slot->job->tenant, OPEN_ORDERS_MAX,
                                   &orders, &order_count));
    for (size_t i = 0; i < order_count; i++)
        TRY(make_job(slot, JOB_sync_open_order,
                     &(struct books){.cursor = "", .order = orders[i], .dispute = ""},
                     &jobs[count++]));
    TRY(slot_add_jobs(slot, jobs, count));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err start_books(struct slot *slot, const char *kind)
{
    if (slot->job->tenant != 0)
        return open_books(slot, kind);
    struct tenant_ids *selling = arena_alloc(&slot->arena, sizeof *selling);
    TRY(tenant_sweep_selling(slot->db, slot->config, kind, selling));
    return fan_out(slot, selling);
}

static struct err books(struct slot *slot, const void *payload)
{
    (void)payload;
    return start_books(slot, "recent");
}

static struct err books_window(struct slot *slot, const void *payload)
{
    (void)payload;
    return start_books(slot, "window");
}

static struct err books_page(struct slot *slot, const void *payload)
{
    const struct books *page = payload;
    const struct reconcile_page wanted = {page->run, page->page, page->cursor};
    struct reconcile_result result;
    struct outgoing next;
    TRY(reconcile_take_page(slot->db, slot->outside, &slot->arena, slot->job->tenant, &wanted,
                            &slot->figures, &result));
    if (result.taken)
        return slot_commit(slot, JOB_STATE_SKIPPED, "page_taken");
    if (result.more) {
        const struct books rest = {.run = page->run,
                                   .page = page->page + 1,
                                   .cursor = result.next,
                                   .order = "",
                                   .dispute = ""};
        TRY(make_job(slot, JOB_sync_books_page, &rest, &next));
        TRY(slot_add_jobs(slot, &next, 1));
    }
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err open_order(struct slot *slot, const void *payload)
{
    const struct books *asked = payload;
    TRY(reconcile_take_order(slot->db, slot->outside, &slot->arena, slot->job->tenant, asked->order,
                             &slot->figures));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* --- disputes -------------------------------------------------------------------------------- */

static struct err disputes(struct slot *slot, const void *payload)
{
    struct tenant_ids *selling;
    struct outgoing first;
    int64_t run;
    (void)payload;
    if (slot->job->tenant == 0) {
        selling = arena_alloc(&slot->arena, sizeof *selling);
        TRY(tenant_sweep_selling(slot->db, slot->config, "disputes", selling));
        return fan_out(slot, selling);
    }
    TRY(pg_begin(slot->db));
    TRY(reconcile_begin(slot->db, slot->job->tenant, "disputes", &run));
    if (run == 0)
        return slot_commit(slot, JOB_STATE_SKIPPED, "one_is_under_way");
    TRY(make_job(slot, JOB_sync_disputes_page,
                 &(struct books){.run = run, .cursor = "", .order = "", .dispute = ""}, &first));
    TRY(slot_add_jobs(slot, &first, 1));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* After the last page: what it had not is asked about one by one. */
static struct err ask_about_open(struct slot *slot, int64_t run)
{
    struct outgoing *jobs = arena_alloc(&slot->arena, OPEN_DISPUTES_MAX * sizeof *jobs);
    const char **open;
    size_t count;
    TRY(reconcile_pick_disputes(slot->db, &slot->arena, slot->job->tenant, run, OPEN_DISPUTES_MAX,
                                &open, &count));
    for (size_t i = 0; i < count; i++)
        TRY(make_job(slot, JOB_sync_open_dispute,
                     &(struct books){.cursor = "", .order = "", .dispute = open[i]}, &jobs[i]));
    return count > 0 ? slot_add_jobs(slot, jobs, count) : ERR_NONE;
}

static struct err disputes_page(struct slot *slot, const void *payload)
{
    const struct books *page = payload;
    const struct reconcile_page wanted = {page->run, page->page, page->cursor};
    struct reconcile_disputes_result result;
    struct outgoing next;
    TRY(reconcile_take_disputes(slot->db, slot->outside, &slot->arena, slot->job->tenant, &wanted,
                                &slot->figures, &result));
    if (result.taken || result.refused)
        return slot_commit(slot, JOB_STATE_SKIPPED,
                           result.refused ? "permission_missing" : "page_taken");
    if (!result.more) {
        TRY(ask_about_open(slot, page->run));
        return slot_commit(slot, JOB_STATE_DONE, "");
    }
    const struct books rest = {.run = page->run,
                               .page = page->page + 1,
                               .cursor = result.next,
                               .order = "",
                               .dispute = ""};
    TRY(make_job(slot, JOB_sync_disputes_page, &rest, &next));
    TRY(slot_add_jobs(slot, &next, 1));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err open_dispute(struct slot *slot, const void *payload)
{
    const struct books *asked = payload;
    const char *why;
    TRY(reconcile_take_dispute(slot->db, slot->outside, &slot->arena, slot->job->tenant,
                               asked->dispute, &slot->figures, &why));
    return slot_commit(slot, text_is_empty(why) ? JOB_STATE_DONE : JOB_STATE_SKIPPED, why);
}

static struct err prove_ledger(struct slot *slot, const void *payload)
{
    size_t wrong;
    (void)payload;
    TRY(reconcile_prove(slot->db, &wrong));
    return end(slot, JOB_STATE_DONE,
               wrong == 0
                   ? ""
                   : arena_printf(&slot->arena, "%zu accounts differ from their ledger", wrong));
}

static const struct handler handlers[] = {
    {JOB_sync_refresh_token, .handle = refresh_token},
    {JOB_sync_check_tenant, .handle = check_tenant},
    {JOB_sync_books, .handle = books},
    {JOB_sync_books_window, .handle = books_window},
    {JOB_sync_books_page, .handle = books_page},
    {JOB_sync_open_order, .handle = open_order},
    {JOB_sync_disputes, .handle = disputes},
    {JOB_sync_disputes_page, .handle = disputes_page},
    {JOB_sync_open_dispute, .handle = open_dispute},
    {JOB_sync_prove_ledger, .handle = prove_ledger},
};

static const struct worker sync_worker = {
    .name = "whopline-sync",
    .purpose = "asks Whop by the clock: tokens, permissions, books",
    .queue = QUEUE_sync,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .outside = &outside_face,
    .figures = &credits_figures,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &sync_worker);
}
