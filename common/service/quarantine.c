#include "service/quarantine.h"

#include "base/random.h"
#include "service/routing.h"

#include <stdlib.h>

enum { PORTION = 100 };

struct portion {
    struct arena arena;
    struct event events[PORTION];
    struct store_event rows[PORTION];
    const char *ids[PORTION];
    size_t count;
    int64_t tenant;
};

/* A payload that this release cannot read stays where it is, under another reason. */
static void take_row(struct pg *pg, size_t row, struct portion *portion)
{
    struct buf payload = {0};
    size_t i = portion->count++;
    struct store_event *out = &portion->rows[i];
    pg_get_bytes(pg, row, 2, &payload);
    portion->ids[i] = arena_strdup(&portion->arena, pg_get(pg, row, 0));
    *out = (struct store_event){
        .event = &portion->events[i],
        .payload = {arena_copy(&portion->arena, payload.ptr != NULL ? payload.ptr : "",
                               payload.len),
                    payload.len},
        .version = (int)pg_get_integer(pg, row, 1),
        .is_new = true,
    };
    buf_close(&payload);
    struct err err = payload_decode(PAYLOAD_event, out->version, out->payload, &portion->arena,
                                    &portion->events[i]);
    if (!err_failed(&err)) {
        routing_classify(out, portion->tenant);
    } else {
        out->status = "quarantined";
        out->reason = "unreadable";
    }
}

static struct err take(struct pg *pg, const char *company_id, struct portion *portion)
{
    TRY(PG_EXEC(pg, "SELECT id FROM tenants WHERE whop_company_id = $1", pg_text(company_id)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    portion->tenant = pg_get_integer(pg, 0, 0);
    TRY(PG_EXEC(pg,
                "SELECT id, payload_version, payload FROM webhook_events"
                " WHERE status = 'quarantined' AND reason = 'unknown_company'"
                " AND company_id = $1 ORDER BY received_at, id LIMIT $2::integer"
                " FOR UPDATE SKIP LOCKED",
                pg_text(company_id), pg_integer(PORTION)));
    for (size_t row = 0; row < pg_rows(pg); row++)
        take_row(pg, row, portion);
    return ERR_NONE;
}

static struct err write_events(struct pg *pg, const struct portion *portion)
{
    struct pg_array ids;
    struct pg_array statuses;
    struct pg_array reasons;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    pg_array_init(&statuses, PG_ELEMENT_TEXT);
    pg_array_init(&reasons, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < portion->count; i++) {
        pg_array_add_text(&ids, portion->ids[i]);
        pg_array_add_text(&statuses, portion->rows[i].status);
        pg_array_add_text(&reasons, portion->rows[i].reason);
    }
    struct err err =
        PG_EXEC(pg,
                "UPDATE webhook_events e SET tenant_id = $4::bigint, status = given.status,"
                " reason = NULLIF(given.reason, '')"
                " FROM unnest($1::text[], $2::text[], $3::text[]) AS given(id, status, reason)"
                " WHERE e.id = given.id",
                pg_array_param(&ids), pg_array_param(&statuses), pg_array_param(&reasons),
                pg_integer(portion->tenant));
    pg_array_close(&ids);
    pg_array_close(&statuses);
    pg_array_close(&reasons);
    return err;
}

static struct err write_jobs(struct pg *pg, struct portion *portion, size_t *count)
{
    struct outgoing *jobs =
        arena_alloc(&portion->arena, portion->count * EVENT_JOBS_MAX * sizeof *jobs);
    int64_t rebuilds; /* the scheduler relays them */
    *count = routing_list_jobs(portion->rows, portion->count, &portion->arena, jobs);
    for (size_t i = 0; i < *count; i++) {
        random_uuid(jobs[i].id);
        jobs[i].bulk = true;
    }
    return store_insert_jobs(pg, jobs, *count, &rebuilds);
}

static struct err move(struct pg *pg, const char *company_id, const char *actor,
                       struct portion *portion, size_t *jobs)
{
    TRY(pg_begin(pg));
    TRY(take(pg, company_id, portion));
    if (portion->count == 0)
        return ERR_NONE;
    TRY(write_events(pg, portion));
    TRY(write_jobs(pg, portion, jobs));
    TRY(PG_EXEC(pg,
                "INSERT INTO audit_log (actor, action, target, reason, detail)"
                " SELECT $2, 'events.release', slug, 'the tenant has appeared',"
                " jsonb_build_object('events', $3::bigint, 'jobs', $4::bigint)"
                " FROM tenants WHERE id = $1::bigint",
                pg_integer(portion->tenant), pg_text(actor), pg_integer((int64_t)portion->count),
                pg_integer((int64_t)*jobs)));
    return pg_commit(pg);
}

struct err quarantine_release(struct pg *pg, const char *company_id, const char *actor,
                              struct quarantine_released *out)
{
    struct portion *portion = mem_zalloc(sizeof *portion);
    size_t jobs = 0;
    *out = (struct quarantine_released){0};
    arena_init(&portion->arena);
    struct err err = move(pg, company_id, actor, portion, &jobs);
    pg_rollback(pg);
    if (!err_failed(&err))
        *out = (struct quarantine_released){.events = portion->count, .jobs = jobs};
    arena_close(&portion->arena);
    free(portion);
    return err;
}

struct err quarantine_find(struct pg *pg, struct buf *out)
{
    TRY(pg_exec(pg,
                "SELECT t.whop_company_id FROM tenants t WHERE EXISTS (SELECT FROM webhook_events e"
                " WHERE e.status = 'quarantined' AND e.reason = 'unknown_company'"
                " AND e.company_id = t.whop_company_id) LIMIT 1",
                NULL, 0));
    if (pg_rows(pg) == 1)
        buf_add_text(out, pg_get(pg, 0, 0));
    return ERR_NONE;
}
