#include "service/timers.h"

#include "base/fault.h"
#include "base/random.h"

struct err timers_set(struct pg *pg, const struct timer *timer, bool *is_new)
{
    const struct job_type *type = job_type(timer->kind);
    TRY(PG_EXEC(
        pg,
        "INSERT INTO timers (tenant_id, kind, entity_key, sequence, payload, version, due_at)"
        " VALUES ($1::bigint, $2, $3, $4::integer, $5, $6::smallint,"
        "  coalesce(whopline_from_ms(NULLIF($7::bigint, 0)), whopline_now())"
        "  + $8::bigint * interval '1 ms')"
        " ON CONFLICT DO NOTHING",
        pg_integer(timer->tenant), pg_text(type->kind), pg_text(timer->entity),
        pg_integer(timer->sequence), pg_bytes(timer->payload), pg_integer(type->version),
        pg_integer(timer->at_ms), pg_integer(timer->delay_ms)));
    if (is_new != NULL)
        *is_new = pg_affected(pg) == 1;
    return ERR_NONE;
}

struct err timers_cancel(struct pg *pg, int64_t tenant, enum job_kind kind, const char *entity)
{
    return PG_EXEC(pg,
                   "UPDATE timers SET status = 'cancelled', ended_at = whopline_now()"
                   " WHERE tenant_id = $1::bigint AND kind = $2 AND entity_key = $3"
                   " AND status = 'pending'",
                   pg_integer(tenant), pg_text(job_type(kind)->kind), pg_text(entity));
}

static const char fire_sql[] =
    "WITH known AS (SELECT * FROM unnest($2::text[], $3::text[]) AS k(kind, queue)),"
    " due AS (SELECT id, row_number() OVER () AS place FROM"
    "  (SELECT t.id FROM timers t JOIN tenants x ON x.id = t.tenant_id AND x.status = 'active'"
    "   WHERE t.status = 'pending' AND t.due_at <= whopline_now()"
    "   AND t.kind IN (SELECT kind FROM known)"
    "   ORDER BY t.due_at LIMIT $4::integer FOR UPDATE OF t SKIP LOCKED) AS locked),"
    " ended AS (UPDATE timers t SET status = 'fired', job_id = fresh.id::uuid,"
    "   ended_at = whopline_now()"
    "  FROM due JOIN unnest($1::text[]) WITH ORDINALITY AS fresh(id, place) USING (place)"
    "  WHERE t.id = due.id RETURNING t.*)"
    " INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at)"
    " SELECT e.job_id, e.tenant_id, k.queue, e.kind, e.entity_key, e.payload, e.version,"
    "  e.job_id::text, e.due_at FROM ended e JOIN known k USING (kind)";

static struct err fire(struct pg *pg, size_t *fired)
{
    struct pg_array ids;
    struct pg_array kinds;
    struct pg_array queues;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    pg_array_init(&kinds, PG_ELEMENT_TEXT);
    pg_array_init(&queues, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < TIMERS_MAX; i++) {
        char id[UUID_TEXT_SIZE];
        random_uuid(id);
        pg_array_add_text(&ids, id);
    }
    for (size_t i = 0; i < JOB_KIND_COUNT; i++) {
        const struct job_type *type = job_type((enum job_kind)i);
        pg_array_add_text(&kinds, type->kind);
        pg_array_add_text(&queues, queue_text(type->queue));
    }
    struct err err = PG_EXEC(pg, fire_sql, pg_array_param(&ids), pg_array_param(&kinds),
                             pg_array_param(&queues), pg_integer(TIMERS_MAX));
    *fired = err_failed(&err) ? 0 : pg_affected(pg);
    pg_array_close(&ids);
    pg_array_close(&kinds);
    pg_array_close(&queues);
    return err;
}

struct err timers_fire(struct pg *pg, size_t *fired)
{
    *fired = 0;
    /* Most rounds find none; that costs one look and no transaction. */
    TRY(pg_exec(
        pg, "SELECT 1 FROM timers WHERE status = 'pending' AND due_at <= whopline_now() LIMIT 1",
        NULL, 0));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = fire(pg, fired);
    if (!err_failed(&err)) {
        (void)FAULT(before_firing_commit);
        err = pg_commit(pg);
        (void)FAULT(after_firing_commit);
    }
    pg_rollback(pg);
    return err;
}
