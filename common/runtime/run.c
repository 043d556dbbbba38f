#include "runtime/run.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "service/controls.h"
#include "service/migrate.h"

/* --- one job --------------------------------------------------------------------------------- */

static void set_about(const struct job *job)
{
    struct log_about about = {0};
    if (job != NULL) {
        about.job = job->id;
        about.event = job->trace;
    }
    log_about(about);
}

/* From here on the loop may want it to stop. */
static void begin(struct slot_thread *thread, size_t place, const struct job *job)
{
    struct slot *slot = &thread->slot;
    slot->job = job;
    slot->added = NULL;
    slot->added_count = 0;
    slot->committed = false;
    slot->ended = JOB_STATE_DONE;
    pg_allow(slot->db);
    pg_limit(slot->db, place > 0 ? 0 : slot->config->max_run_ms);
    if (place == 1) /* of a batch each part is that: what was meant for the one before is over */
        atomic_store(&thread->stop_place, 0);
    atomic_store(&thread->since_ms, clock_mono_ms());
    atomic_store(&thread->place, place);
    set_about(job);
}

/* What the handler's answer means if the loop has asked for an end. */
static struct err end(struct slot_thread *thread, struct err err)
{
    size_t place = atomic_exchange(&thread->place, 0);
    size_t stopped = atomic_load(&thread->stop_place);
    bool stop_won = err_failed(&err) && !thread->slot.committed && err.code != ERR_ALREADY_DONE;
    pg_limit(thread->slot.db, thread->slot.config->max_run_ms); /* nobody watches what follows */
    if (stopped == 0 || !stop_won)
        return err;
    pg_allow(thread->slot.db); /* the verdict is to be written */
    bool overrun = atomic_load(&thread->stop_reason) == STOP_OVERRUN;
    if (stopped == place && overrun && err.code != ERR_PG_DOWN)
        return err_make(ERR_OVERRUN, "cancelled after %lld ms: longer than a %s may run",
                        (long long)(clock_mono_ms() - atomic_load(&thread->since_ms)),
                        thread->run.jobs[0].job->kind);
    /* Meant for another job of this run, or no longer ours: no blame. */
    if (err.code == ERR_PG_CANCELLED)
        return err_make(ERR_CANCELLED, "stopped by a cancel");
    return err;
}

static struct err decode(struct slot_thread *thread, const struct job *job, const void **payload)
{
    if (job->deliveries > thread->slot.config->max_deliveries)
        return err_make(ERR_POISON, "poison: brought its worker down %lld times",
                        (long long)job->deliveries - 1);
    if (!job->kind_known || thread->run.handler == NULL)
        return err_make(ERR_UNKNOWN_KIND, "unknown kind %.64s: is a newer release needed?",
                        job->kind);
    const struct job_type *type = job_type(job->known);
    void *decoded = arena_alloc(&thread->slot.arena, payload_size(type->payload));
    TRY(payload_decode(type->payload, job->version, job->payload, &thread->slot.arena, decoded));
    *payload = decoded;
    return ERR_NONE;
}

static struct err execute(struct slot_thread *thread, const struct job *job)
{
    const void *payload = NULL;
    TRY(decode(thread, job, &payload));
    struct err err = thread->run.handler->handle(&thread->slot, payload);
    pg_rollback(thread->slot.db);
    return err;
}

static void mark_relayed(struct slot *slot, const struct outgoing *jobs, size_t count)
{
    /* Volatile ones have no row, so that there is nothing to mark. */
    struct err err = store_mark_relayed(slot->db, jobs, count, slot->rebuilds);
    if (err_failed(&err))
        log_warning("slot", "jobs are relayed but their rows do not say so",
                    LOG_TEXT("error", err_text(&err)));
}

/* Gives what the job added to Redis, and notes that it is there. Nothing is lost if that fails: the
 * scheduler looks after unrelayed rows. Bulk rows are its business from the start. */
static void relay_added(struct slot_thread *thread)
{
    struct slot *slot = &thread->slot;
    size_t count = 0;
    if (!slot->committed || slot->added_count == 0)
        return;
    for (size_t i = 0; i < slot->added_count; i++)
        if (!slot->added[i].bulk)
            slot->added[count++] = slot->added[i];
    if (count == 0)
        return;
    (void)FAULT(before_enqueue);
    slots_relay(thread, slot->added, count);
    if (thread->relay.failed || FAULT(enqueue_reply_lost))
        return;
    (void)FAULT(after_enqueue_before_mark);
    mark_relayed(slot, slot->added, count);
}

static bool has_row(const struct job *job)
{
    return !job->kind_known || job_type(job->known)->life == JOB_LIFE_KEPT;
}

static void run_one_by_one(struct slot_thread *thread)
{
    struct run *run = &thread->run;
    for (size_t i = 0; i < run->count; i++) {
        struct run_job *item = &run->jobs[i];
        if (item->settled)
            continue;
        if (atomic_load(&thread->slots->stopping)) {
            item->released = true;
            continue;
        }
        if (atomic_load(&item->lost))
            continue;
        item->has_row = has_row(item->job);
        begin(thread, i + 1, item->job);
        int64_t began_us = clock_mono_us();
        struct err err = end(thread, execute(thread, item->job));
        item->run_us = clock_mono_us() - began_us;
        item->ended = thread->slot.ended;
        slots_count(thread);
        relay_added(thread);
        judge_job(thread, item, err);
        arena_reset(&thread->slot.arena);
    }
}

