#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "runtime/reporter.h"
#include "runtime/run.h"

#include <limits.h>

enum { MS_PER_HOUR = 3600000 };

/* An event has no row to wait in: it is tried until it can be kept, however long that takes. */
static struct verdict_limits no_limits(const struct config *config)
{
    return (struct verdict_limits){
        .max_attempts = INT_MAX,
        .max_age_ms = INT64_MAX,
        .backoff_base_ms = config->backoff_base_ms,
        .backoff_max_ms = config->backoff_max_ms,
    };
}

static struct verdict_limits limits_of(const struct config *config, const struct job *job)
{
    int own = job->kind_known ? job_type(job->known)->max_attempts : 0;
    if (job->kind_known && job_type(job->known)->life == JOB_LIFE_EVENT)
        return no_limits(config);
    return (struct verdict_limits){
        .max_attempts = own > 0 ? own : (int)config->max_attempts,
        .max_age_ms = config->max_age_hours * MS_PER_HOUR,
        .backoff_base_ms = config->backoff_base_ms,
        .backoff_max_ms = config->backoff_max_ms,
    };
}

/* A verdict that the handler's own transaction has not written. */
static struct err write_verdict(struct slot *slot, const struct job *job,
                                const struct verdict *verdict, const struct err *cause)
{
    static const enum job_state states[] = {
        [VERDICT_DONE] = JOB_STATE_DONE,
        [VERDICT_SKIP] = JOB_STATE_SKIPPED,
        [VERDICT_PARK] = JOB_STATE_PARKED,
        [VERDICT_DEAD] = JOB_STATE_DEAD,
    };
    struct store_ending ending = {
        .state = states[verdict->action],
        .reason = verdict->reason,
        .error = verdict->action == VERDICT_DEAD || verdict->action == VERDICT_PARK
                     ? err_name(cause->code)
                     : "",
        .attempts = verdict->attempt,
    };
    struct err err = store_finish_job(slot->db, job->id, &ending);
    if (err.code == ERR_PG_DATA) { /* whatever it is about the reason: the verdict must stand */
        ending.reason = "reason not storable";
        err = store_finish_job(slot->db, job->id, &ending);
    }
    return err.code == ERR_ALREADY_DONE ? ERR_NONE : err;
}

/* So that a Redis that loses its data does not make the job young again. Not being able to is no
 * harm. */
static void note_attempts(struct slot *slot, const struct job *job, int attempts)
{
    struct err err = store_note_attempts(slot->db, job->id, attempts);
    if (err_failed(&err))
        log_debug("slot", "attempts not noted", LOG_TEXT("error", err_text(&err)));
}

static void log_verdict(const struct job *job, const struct verdict *verdict, const struct err *err)
{
    static const char *const words[] = {
        [VERDICT_DONE] = "done", [VERDICT_SKIP] = "skipped",  [VERDICT_PARK] = "parked",
        [VERDICT_DEAD] = "dead", [VERDICT_RETRY] = "put off",
    };
    const char *word = words[verdict->action];
    /* Whoever waits for a budget is told to come back, often many in a second; metrics count them.
     */
    bool limited = verdict->action == VERDICT_RETRY && err_class_of(err->code) == ERR_CLASS_LIMITED;
    if (verdict->action == VERDICT_DEAD)
        log_error("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("reason", verdict->reason));
    else if (limited)
        log_debug("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("error", err_text(err)),
                  LOG_INT("delay_ms", verdict->delay_ms));
    else if (verdict->action == VERDICT_PARK || verdict->action == VERDICT_RETRY)
        log_warning("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("error", err_text(err)),
                    LOG_INT("attempt", verdict->attempt), LOG_INT("delay_ms", verdict->delay_ms));
    else
        log_debug("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("reason", verdict->reason));
}

static void report_dead(const struct job *job, const struct verdict *verdict, enum err_code code)
{
    reporter_dead_job(&(struct reporter_job){
        .kind = job->kind,
        .id = job->id,
        .queue = job->kind_known ? queue_text(job_type(job->known)->queue) : "",
        .event = job->trace,
        .reason = verdict->reason,
        .code = code,
        .tenant = job->tenant,
        .attempts = verdict->attempt,
        .deliveries = job->deliveries,
    });
}

/* The row of a job that has not been ended by its handler learns what became of it. */
static void write_row(struct slot_thread *thread, struct run_job *item, const struct err *cause)
{
    struct slot *slot = &thread->slot;
    const struct job *job = item->job;
    if (item->verdict.action == VERDICT_RETRY) {
        if (item->verdict.attempt > job->attempt)
            note_attempts(slot, job, item->verdict.attempt);
        return;
    }
    struct err written = write_verdict(slot, job, &item->verdict, cause);
    if (!err_failed(&written))
        return;
    if (written.code == ERR_MALFORMED) { /* not an id of ours: there is no row */
        item->has_row = false;
        return;
    }
    thread->run.database_is_down |= written.code == ERR_PG_DOWN;
    log_warning("job", "verdict could not be written, the job comes back",
                LOG_TEXT("error", err_text(&written)));
    item->class = err_class_of(written.code);
    item->verdict = (struct verdict){.action = VERDICT_RETRY,
                                     .delay_ms = slot->config->backoff_base_ms,
                                     .attempt = job->attempt};
}

void judge_job(struct slot_thread *thread, struct run_job *item, struct err err)
{
    const struct config *config = thread->slot.config;
    const struct job *job = item->job;
    if (!err_failed(&err)) { /* most are, and that is all there is to say */
        item->verdict.action = VERDICT_DONE;
        if (!item->has_row || thread->slot.committed)
            return;
    }
    struct verdict_limits limits = limits_of(config, job);
    int64_t age_ms = clock_wall_ms() - job->enqueued_ms;
    thread->run.database_is_down |= err.code == ERR_PG_DOWN;
    item->class = err_class_of(err.code);
    item->verdict = verdict_decide(&err, job->attempt, age_ms, &limits, random_below(65536));
    if (atomic_load(&item->lost)) {
        log_info("job", "stopped: another worker has it");
        return;
    }
    log_verdict(job, &item->verdict, &err);
    if (item->has_row && !thread->slot.committed && err.code != ERR_ALREADY_DONE)
        write_row(thread, item, &err);
    if (item->verdict.action == VERDICT_DEAD)
        report_dead(job, &item->verdict, err.code);
}
