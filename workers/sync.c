/* whopline-sync: what is asked of Whop by the clock.
 *
 * Tokens are refreshed before they expire, a tenant whose credential lacked a permission is asked
 * about again, and Whop's books and its list of members are laid beside ours. A schedule's job
 * belongs to no tenant: it inserts one for each that needs it. */
#include "base/log.h"
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/access.h"
#include "service/member_follow.h"
#include "service/member_runs.h"
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

/* --- jobs that follow ------------------------------------------------------------------------ */

/* payload: of the kind's. Behind what events cause. */
static struct err make_bulk(struct slot *slot, enum job_kind kind, const void *payload,
                            struct outgoing *out)
{
    struct buf packed = {0};
    struct err err = payload_encode(job_type(kind)->payload, payload, &packed);
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

/* --- books ----------------------------------------------------------------------------------- */

enum { OPEN_ORDERS_MAX = 200, OPEN_DISPUTES_MAX = 200 };

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
    TRY(make_bulk(slot, JOB_sync_books_page,
                  &(struct books){.run = run, .cursor = "", .order = "", .dispute = ""},
                  &jobs[count++]));
    TRY(reconcile_list_open_orders(slot->db, &slot->arena, slot->job->tenant, OPEN_ORDERS_MAX,
                                   &orders, &order_count));
    for (size_t i = 0; i < order_count; i++)
        TRY(make_bulk(slot, JOB_sync_open_order,
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
        TRY(make_bulk(slot, JOB_sync_books_page, &rest, &next));
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
    TRY(make_bulk(slot, JOB_sync_disputes_page,
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
        TRY(make_bulk(slot, JOB_sync_open_dispute,
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
    TRY(make_bulk(slot, JOB_sync_disputes_page, &rest, &next));
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

/* --- members --------------------------------------------------------------------------------- */

static struct err add_page(struct slot *slot, enum job_kind kind, int64_t run, int64_t page)
{
    struct outgoing *job = arena_alloc(&slot->arena, sizeof *job);
    const struct books books = {.run = run, .page = page, .cursor = "", .order = "", .dispute = ""};
    TRY(make_bulk(slot, kind, &books, job));
    return slot_add_jobs(slot, job, 1);
}

static struct err start_members(struct slot *slot, const char *kind)
{
    int64_t run;
    if (slot->job->tenant == 0) {
        struct tenant_ids *due = arena_alloc(&slot->arena, sizeof *due);
        TRY(tenant_sweep_members(slot->db, slot->config, kind, due));
        return fan_out(slot, due);
    }
    TRY(pg_begin(slot->db));
    TRY(member_runs_begin(slot->db, slot->job->tenant, kind, ACTOR, &run));
    if (run == 0)
        return slot_commit(slot, JOB_STATE_SKIPPED, "one_is_under_way");
    TRY(add_page(slot, JOB_sync_members_page, run, 0));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err members_recent(struct slot *slot, const void *payload)
{
    (void)payload;
    return start_members(slot, "recent");
}

static struct err members_open(struct slot *slot, const void *payload)
{
    (void)payload;
    return start_members(slot, "open");
}

static struct err members_full(struct slot *slot, const void *payload)
{
    (void)payload;
    return start_members(slot, "full");
}

static struct err follow(struct slot *slot, struct member_outcome *outcome)
{
    struct member_jobs jobs;
    TRY(member_follow(slot->db, slot->outside, &slot->arena, outcome, &jobs));
    return slot_add_jobs(slot, jobs.jobs, jobs.count);
}

/* Ends the job, and shows applications what became of the members. */
static struct err end_and_show(struct slot *slot, const struct member_outcome *outcome,
                               const char *reason)
{
    TRY(slot_commit(slot, JOB_STATE_DONE, reason));
    access_show(slot->db, slot->outside, &slot->arena, outcome);
    return ERR_NONE;
}

static struct err read_products(struct slot *slot, const struct member_page_result *result)
{
    struct outgoing *jobs = arena_alloc(&slot->arena, (result->product_count + 1) * sizeof *jobs);
    for (size_t i = 0; i < result->product_count; i++) {
        const struct product product = {result->products[i]};
        TRY(make_bulk(slot, JOB_sync_product, &product, &jobs[i]));
    }
    return slot_add_jobs(slot, jobs, result->product_count);
}

static struct err members_page(struct slot *slot, const void *payload)
{
    const struct books *books = payload;
    const struct member_page page = {slot->job->tenant, books->run, books->page,
                                     slot->job->attempt};
    struct member_page_result result;
    TRY(member_runs_take_page(slot->db, slot->outside, &slot->arena, slot->config, &page, &result));
    if (result.taken)
        return slot_commit(slot, JOB_STATE_SKIPPED, "page_taken");
    if (!text_is_empty(result.failed))
        return slot_commit(slot, JOB_STATE_SKIPPED, result.failed);
    TRY(follow(slot, &result.outcome));
    TRY(read_products(slot, &result));
    if (result.more || result.sweep)
        TRY(add_page(slot, result.more ? JOB_sync_members_page : JOB_sync_members_absent,
                     books->run, books->page + 1));
    return end_and_show(slot, &result.outcome, "");
}

static struct err members_absent(struct slot *slot, const void *payload)
{
    const struct books *books = payload;
    struct outgoing *jobs = arena_alloc(&slot->arena, MEMBER_SWEEP_MAX * sizeof *jobs);
    struct member_absent *absent;
    size_t count;
    TRY(pg_begin(slot->db));
    TRY(member_runs_sweep(slot->db, &slot->arena, books->run, books->page, &absent, &count));
    for (size_t i = 0; i < count; i++) {
        const struct member member = {.membership = absent[i].membership,
                                      .user = absent[i].user,
                                      .why = "a complete list was without it",
                                      .backfill = true,
                                      .run = books->run};
        TRY(make_bulk(slot, JOB_sync_member, &member, &jobs[i]));
    }
    TRY(slot_add_jobs(slot, jobs, count));
    if (count > 0)
        TRY(add_page(slot, JOB_sync_members_absent, books->run, books->page + 1));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* Whop knows of it no more if it says so twice, some seconds apart. */
static struct err member_alone(struct slot *slot, const void *payload)
{
    const struct member *member = payload;
    const struct member_question question = {.tenant = slot->job->tenant,
                                             .membership = member->membership,
                                             .user = member->user,
                                             .bulk = true,
                                             .backfill = member->backfill};
    struct member_news news;
    struct member_outcome outcome;
    bool was_read;
    TRY(member_runs_was_read(slot->db, slot->job->tenant, member->run, member->membership,
                             &was_read));
    if (was_read)
        return end(slot, JOB_STATE_SKIPPED, "was_read");
    struct err err = members_ask(slot->db, slot->outside, &slot->arena, &question, &news);
    bool gone = err.code == ERR_WHOP_NOT_FOUND && slot->job->attempt > 0;
    if (gone)
        members_say_gone(&slot->arena, &question, &news);
    else if (err_failed(&err))
        return end_without(slot, err);
    TRY(pg_begin(slot->db));
    TRY(members_note(slot->db, &slot->arena, &news, 1, ACTOR, &outcome));
    TRY(follow(slot, &outcome));
    if (gone && outcome.changed_count > 0)
        TRY(member_runs_count_gone(slot->db, member->run));
    return end_and_show(slot, &outcome, gone ? "not_known_at_whop" : "");
}

/* What is known of it stays where it cannot be read. */
static struct err read_product(struct slot *slot, const void *payload)
{
    const struct product *wanted = payload;
    struct err err = member_runs_read_product(slot->db, slot->outside, &slot->arena,
                                              slot->job->tenant, wanted->product);
    if (err.code == ERR_WHOP_NOT_FOUND || err.code == ERR_WHOP_API)
        return end(slot, JOB_STATE_SKIPPED, err_name(err.code));
    if (err_failed(&err))
        return end_without(slot, err);
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* --- the proof ------------------------------------------------------------------------------- */

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
    {JOB_sync_members_recent, .handle = members_recent},
    {JOB_sync_members_open, .handle = members_open},
    {JOB_sync_members_full, .handle = members_full},
    {JOB_sync_members_page, .handle = members_page},
    {JOB_sync_members_absent, .handle = members_absent},
    {JOB_sync_member, .handle = member_alone},
    {JOB_sync_product, .handle = read_product},
};

static const struct worker sync_worker = {
    .name = "whopline-sync",
    .purpose = "asks Whop by the clock: tokens, permissions, books, members",
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
