#include "runtime/duties.h"

#include "base/clock.h"
#include "base/log.h"
#include "service/timers.h"

enum {
    SCHEDULES_MS = 500, /* of a round, for schedules; about a thousand firings */
    TIMERS_MS = 500,
    US_PER_MS = 1000,
    CLOCK_BACK_MS = 5000, /* less than that only makes a slot late by as much */
};

void duties_init(struct duties *duties, struct pg *pg, const struct config *config,
                 const bool *stopping)
{
    *duties = (struct duties){.pg = pg, .config = config, .stopping = stopping};
}

/* --- a round --------------------------------------------------------------------------------- */

static void note_step(struct duties *duties, const struct schedules_step *step)
{
    duties->steps[step->outcome]++;
    if (step->outcome == SCHEDULES_DUE)
        metric_observe(METRIC_schedule_late_seconds, &duties->late, step->late_ms * US_PER_MS);
    if (step->outcome == SCHEDULES_BROKEN)
        log_error("schedules", "a schedule rests until it is mended",
                  LOG_TEXT("schedule", step->name), LOG_TEXT("error", err_text(&step->why)));
    else if (step->outcome == SCHEDULES_SKIPPED)
        log_warning("schedules", "missed slots are left out", LOG_TEXT("schedule", step->name),
                    LOG_INT("late_ms", step->late_ms));
}

/* One line a round; which ones, the rows say. */
static void note_fired(const struct duties *duties, const uint64_t before[])
{
    uint64_t due = duties->steps[SCHEDULES_DUE] - before[SCHEDULES_DUE];
    uint64_t missed = duties->steps[SCHEDULES_MISSED] - before[SCHEDULES_MISSED];
    if (due + missed > 0)
        log_info("schedules", "fired", LOG_INT("due", due), LOG_INT("missed", missed));
}

static struct err fire_schedules(struct duties *duties, bool *more)
{
    uint64_t before[SCHEDULES_OUTCOME_COUNT];
    int64_t until = clock_mono_ms() + SCHEDULES_MS;
    struct err err = ERR_NONE;
    memcpy(before, duties->steps, sizeof before);
    while (!*duties->stopping && !*more) {
        struct schedules_step step;
        err = schedules_take_step(duties->pg, duties->config->schedule_grace_ms, &step);
        if (err_failed(&err))
            break;
        note_step(duties, &step);
        if (step.outcome == SCHEDULES_NOTHING)
            break;
        *more = clock_mono_ms() >= until;
    }
    note_fired(duties, before);
    return err;
}

static struct err fire_timers(struct duties *duties, bool *more)
{
    int64_t until = clock_mono_ms() + TIMERS_MS;
    size_t fired = TIMERS_MAX;
    while (fired == TIMERS_MAX && !*duties->stopping) {
        if (clock_mono_ms() >= until) {
            *more = true;
            return ERR_NONE;
        }
        TRY(timers_fire(duties->pg, &fired));
        duties->timers += fired;
        if (fired > 0)
            log_info("timers", "fired", LOG_INT("timers", fired));
    }
    return ERR_NONE;
}

/* A clock that was ahead has left next slots in the future. Looked for at the start, and when the
 * database's clock has gone back since the last round. */
static struct err watch_clock(struct duties *duties)
{
    size_t mended = 0;
    int64_t ahead_ms;
    TRY(pg_exec(duties->pg, "SELECT (extract(epoch FROM whopline_now()) * 1000)::bigint", NULL, 0));
    ahead_ms = pg_get_integer(duties->pg, 0, 0) - clock_mono_ms();
    if (duties->clock_known && ahead_ms > duties->ahead_ms - CLOCK_BACK_MS) {
        duties->ahead_ms = ahead_ms > duties->ahead_ms ? ahead_ms : duties->ahead_ms;
        return ERR_NONE;
    }
    TRY(schedules_mend(duties->pg, &mended));
    if (mended > 0)
        log_warning("schedules", "the clock was put back: next slots are worked out anew",
                    LOG_INT("schedules", mended));
    duties->clock_known = true;
    duties->ahead_ms = ahead_ms;
    return ERR_NONE;
}

static struct err sweep_old(struct duties *duties)
{
    bool more = false;
    int64_t now_ms = clock_mono_ms();
    if (duties->retention_waits && now_ms < duties->retention_ms)
        return ERR_NONE;
    TRY(retention_sweep(duties->pg, duties->config, duties->deleted, &more));
    duties->retention_waits = !more;
    duties->retention_ms = now_ms + duties->config->retention_every_ms;
    return ERR_NONE;
}

struct err duties_round(struct duties *duties, bool *more)
{
    *more = false;
    if (!duties->installed)
        TRY(schedules_install(duties->pg, duties->config->schedules_enabled));
    duties->installed = true;
    TRY(watch_clock(duties));
    /* The trouble of one is not the others'. */
    struct err schedules = fire_schedules(duties, more);
    struct err timers = fire_timers(duties, more);
    struct err old = sweep_old(duties);
    return err_failed(&schedules) ? schedules : err_failed(&timers) ? timers : old;
}

/* --- the page -------------------------------------------------------------------------------- */

void duties_write(const struct duties *duties, struct metric_page *page)
{
    for (size_t i = SCHEDULES_BROKEN; i < SCHEDULES_OUTCOME_COUNT; i++)
        metric_put(page, METRIC_schedule_steps_total, (int64_t)duties->steps[i],
                   schedules_outcome_name((enum schedules_outcome)i), NULL);
    metric_put_histogram(page, METRIC_schedule_late_seconds, &duties->late, NULL);
    metric_put(page, METRIC_timers_fired_total, (int64_t)duties->timers, NULL, NULL);
    for (size_t i = 0; i < RETENTION_TABLE_COUNT; i++)
        metric_put(page, METRIC_retention_rows_total, (int64_t)duties->deleted[i],
                   retention_table_name((enum retention_table)i), NULL);
}
