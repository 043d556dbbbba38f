#include "service/schedules.h"

#include "base/arena.h"
#include "base/fault.h"
#include "codec/job.h"

#include <stdio.h>

const char *schedules_outcome_name(enum schedules_outcome outcome)
{
    static const char *const names[] = {"nothing", "planned", "broken", "due", "missed", "skipped"};
    return names[outcome];
}

/* --- the built-in ones ----------------------------------------------------------------------- */

enum missed { MISSED_SKIP, MISSED_ONCE, MISSED_ALL };
static const char *const missed_names[] = {"skip", "once", "all"};

struct builtin {
    const char *name;
    enum job_kind job;
    const char *cron;
    const char *zone;
    enum missed missed;
    int64_t missed_max;
    bool enabled;
};

static const struct builtin builtins[] = {
#define SCHEDULE(name, job, cron, zone, missed, missed_max, enabled)                               \
    {name, JOB_##job, cron, zone, MISSED_##missed, missed_max, enabled},
#include "schedules.def"
#undef SCHEDULE
    {0}, /* there may be none */
};

static const char install_sql[] =
    "INSERT INTO schedules AS s (name, cron, zone, default_cron, default_zone, queue, kind,"
    " payload, version, missed, missed_max, enabled)"
    " VALUES ($1, $2, $3, $2, $3, $4, $5, $6, $7::smallint, $8, $9::integer, $10::boolean)"
    " ON CONFLICT (name) DO UPDATE SET default_cron = $2, default_zone = $3, queue = $4, kind = $5,"
    "  payload = $6, version = $7::smallint, missed = $8, missed_max = $9::integer,"
    "  cron = CASE WHEN s.cron = s.default_cron THEN $2 ELSE s.cron END,"
    "  zone = CASE WHEN s.zone = s.default_zone THEN $3 ELSE s.zone END,"
    "  next_slot = CASE WHEN (s.cron = s.default_cron AND s.cron <> $2)"
    "    OR (s.zone = s.default_zone AND s.zone <> $3) THEN '-infinity' ELSE s.next_slot END,"
    "  error = NULL"
    /* else several schedulers that start would wait for each other for nothing */
    " WHERE (s.default_cron, s.default_zone, s.queue, s.kind, s.payload, s.version, s.missed,"
    "  s.missed_max) IS DISTINCT FROM ($2, $3, $4, $5, $6, $7::smallint, $8, $9::integer)";

static struct err install(struct pg *pg, const struct builtin *builtin, bool enabled)
{
    const struct job_type *type = job_type(builtin->job);
    struct arena arena;
    struct buf packed = {0};
    arena_init(&arena);
    void *payload = arena_zalloc(&arena, payload_size(type->payload));
    payload_init(type->payload, payload);
    struct err err = payload_encode(type->payload, payload, &packed);
    if (!err_failed(&err))
        err = PG_EXEC(pg, install_sql, pg_text(builtin->name), pg_text(builtin->cron),
                      pg_text(builtin->zone), pg_text(queue_text(type->queue)), pg_text(type->kind),
                      pg_bytes(buf_span(&packed)), pg_integer(type->version),
                      pg_text(missed_names[builtin->missed]), pg_integer(builtin->missed_max),
                      pg_flag(builtin->enabled && enabled));
    buf_close(&packed);
    arena_close(&arena);
    return err;
}

struct err schedules_install(struct pg *pg, bool enabled)
{
    for (const struct builtin *builtin = builtins; builtin->name != NULL; builtin++)
        TRY(install(pg, builtin, enabled));
    return ERR_NONE;
}

/* --- firing ---------------------------------------------------------------------------------- */

struct err schedules_add_firing(struct pg *pg, int64_t id, const char *slot, const char *how,
                                char job_id[UUID_TEXT_SIZE], bool *fired)
{
    bool skipped = strcmp(how, schedules_outcome_name(SCHEDULES_SKIPPED)) == 0;
    random_uuid(job_id);
    TRY(PG_EXEC(pg,
                "WITH firing AS (INSERT INTO schedule_firings (schedule_id, slot, how, job_id)"
                "  VALUES ($1::bigint, $2::timestamptz, $3, $4::uuid)"
                "  ON CONFLICT DO NOTHING RETURNING schedule_id, slot, job_id),"
                " job AS (INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version,"
                "   trace, occurred_at)"
                "  SELECT f.job_id, s.tenant_id, s.queue, s.kind, 'schedule/' || s.name, s.payload,"
                "   s.version, f.job_id::text, f.slot"
                "  FROM firing f JOIN schedules s ON s.id = f.schedule_id"
                "  WHERE f.job_id IS NOT NULL)"
                " SELECT 1 FROM firing",
                pg_integer(id), pg_text(slot), pg_text(how), pg_text(skipped ? NULL : job_id)));
    *fired = pg_rows(pg) == 1;
    return ERR_NONE;
}

/* A row that is due, as it was read. */
struct due {
    int64_t id;
    struct schedule_rule rule;
    enum missed missed;
    int64_t missed_max;
    int64_t missed_fired;
    const char *slot;
    bool is_planned; /* else the slot is no moment yet */
    bool is_late;    /* beyond the grace */
    const char *now;
    const char *resume; /* now, less the grace: slots up to then are missed */
};

static enum missed read_missed(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(missed_names); i++)
        if (strcmp(name, missed_names[i]) == 0)
            return (enum missed)i;
    return MISSED_SKIP;
}

