#include "service/routing.h"

void routing_classify(struct store_event *row, int64_t tenant)
{
    const struct event *event = row->event;
    enum job_kind jobs[EVENT_JOBS_MAX];
    row->tenant = tenant;
    row->status = "routed";
    row->reason = "";
    if (!text_is_empty(event->quarantine)) {
        row->status = "quarantined";
        row->reason = event->quarantine;
        if (strcmp(event->quarantine, "other_company") == 0)
            row->tenant = 0; /* neither the endpoint's nor, by this road, its own */
    } else if (tenant == 0) {
        row->status = "quarantined";
        row->reason = "unknown_company";
    } else if (!text_is_empty(event->ignore)) {
        row->status = "ignored";
        row->reason = event->ignore;
    } else if (event_kind_of(span_of(event->type_raw)) == NULL) {
        row->status = "ignored";
        row->reason = "unknown_kind";
    } else if (event_jobs(event, jobs) == 0) {
        row->status = "ignored";
        row->reason = "nothing_to_do";
    }
}

size_t routing_list_jobs(const struct store_event *rows, size_t count, struct arena *arena,
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
                .key = arena_printf(arena, "%lld/%s", (long long)rows[i].tenant, event->user),
                .event_id = event->id,
                .trace = event->id,
                .occurred_ms = event->occurred_ms,
                .version = rows[i].version,
                .payload = rows[i].payload,
            };
    }
    return listed;
}