/* --- a batch --------------------------------------------------------------------------------- */

struct batch {
    struct batch_item items[RUN_JOBS_MAX];
    struct run_job *jobs[RUN_JOBS_MAX];
    size_t count;
    struct batch_item skipped[RUN_JOBS_MAX]; /* what somebody else has done */
    size_t skipped_count;
};

/* Opens the transaction and keeps what is still to be done; what another run has done is judged. */
static struct err claim(struct slot_thread *thread, struct batch *batch)
{
    struct slot *slot = &thread->slot;
    const char *ids[RUN_JOBS_MAX];
    bool mine[RUN_JOBS_MAX];
    size_t kept = 0;
    TRY(pg_begin(slot->db));
    if (!slot->batch_has_rows)
        return ERR_NONE;
    for (size_t i = 0; i < batch->count; i++)
        ids[i] = batch->jobs[i]->job->id;
    TRY(store_claim_jobs(slot->db, ids, batch->count, mine));
    for (size_t i = 0; i < batch->count; i++) {
        if (!mine[i]) {
            judge_job(thread, batch->jobs[i], err_make(ERR_ALREADY_DONE, "already_done"));
            batch->skipped[batch->skipped_count++] = batch->items[i];
            continue;
        }
        batch->items[kept] = batch->items[i];
        batch->jobs[kept++] = batch->jobs[i];
    }
    batch->count = kept;
    return ERR_NONE;
}

static void add(struct batch *batch, const struct batch *from, size_t i)
{
    batch->items[batch->count] = (struct batch_item){.job = from->items[i].job,
                                                     .payload = from->items[i].payload,
                                                     .state = JOB_STATE_DONE,
                                                     .reason = ""};
    batch->jobs[batch->count++] = from->jobs[i];
}

/* Halves what fails for its data until the culprit is alone. whole: not changed. */
static void run_part(struct slot_thread *thread, const struct batch *whole, size_t first,
                     size_t count)
{
    struct slot *slot = &thread->slot;
    struct batch *part = arena_zalloc(&slot->arena, sizeof *part);
    for (size_t i = 0; i < count; i++)
        add(part, whole, first + i);
    begin(thread, 1, NULL);
    struct err err = claim(thread, part);
    if (!err_failed(&err) && part->count > 0)
        err = thread->run.handler->handle_batch(slot, part->items, part->count);
    pg_rollback(slot->db);
    if (part->skipped_count > 0 && thread->run.handler->handle_skipped != NULL)
        thread->run.handler->handle_skipped(slot, part->skipped, part->skipped_count);
    err = end(thread, err);
    slots_count(thread);
    relay_added(thread);
    if (part->count > 1 && err_class_of(err.code) == ERR_CLASS_PERMANENT) {
        size_t half = part->count / 2;
        run_part(thread, part, 0, half);
        run_part(thread, part, half, part->count - half);
    } else {
        for (size_t i = 0; i < part->count; i++) {
            part->jobs[i]->ended = part->items[i].state;
            set_about(part->jobs[i]->job);
            judge_job(thread, part->jobs[i], err);
        }
    }
}

static void run_batch(struct slot_thread *thread)
{
    struct run *run = &thread->run;
    struct batch *batch = arena_zalloc(&thread->slot.arena, sizeof *batch);
    thread->slot.batch_has_rows = has_row(run->jobs[0].job);
    for (size_t i = 0; i < run->count; i++) {
        struct run_job *item = &run->jobs[i];
        const void *payload = NULL;
        if (item->settled || atomic_load(&item->lost))
            continue;
        item->has_row = thread->slot.batch_has_rows;
        begin(thread, 0, item->job);
        struct err err = decode(thread, item->job, &payload);
        if (err_failed(&err)) {
            judge_job(thread, item, err);
            continue;
        }
        batch->items[batch->count] = (struct batch_item){.job = item->job, .payload = payload};
        batch->jobs[batch->count++] = item;
    }
    set_about(NULL);
    int64_t began_us = clock_mono_us();
    if (batch->count > 0)
        run_part(thread, batch, 0, batch->count);
    int64_t took_us = clock_mono_us() - began_us;
    for (size_t i = 0; i < batch->count; i++)
        batch->jobs[i]->run_us = took_us / (int64_t)batch->count;
    arena_reset(&thread->slot.arena);
}

/* --- a run ----------------------------------------------------------------------------------- */

static struct err check(struct slot_thread *thread)
{
    const struct worker *worker = thread->slots->worker;
    struct pg *pg = thread->slot.db;
    enum queue_mode modes[QUEUE_COUNT];
    TRY(migrate_check(pg));
    TRY(controls_load(pg, modes));
    thread->run.held = modes[worker->queue] == QUEUE_MODE_PAUSED;
    return worker->prepare != NULL ? worker->prepare(&thread->slot) : ERR_NONE;
}

static void run_check(struct slot_thread *thread)
{
    pg_allow(thread->slot.db);
    pg_limit(thread->slot.db, thread->slot.config->max_run_ms);
    thread->run.err = check(thread);
    pg_rollback(thread->slot.db);
}

void run_execute(struct slot_thread *thread)
{
    thread->run.database_is_down = false;
    if (thread->run.kind == RUN_JOBS)
        gate_hold_run(thread);
    if (thread->run.kind == RUN_CHECK)
        run_check(thread);
    else if (thread->run.handler != NULL && thread->run.handler->handle_batch != NULL)
        run_batch(thread);
    else
        run_one_by_one(thread);
    set_about(NULL);
}