/* Of kinds that this release knows; the others' schedulers see to theirs. A tenant's schedules rest
 * while he is not active, and then miss what they missed. */
static const char due_sql[] =
    "SELECT s.id, s.name, s.cron, s.interval_ms, s.zone, s.missed, s.missed_max, s.missed_fired,"
    " s.next_slot::text, isfinite(s.next_slot),"
    " s.next_slot <= whopline_now() - $2::bigint * interval '1 ms',"
    " CASE WHEN isfinite(s.next_slot)"
    "  THEN (extract(epoch FROM whopline_now() - s.next_slot) * 1000)::bigint ELSE 0 END,"
    " whopline_now()::text, (whopline_now() - $2::bigint * interval '1 ms')::text"
    " FROM schedules s WHERE s.enabled AND s.error IS NULL AND s.next_slot <= whopline_now()"
    " AND s.kind = ANY ($1::text[]) AND (s.tenant_id IS NULL OR EXISTS"
    "  (SELECT 1 FROM tenants t WHERE t.id = s.tenant_id AND t.status = 'active'))"
    " ORDER BY s.next_slot LIMIT 1 FOR UPDATE OF s SKIP LOCKED";

static struct err find_due(struct pg *pg, int64_t grace_ms, struct arena *arena, struct due *due,
                           struct schedules_step *out)
{
    struct pg_array kinds;
    pg_array_init(&kinds, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < JOB_KIND_COUNT; i++)
        pg_array_add_text(&kinds, job_type((enum job_kind)i)->kind);
    struct err err = PG_EXEC(pg, due_sql, pg_array_param(&kinds), pg_integer(grace_ms));
    pg_array_close(&kinds);
    if (err_failed(&err) || pg_rows(pg) == 0)
        return err;
    *due = (struct due){
        .id = pg_get_integer(pg, 0, 0),
        .rule = {.cron = arena_strdup(arena, pg_get(pg, 0, 2)),
                 .interval_ms = pg_get_integer(pg, 0, 3),
                 .zone = arena_strdup(arena, pg_get(pg, 0, 4))},
        .missed = read_missed(pg_get(pg, 0, 5)),
        .missed_max = pg_get_integer(pg, 0, 6),
        .missed_fired = pg_get_integer(pg, 0, 7),
        .slot = arena_strdup(arena, pg_get(pg, 0, 8)),
        .is_planned = pg_get_flag(pg, 0, 9),
        .is_late = pg_get_flag(pg, 0, 9) && pg_get_flag(pg, 0, 10),
        .now = arena_strdup(arena, pg_get(pg, 0, 12)),
        .resume = arena_strdup(arena, pg_get(pg, 0, 13)),
    };
    snprintf(out->name, sizeof out->name, "%s", pg_get(pg, 0, 1));
    out->late_ms = pg_get_integer(pg, 0, 11);
    return ERR_NONE;
}

/* What becomes of the slot, and after which moment the next one is looked for. */
static enum schedules_outcome decide(struct due *due, const char **after)
{
    if (!due->is_planned) {
        *after = due->now;
        return SCHEDULES_PLANNED;
    }
    if (!due->is_late) {
        due->missed_fired = 0;
        *after = due->slot;
        return SCHEDULES_DUE;
    }
    if (due->missed == MISSED_ALL && due->missed_fired < due->missed_max) {
        due->missed_fired++;
        *after = due->slot;
        return SCHEDULES_MISSED;
    }
    due->missed_fired = 0;
    *after = due->resume;
    return due->missed == MISSED_ONCE ? SCHEDULES_MISSED : SCHEDULES_SKIPPED;
}

