#include "runtime/slot.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/random.h"
#include "runtime/run.h"
#include "service/migrate.h"

#include <limits.h>
#include <stdio.h>

enum { MS_PER_HOUR = 3600000 };

/* --- for handlers ---------------------------------------------------------------------------- */

struct err slot_add_jobs(struct slot *slot, struct outgoing *jobs, size_t count)
{
    REQUIRE(pg_in_transaction(slot->db));
    struct outgoing *all = arena_alloc(&slot->arena, (slot->added_count + count) * sizeof *all);
    if (slot->added_count > 0)
        memcpy(all, slot->added, slot->added_count * sizeof *all);
    for (size_t i = 0; i < count; i++) {
        random_uuid(jobs[i].id);
        jobs[i].gen = 0;
        jobs[i].created_ms = clock_wall_ms();
        jobs[i].attempts = 0;
        all[slot->added_count + i] = jobs[i];
    }
    TRY(store_insert_jobs(slot->db, jobs, count));
    slot->added = all;
    slot->added_count += count;
    return ERR_NONE;
}

struct err slot_commit(struct slot *slot, enum job_state state, const char *reason)
{
    if (slot->job != NULL)
        TRY(store_finish_job(slot->db, slot->job->id, state, reason, slot->job->attempt));
    TRY(pg_commit(slot->db));
    slot->committed = true;
    return ERR_NONE;
}

/* --- one job --------------------------------------------------------------------------------- */

static const struct handler *find_handler(const struct worker *worker, enum job_kind kind)
{
    for (size_t i = 0; i < worker->handler_count; i++)
        if (worker->handlers[i].kind == kind)
            return &worker->handlers[i];
    return NULL;
}

static struct err decode(struct slot *slot, const struct worker *worker, const struct job *job,
                         const struct handler **handler, const void **payload)
{
    enum job_kind kind;
    if (!job_kind_find(span_of(job->kind), &kind) ||
        (*handler = find_handler(worker, kind)) == NULL)
        return err_make(ERR_UNKNOWN_KIND, "unknown kind %.64s: is a newer release needed?",
                        job->kind);
    const struct job_type *type = job_type(kind);
    void *decoded = arena_zalloc(&slot->arena, payload_size(type->payload));
    TRY(payload_decode(type->payload, job->version, job->payload, &slot->arena, decoded));
    *payload = decoded;
    return ERR_NONE;
}

static void begin(struct slot *slot, const struct job *job)
{
    slot->job = job;
    slot->added = NULL;
    slot->added_count = 0;
    slot->committed = false;
}

static struct err execute(struct slot_thread *thread, const struct job *job)
{
    struct slot *slot = &thread->slot;
    const struct handler *handler = NULL;
    const void *payload = NULL;
    begin(slot, job);
    if (job->deliveries > slot->config->max_deliveries)
        return err_make(ERR_POISON, "poison: brought its worker down %lld times",
                        (long long)job->deliveries - 1);
    TRY(decode(slot, thread->slots->worker, job, &handler, &payload));
    REQUIRE(handler != NULL && handler->handle != NULL);
    struct err err = handler->handle(slot, payload);
    pg_rollback(slot->db);
    return err;
}

/* Gives what the job added to Redis, and notes that it is there. Nothing is lost if that fails: the
 * scheduler looks after unrelayed rows. */
static void relay_added(struct slot_thread *thread)
{
    struct slot *slot = &thread->slot;
    if (!slot->committed || slot->added_count == 0)
        return;
    slots_relay(thread, slot->added, slot->added_count);
    if (thread->relay.failed)
        return;
    (void)FAULT(after_enqueue_before_mark);
    struct err err = store_mark_relayed(slot->db, slot->added, slot->added_count);
    if (err_failed(&err))
        log_warning("slot", "jobs are relayed but their rows do not say so",
                    LOG_TEXT("error", err_text(&err)));
}

/* A verdict that the handler's own transaction has not written. */
static struct err write_verdict(struct slot *slot, const struct job *job,
                                const struct verdict *verdict)
{
    static const enum job_state states[] = {
        [VERDICT_DONE] = JOB_STATE_DONE,
        [VERDICT_SKIP] = JOB_STATE_SKIPPED,
        [VERDICT_PARK] = JOB_STATE_PARKED,
        [VERDICT_DEAD] = JOB_STATE_DEAD,
    };
    struct err err = store_finish_job(slot->db, job->id, states[verdict->action], verdict->reason,
                                      verdict->attempt);
    if (err.code == ERR_PG_DATA) /* whatever it is about the reason: the verdict must stand */
        err = store_finish_job(slot->db, job->id, states[verdict->action], "reason not storable",
                               verdict->attempt);
    return err.code == ERR_ALREADY_DONE ? ERR_NONE : err;
}

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
    enum job_kind kind;
    int own = job_kind_find(span_of(job->kind), &kind) ? job_type(kind)->max_attempts : 0;
    return (struct verdict_limits){
        .max_attempts = own > 0 ? own : (int)config->max_attempts,
        .max_age_ms = config->max_age_hours * MS_PER_HOUR,
        .backoff_base_ms = config->backoff_base_ms,
        .backoff_max_ms = config->backoff_max_ms,
    };
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
    const char *text = err_failed(err) ? err_text(err) : "";
    const char *word = words[verdict->action];
    if (verdict->action == VERDICT_DEAD)
        log_error("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("reason", verdict->reason));
    else if (verdict->action == VERDICT_PARK || verdict->action == VERDICT_RETRY)
        log_warning("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("error", text),
                    LOG_INT("attempt", verdict->attempt), LOG_INT("delay_ms", verdict->delay_ms));
    else
        log_debug("job", word, LOG_TEXT("kind", job->kind), LOG_TEXT("reason", verdict->reason));
}

