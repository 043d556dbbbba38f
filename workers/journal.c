/* whopline-journal: the event and the jobs it causes, in one transaction; then the events may leave
 * Redis. A batch is one transaction, since a COMMIT costs the same for one event as for a hundred.
 *
 * An event is known by its id: one that is there already brings no jobs, so that a delivery
 * repeated by the sender, by Redis or by a crash changes nothing. */
#include "codec/event.h"
#include "runtime/worker.h"
#include "service/tenant.h"

/* What is to be kept of an event, and whether anything is to be done about it. */
static struct store_event classify(const struct batch_item *item, int64_t tenant)
{
    const struct event *event = item->payload;
    enum job_kind jobs[EVENT_JOBS_MAX];
    struct store_event row = {
        .event = event,
        .payload = item->job->payload,
        .version = item->job->version,
        .body = item->job->body,
        .tenant = tenant,
        .status = "routed",
        .reason = "",
    };
    if (!text_is_empty(event->quarantine)) {
        row.status = "quarantined";
        row.reason = event->quarantine;
        if (strcmp(event->quarantine, "other_company") == 0)
            row.tenant = 0; /* neither the endpoint's nor, by this road, its own */
    } else if (tenant == 0) {
        row.status = "quarantined";
        row.reason = "unknown_company";
    } else if (!text_is_empty(event->ignore)) {
        row.status = "ignored";
        row.reason = event->ignore;
    } else if (event_kind_of(span_of(event->type_raw)) == NULL) {
        row.status = "ignored";
        row.reason = "unknown_kind";
    } else if (event_jobs(event, jobs) == 0) {
        row.status = "ignored";
        row.reason = "nothing_to_do";
    }
    return row;
}

static struct err find_tenants(struct slot *slot, const struct batch_item *items, size_t count,
                               int64_t *out)
{
    const char **companies = arena_alloc(&slot->arena, count * sizeof *companies);
    for (size_t i = 0; i < count; i++)
        companies[i] = ((const struct event *)items[i].payload)->company;
    return store_find_tenants(slot->db, companies, count, out);
}

/* The jobs of all events that are new and to be acted on. */
static size_t list_jobs(struct slot *slot, const struct store_event *rows, size_t count,
                        struct outgoing *out)
{
    size_t listed = 0;
    for (size_t i = 0; i < count; i++) {
        const struct event *event = rows[i].event;
        enum job_kind kinds[EVENT_JOBS_MAX];
        if (!rows[i].is_new || strcmp(rows[i].status, "routed") != 0)
            continue;
        size_t kind_count = event_jobs(event, kinds);
        for (size_t k = 0; k < kind_count; k++)
            out[listed++] = (struct outgoing){
                .kind = kinds[k],
                .tenant = rows[i].tenant,
                .key =
                    arena_printf(&slot->arena, "%lld/%s", (long long)rows[i].tenant, event->user),
                .event_id = event->id,
                .trace = event->id,
                .occurred_ms = event->occurred_ms,
                .version = rows[i].version,
                .payload = rows[i].payload,
            };
    }
    return listed;
}

static struct err keep(struct slot *slot, struct batch_item *items, size_t count)
{
    int64_t *tenants = arena_alloc(&slot->arena, count * sizeof *tenants);
    struct store_event *rows = arena_alloc(&slot->arena, count * sizeof *rows);
    struct outgoing *jobs = arena_alloc(&slot->arena, count * EVENT_JOBS_MAX * sizeof *jobs);

    TRY(find_tenants(slot, items, count, tenants));
    for (size_t i = 0; i < count; i++)
        rows[i] = classify(&items[i], tenants[i]);
    TRY(store_insert_events(slot->db, rows, count));
    TRY(slot_add_jobs(slot, jobs, list_jobs(slot, rows, count, jobs)));
    return slot_commit_batch(slot, items, count);
}

/* The tenant of a single-tenant installation comes from its settings. */
static struct err prepare(struct slot *slot)
{
    const char *company = slot->config->whop_company_id;
    return text_is_empty(company) ? ERR_NONE : tenant_bootstrap(slot->db, company, NULL);
}

static const struct handler handlers[] = {
    {JOB_journal_event, .handle_batch = keep},
};

static const struct worker journal = {
    .name = "whopline-journal",
    .purpose = "keeps every event and inserts the jobs it causes",
    .queue = QUEUE_events,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .prepare = prepare,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &journal);
}