static struct err take(struct pg *pg, struct due *due, struct schedules_step *out)
{
    const char *after;
    char job_id[UUID_TEXT_SIZE];
    struct buf next = {0};
    bool fired = false;
    enum schedules_outcome outcome = decide(due, &after);
    struct err err = schedule_rule_next(pg, &due->rule, after, &next);
    if (!err_failed(&err) && due->is_planned)
        err = schedules_add_firing(pg, due->id, due->slot, schedules_outcome_name(outcome), job_id,
                                   &fired);
    if (!err_failed(&err))
        err = PG_EXEC(pg,
                      "UPDATE schedules SET next_slot = $2::timestamptz, missed_fired = $3::integer"
                      " WHERE id = $1::bigint",
                      pg_integer(due->id), pg_text(buf_text(&next)), pg_integer(due->missed_fired));
    buf_close(&next);
    out->outcome = fired ? outcome : SCHEDULES_PLANNED;
    return err;
}

/* It would come first for ever. Unless somebody has changed it meanwhile. */
static struct err set_aside(struct pg *pg, const struct due *due, const struct err *why,
                            struct schedules_step *out)
{
    out->outcome = SCHEDULES_BROKEN;
    out->why = *why;
    return PG_EXEC(pg,
                   "UPDATE schedules SET error = $3"
                   " WHERE id = $1::bigint AND next_slot = $2::timestamptz",
                   pg_integer(due->id), pg_text(due->slot), pg_text(err_text(why)));
}

static struct err step_in(struct pg *pg, int64_t grace_ms, struct arena *arena,
                          struct schedules_step *out)
{
    struct due due = {0};
    TRY(pg_begin(pg));
    TRY(find_due(pg, grace_ms, arena, &due, out));
    if (due.id == 0)
        return ERR_NONE;
    struct err err = take(pg, &due, out);
    if (err.code == ERR_USAGE || err.code == ERR_PG_DATA) {
        pg_rollback(pg);
        return set_aside(pg, &due, &err, out);
    }
    TRY(err);
    (void)FAULT(before_firing_commit);
    TRY(pg_commit(pg));
    (void)FAULT(after_firing_commit);
    return ERR_NONE;
}

struct err schedules_take_step(struct pg *pg, int64_t grace_ms, struct schedules_step *out)
{
    struct arena arena;
    *out = (struct schedules_step){.outcome = SCHEDULES_NOTHING};
    arena_init(&arena);
    struct err err = step_in(pg, grace_ms, &arena, out);
    pg_rollback(pg);
    arena_close(&arena);
    return err;
}

/* --- a clock that was put back --------------------------------------------------------------- */

struct planned {
    int64_t id;
    struct schedule_rule rule;
    const char *slot;
    const char *now;
};

static struct err mend_one(struct pg *pg, const struct planned *planned, size_t *mended)
{
    struct buf next = {0};
    struct err err = schedule_rule_next(pg, &planned->rule, planned->now, &next);
    if (!err_failed(&err))
        err = PG_EXEC(pg,
                      "UPDATE schedules SET next_slot = $3::timestamptz WHERE id = $1::bigint"
                      " AND next_slot = $2::timestamptz AND next_slot > $3::timestamptz"
                      " AND NOT EXISTS (SELECT FROM schedule_firings"
                      "  WHERE schedule_id = $1::bigint AND slot = $3::timestamptz)",
                      pg_integer(planned->id), pg_text(planned->slot), pg_text(buf_text(&next)));
    buf_close(&next);
    if (err.code == ERR_USAGE || err.code == ERR_PG_DATA)
        return ERR_NONE; /* it rests when it comes to its slot, and says why */
    TRY(err);
    *mended += pg_affected(pg);
    return ERR_NONE;
}

static struct err mend_all(struct pg *pg, struct arena *arena, size_t *mended)
{
    TRY(pg_exec(pg,
                "SELECT id, cron, interval_ms, zone, next_slot::text, whopline_now()::text"
                " FROM schedules WHERE enabled AND error IS NULL AND isfinite(next_slot)"
                " AND next_slot > whopline_now()",
                NULL, 0));
    size_t count = pg_rows(pg);
    struct planned *all = arena_alloc(arena, (count + 1) * sizeof *all);
    for (size_t i = 0; i < count; i++)
        all[i] = (struct planned){
            .id = pg_get_integer(pg, i, 0),
            .rule = {.cron = arena_strdup(arena, pg_get(pg, i, 1)),
                     .interval_ms = pg_get_integer(pg, i, 2),
                     .zone = arena_strdup(arena, pg_get(pg, i, 3))},
            .slot = arena_strdup(arena, pg_get(pg, i, 4)),
            .now = arena_strdup(arena, pg_get(pg, i, 5)),
        };
    for (size_t i = 0; i < count; i++)
        TRY(mend_one(pg, &all[i], mended));
    return ERR_NONE;
}

struct err schedules_mend(struct pg *pg, size_t *mended)
{
    struct arena arena;
    *mended = 0;
    arena_init(&arena);
    struct err err = mend_all(pg, &arena, mended);
    arena_close(&arena);
    return err;
}