/* From the handler's answer to a verdict that the loop can settle. */
static void judge(struct slot_thread *thread, struct run_job *item, struct err err)
{
    struct slot *slot = &thread->slot;
    const struct job *job = item->job;
    struct verdict_limits limits =
        item->has_row ? limits_of(slot->config, job) : no_limits(slot->config);
    int64_t age_ms = clock_wall_ms() - job->enqueued_ms;
    thread->run.database_is_down |= err.code == ERR_PG_DOWN;
    item->verdict = verdict_decide(&err, job->attempt, age_ms, &limits, random_below(65536));
    log_verdict(job, &item->verdict, &err);
    if (!item->has_row || slot->committed || err.code == ERR_ALREADY_DONE)
        return;
    if (item->verdict.action == VERDICT_RETRY) {
        if (item->verdict.attempt > job->attempt)
            note_attempts(slot, job, item->verdict.attempt);
        return;
    }
    struct err written = write_verdict(slot, job, &item->verdict);
    if (!err_failed(&written))
        return;
    if (written.code == ERR_MALFORMED) { /* not an id of ours: there is no row */
        item->has_row = false;
        return;
    }
    thread->run.database_is_down |= written.code == ERR_PG_DOWN;
    log_warning("job", "verdict could not be written, the job comes back",
                LOG_TEXT("error", err_text(&written)));
    item->verdict = (struct verdict){
        .action = VERDICT_RETRY, .delay_ms = limits.backoff_base_ms, .attempt = job->attempt};
}

static void set_about(const struct job *job)
{
    struct log_about about = {0};
    if (job != NULL) {
        about.job = job->id;
        about.event = job->trace;
    }
    log_about(about);
}

static void run_one_by_one(struct slot_thread *thread)
{
    struct run *run = &thread->run;
    for (size_t i = 0; i < run->count; i++) {
        struct run_job *item = &run->jobs[i];
        if (atomic_load(&thread->slots->stopping)) {
            item->released = true;
            continue;
        }
        item->has_row = true;
        set_about(item->job);
        struct err err = execute(thread, item->job);
        relay_added(thread);
        judge(thread, item, err);
        arena_reset(&thread->slot.arena);
    }
}

/* --- a batch --------------------------------------------------------------------------------- */

/* Halves what fails for its data until the culprit is alone. */
static void run_halves(struct slot_thread *thread, const struct handler *handler,
                       const struct batch_item *items, struct run_job **jobs, size_t count)
{
    struct slot *slot = &thread->slot;
    begin(slot, NULL);
    REQUIRE(handler != NULL && handler->handle_batch != NULL);
    struct err err = handler->handle_batch(slot, items, count);
    pg_rollback(slot->db);
    relay_added(thread);
    if (count > 1 && err_class_of(err.code) == ERR_CLASS_PERMANENT) {
        run_halves(thread, handler, items, jobs, count / 2);
        run_halves(thread, handler, items + count / 2, jobs + count / 2, count - count / 2);
        return;
    }
    for (size_t i = 0; i < count; i++)
        judge(thread, jobs[i], err);
}

static void run_batch(struct slot_thread *thread)
{
    struct run *run = &thread->run;
    struct slot *slot = &thread->slot;
    struct batch_item items[RUN_JOBS_MAX];
    struct run_job *jobs[RUN_JOBS_MAX];
    const struct handler *handler = NULL;
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++) {
        struct job *job = run->jobs[i].job;
        struct err err = ERR_NONE;
        begin(slot, NULL);
        if (job->deliveries > slot->config->max_deliveries)
            err = err_make(ERR_POISON, "poison: brought its worker down %lld times",
                           (long long)job->deliveries - 1);
        else
            err = decode(slot, thread->slots->worker, job, &handler, &items[count].payload);
        if (err_failed(&err)) {
            judge(thread, &run->jobs[i], err);
            continue;
        }
        items[count].job = job;
        jobs[count++] = &run->jobs[i];
    }
    if (count > 0)
        run_halves(thread, handler, items, jobs, count);
    arena_reset(&slot->arena);
}

/* --- a run ----------------------------------------------------------------------------------- */

static void check(struct slot_thread *thread)
{
    const struct worker *worker = thread->slots->worker;
    thread->run.err = migrate_check(thread->slot.db);
    if (!err_failed(&thread->run.err) && worker->prepare != NULL)
        thread->run.err = worker->prepare(&thread->slot);
    pg_rollback(thread->slot.db);
}

void slot_run(struct slot_thread *thread)
{
    thread->run.database_is_down = false;
    if (thread->run.kind == RUN_CHECK)
        check(thread);
    else if (thread->slots->worker->handlers[0].handle_batch != NULL)
        run_batch(thread);
    else
        run_one_by_one(thread);
    set_about(NULL);
}
