/* whopline-journal: the event and the jobs it causes, in one transaction; then the events may leave
 * Redis. A batch is one transaction, since a COMMIT costs the same for one event as for a hundred.
 *
 * An event is known by its id: one that is there already brings no jobs, so that a delivery
 * repeated by the sender, by Redis or by a crash changes nothing. */
#include "runtime/worker.h"
#include "service/routing.h"
#include "service/tenant.h"

static struct err find_tenants(struct slot *slot, const struct batch_item *items, size_t count,
                               int64_t *out)
{
    const char **companies = arena_alloc(&slot->arena, count * sizeof *companies);
    for (size_t i = 0; i < count; i++)
        companies[i] = ((const struct event *)items[i].payload)->company;
    return store_find_tenants(slot->db, companies, count, out);
}

static struct err keep(struct slot *slot, struct batch_item *items, size_t count)
{
    int64_t *tenants = arena_alloc(&slot->arena, count * sizeof *tenants);
    struct store_event *rows = arena_alloc(&slot->arena, count * sizeof *rows);
    struct outgoing *jobs = arena_alloc(&slot->arena, count * EVENT_JOBS_MAX * sizeof *jobs);

    TRY(find_tenants(slot, items, count, tenants));
    for (size_t i = 0; i < count; i++) {
        rows[i] = (struct store_event){.event = items[i].payload,
                                       .payload = items[i].job->payload,
                                       .version = items[i].job->version,
                                       .body = items[i].job->body};
        routing_classify(&rows[i], tenants[i]);
    }
    TRY(store_insert_events(slot->db, rows, count));
    TRY(slot_add_jobs(slot, jobs, routing_list_jobs(rows, count, &slot->arena, jobs)));
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
