#include "service/retention.h"

const char *retention_table_name(enum retention_table table)
{
    static const char *const names[] = {"webhook_events", "jobs",     "schedule_firings",
                                        "timers",         "outbound", "email_outbox"};
    return names[table];
}

enum age { AGE_EVENTS, AGE_JOBS, AGE_DEAD, AGE_OUTBOUND };

/* $1: days, $2: rows. */
#define BEFORE " < whopline_now() - $1::bigint * interval '1 day'"
#define SOME   " LIMIT $2::integer FOR UPDATE SKIP LOCKED))"
/* received_at is ingest's clock, or long ago if the event has waited in Redis: dedupe by the row's
 * id begins when it is written. */
#define KEPT_LONG " AND e.journalled_at < whopline_now() - $1::bigint * interval '1 day'"
#define UNREFERRED                                                                                 \
    " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.event_id = e.id)"                               \
    " AND NOT EXISTS (SELECT 1 FROM credit_review r WHERE r.event_id = e.id AND r.state = 'open')"

static const struct rule {
    enum retention_table table;
    enum age age;
    const char *sql;
} rules[] = {
    {RETENTION_JOBS, AGE_JOBS,
     "DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM jobs"
     " WHERE state IN ('done', 'skipped') AND finished_at" BEFORE " ORDER BY finished_at" SOME},
    {RETENTION_JOBS, AGE_DEAD,
     "DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM jobs"
     " WHERE state = 'dead' AND state IN ('parked', 'dead') AND finished_at" BEFORE
     " ORDER BY finished_at" SOME},
    {RETENTION_EVENTS, AGE_EVENTS,
     "DELETE FROM webhook_events WHERE id = ANY (ARRAY(SELECT e.id FROM webhook_events e"
     " WHERE e.status <> 'quarantined' AND e.received_at" BEFORE KEPT_LONG UNREFERRED
     " ORDER BY e.received_at" SOME},
    {RETENTION_EVENTS, AGE_DEAD,
     "DELETE FROM webhook_events WHERE id = ANY (ARRAY(SELECT e.id FROM webhook_events e"
     " WHERE e.status = 'quarantined' AND e.status <> 'routed' AND e.received_at" BEFORE
         KEPT_LONG UNREFERRED " ORDER BY e.received_at" SOME},
    {RETENTION_FIRINGS, AGE_EVENTS,
     "DELETE FROM schedule_firings WHERE ctid = ANY (ARRAY(SELECT ctid FROM schedule_firings"
     " WHERE fired_at" BEFORE " ORDER BY fired_at" SOME},
    {RETENTION_TIMERS, AGE_EVENTS,
     "DELETE FROM timers WHERE id = ANY (ARRAY(SELECT id FROM timers"
     " WHERE status <> 'pending' AND ended_at" BEFORE " ORDER BY ended_at" SOME},
    /* Without its row a call is made once more by a job that is put in again: its own, or one of
     * the same business key that was there when it ended. */
    {RETENTION_OUTBOUND, AGE_OUTBOUND,
     "DELETE FROM outbound WHERE id = ANY (ARRAY(SELECT o.id FROM outbound o"
     " WHERE o.finished_at" BEFORE " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = o.job_id)"
     " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.state IN ('parked', 'dead')"
     "  AND j.tenant_id = o.tenant_id AND j.created_at <= o.finished_at)"
     " ORDER BY o.finished_at" SOME},
    {RETENTION_MAILS, AGE_OUTBOUND,
     "DELETE FROM email_outbox WHERE id = ANY (ARRAY(SELECT id FROM email_outbox"
     " WHERE state <> 'queued' AND ended_at" BEFORE " ORDER BY ended_at" SOME},
};

/* Whatever could cause a job that makes the call again is gone by then. */
static int64_t outbound_days(const struct config *config)
{
    int64_t days = config->retention_dead_days;
    if (days < config->retention_events_days)
        days = config->retention_events_days;
    if (days < config->retention_jobs_days)
        days = config->retention_jobs_days;
    return days + config->retention_outbound_margin_days;
}

static int64_t days_of(const struct config *config, enum age age)
{
    switch (age) {
    case AGE_JOBS: return config->retention_jobs_days;
    case AGE_DEAD: return config->retention_dead_days;
    case AGE_OUTBOUND: return outbound_days(config);
    default: return config->retention_events_days;
    }
}

struct err retention_sweep(struct pg *pg, const struct config *config,
                           uint64_t deleted[RETENTION_TABLE_COUNT], bool *more)
{
    int64_t most = config->retention_batch_rows;
    *more = false;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        TRY(PG_EXEC(pg, rules[i].sql, pg_integer(days_of(config, rules[i].age)), pg_integer(most)));
        deleted[rules[i].table] += pg_affected(pg);
        *more = *more || (int64_t)pg_affected(pg) == most;
    }
    return ERR_NONE;
}
