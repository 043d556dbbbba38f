#include "service/schedules_admin.h"

#include "base/arena.h"
#include "service/audit.h"

/* A schedule, locked by the transaction. */
struct locked {
    int64_t id;
    struct schedule_rule rule;
    bool enabled;
    bool is_planned;
    const char *slot;
    const char *now;
};

static struct err lock(struct pg *pg, const char *name, struct arena *arena, struct locked *out)
{
    TRY(PG_EXEC(pg,
                "SELECT id, cron, interval_ms, zone, enabled AND error IS NULL,"
                " isfinite(next_slot), next_slot::text, whopline_now()::text"
                " FROM schedules WHERE name = $1 FOR UPDATE",
                pg_text(name)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no schedule \"%.100s\": see whopline schedules ls",
                        name);
    *out = (struct locked){
        .id = pg_get_integer(pg, 0, 0),
        .rule = {.cron = arena_strdup(arena, pg_get(pg, 0, 1)),
                 .interval_ms = pg_get_integer(pg, 0, 2),
                 .zone = arena_strdup(arena, pg_get(pg, 0, 3))},
        .enabled = pg_get_flag(pg, 0, 4),
        .is_planned = pg_get_flag(pg, 0, 5),
        .slot = arena_strdup(arena, pg_get(pg, 0, 6)),
        .now = arena_strdup(arena, pg_get(pg, 0, 7)),
    };
    return ERR_NONE;
}

static struct err add_audit(struct pg *pg, const struct schedules_hand *hand, const char *action,
                            const char *key, const char *value)
{
    TRY(PG_EXEC(pg, "SELECT jsonb_build_object($1::text, $2::text)::text", pg_text(key),
                pg_text(value)));
    struct buf detail = {0};
    buf_add_text(&detail, pg_get(pg, 0, 0));
    struct err err = audit_add(pg, &(struct audit){.actor = hand->actor,
                                                   .action = action,
                                                   .target = hand->name,
                                                   .reason = hand->reason,
                                                   .detail = buf_text(&detail)});
    buf_close(&detail);
    return err;
}

/* --- fire ------------------------------------------------------------------------------------ */

static struct err fire(struct pg *pg, const struct schedules_hand *hand, struct arena *arena,
                       char job_id[UUID_TEXT_SIZE])
{
    struct locked schedule = {0};
    bool fired = false;
    TRY(lock(pg, hand->name, arena, &schedule));
    TRY(schedules_add_firing(pg, schedule.id, schedule.now, "manual", job_id, &fired));
    if (!fired)
        return err_make(ERR_BUSY, "it has been fired at this very moment: try again");
    TRY(add_audit(pg, hand, "schedules.fire", "job", job_id));
    return pg_commit(pg);
}

struct err schedules_fire(struct pg *pg, const struct schedules_hand *hand,
                          char job_id[UUID_TEXT_SIZE])
{
    struct arena arena;
    arena_init(&arena);
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = fire(pg, hand, &arena, job_id);
    pg_rollback(pg);
    arena_close(&arena);
    return err;
}

/* --- skip ------------------------------------------------------------------------------------ */

static struct err skip(struct pg *pg, const struct schedules_hand *hand, struct arena *arena,
                       struct buf *skipped, struct buf *next)
{
    struct locked schedule = {0};
    char unused[UUID_TEXT_SIZE];
    bool fired = false;
    TRY(lock(pg, hand->name, arena, &schedule));
    if (!schedule.enabled)
        return err_make(ERR_REFUSED, "%.100s is disabled or rests: it has no next slot",
                        hand->name);
    if (schedule.is_planned)
        buf_add_text(skipped, schedule.slot);
    else
        TRY(schedule_rule_next(pg, &schedule.rule, schedule.now, skipped));
    TRY(schedule_rule_next(pg, &schedule.rule, buf_text(skipped), next));
    TRY(schedules_add_firing(pg, schedule.id, buf_text(skipped),
                             schedules_outcome_name(SCHEDULES_SKIPPED), unused, &fired));
    TRY(PG_EXEC(pg, "UPDATE schedules SET next_slot = $2::timestamptz WHERE id = $1::bigint",
                pg_integer(schedule.id), pg_text(buf_text(next))));
    TRY(add_audit(pg, hand, "schedules.skip", "slot", buf_text(skipped)));
    return pg_commit(pg);
}

struct err schedules_skip(struct pg *pg, const struct schedules_hand *hand, struct buf *skipped,
                          struct buf *next)
{
    struct arena arena;
    arena_init(&arena);
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = skip(pg, hand, &arena, skipped, next);
    pg_rollback(pg);
    arena_close(&arena);
    return err;
}

/* --- enable, disable ------------------------------------------------------------------------- */

static struct err enable(struct pg *pg, const struct schedules_hand *hand, struct arena *arena,
                         bool enabled, bool *changed)
{
    struct locked schedule = {0};
    TRY(lock(pg, hand->name, arena, &schedule));
    TRY(PG_EXEC(pg,
                "UPDATE schedules SET enabled = $2::boolean, error = NULL, missed_fired = 0,"
                " next_slot = '-infinity', updated_at = whopline_now()"
                " WHERE id = $1::bigint AND (enabled <> $2::boolean OR error IS NOT NULL)",
                pg_integer(schedule.id), pg_flag(enabled)));
    *changed = pg_affected(pg) == 1;
    if (!*changed)
        return ERR_NONE;
    TRY(add_audit(pg, hand, enabled ? "schedules.enable" : "schedules.disable", "was",
                  enabled ? "disabled" : "enabled"));
    return pg_commit(pg);
}

struct err schedules_enable(struct pg *pg, const struct schedules_hand *hand, bool enabled,
                            bool *changed)
{
    struct arena arena;
    arena_init(&arena);
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = enable(pg, hand, &arena, enabled, changed);
    pg_rollback(pg);
    arena_close(&arena);
    return err;
}

/* --- set ------------------------------------------------------------------------------------- */

static struct err set(struct pg *pg, const struct schedules_hand *hand, struct arena *arena,
                      const struct schedule_rule *wanted, struct buf *next)
{
    struct locked schedule = {0};
    TRY(lock(pg, hand->name, arena, &schedule));
    const struct schedule_rule rule = {
        .cron = wanted->cron != NULL ? wanted->cron : schedule.rule.cron,
        .interval_ms = wanted->cron != NULL ? 0 : schedule.rule.interval_ms,
        .zone = wanted->zone != NULL ? wanted->zone : schedule.rule.zone,
    };
    const char *was = arena_printf(arena, "%s %s", schedule.rule.cron, schedule.rule.zone);
    struct err err = schedule_rule_next(pg, &rule, schedule.now, next);
    if (err.code == ERR_PG_DATA)
        return err_make(ERR_USAGE, "%s: PostgreSQL knows no such time zone", rule.zone);
    TRY(err);
    TRY(PG_EXEC(pg,
                "UPDATE schedules SET cron = $2, interval_ms = NULLIF($3::bigint, 0), zone = $4,"
                " next_slot = $5::timestamptz, missed_fired = 0, error = NULL,"
                " updated_at = whopline_now() WHERE id = $1::bigint",
                pg_integer(schedule.id), pg_text_or_null(rule.cron), pg_integer(rule.interval_ms),
                pg_text(rule.zone), pg_text(buf_text(next))));
    TRY(add_audit(pg, hand, "schedules.set", "was", was));
    return pg_commit(pg);
}

struct err schedules_set(struct pg *pg, const struct schedules_hand *hand, const char *cron,
                         const char *zone, struct buf *next)
{
    const struct schedule_rule wanted = {.cron = cron, .zone = zone};
    struct arena arena;
    arena_init(&arena);
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = set(pg, hand, &arena, &wanted, next);
    pg_rollback(pg);
    arena_close(&arena);
    return err;
}
