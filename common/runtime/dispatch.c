#include "base/clock.h"
#include "base/log.h"
#include "runtime/loop.h"

/* --- to the slots ---------------------------------------------------------------------------- */

static struct slot_thread *free_slot(struct loop *loop)
{
    for (size_t i = 0; i < loop->slots.count; i++)
        if (loop->slots.threads[i].run.count == 0 && loop->slots.threads[i].run.kind == RUN_JOBS)
            return &loop->slots.threads[i];
    return NULL;
}

static const struct handler *find_handler(const struct worker *worker, const struct job *job)
{
    for (size_t i = 0; job->kind_known && i < worker->handler_count; i++)
        if (worker->handlers[i].kind == job->known)
            return &worker->handlers[i];
    return NULL;
}

/* Batches are filled up; single jobs are spread over the free slots. */
static size_t share_of(const struct loop *loop, const struct handler *handler)
{
    size_t free_slots = loop->slots.count - loop->busy;
    size_t share = loop->ready.count;
    size_t most = handler != NULL ? job_type(handler->kind)->run_max : 1;
    if (handler == NULL || handler->handle_batch == NULL)
        share = (share + free_slots - 1) / free_slots;
    if (share > most)
        share = most;
    return share < RUN_JOBS_MAX ? share : RUN_JOBS_MAX;
}

static void add_to_run(struct loop *loop, struct run *run, struct job *job)
{
    job_list_remove(&loop->ready, job);
    job_list_add(&loop->running, job);
    run->jobs[run->count++] = (struct run_job){.job = job, .verdict.attempt = job->attempt};
}

/* The oldest job decides the kind; others of that kind come along. */
static void fill_run(struct loop *loop, struct run *run)
{
    struct job *job = loop->ready.first;
    run->handler = find_handler(loop->worker, job);
    size_t share = share_of(loop, run->handler);
    while (job != NULL && run->count < share) {
        struct job *next = job->next;
        if (run->count == 0 || find_handler(loop->worker, job) == run->handler)
            add_to_run(loop, run, job);
        job = next;
    }
}

void dispatch_ready(struct loop *loop)
{
    while (loop->ready.count > 0 && loop->busy < loop->slots.count) {
        struct slot_thread *thread = free_slot(loop);
        REQUIRE(thread != NULL);
        fill_run(loop, &thread->run);
        loop->busy++;
        slots_hand_over(thread);
    }
}

void dispatch_check(struct loop *loop)
{
    struct slot_thread *thread = &loop->slots.threads[0];
    thread->run.kind = RUN_CHECK;
    loop->busy++;
    slots_hand_over(thread);
}

/* --- from the slots -------------------------------------------------------------------------- */

static enum settlement settlement_of(const struct run_job *item)
{
    const struct job *job = item->job;
    enum verdict_action action = item->verdict.action;
    if (item->released)
        return SETTLE_RELEASE;
    if (action == VERDICT_RETRY)
        return SETTLE_RETRY;
    if (item->has_row || (action != VERDICT_DEAD && action != VERDICT_PARK))
        return SETTLE_DONE;
    /* Nothing in PostgreSQL knows of it. What is volatile will be caused again. */
    bool is_volatile = job->kind_known && job_type(job->known)->life == JOB_LIFE_VOLATILE;
    return is_volatile ? SETTLE_DONE : SETTLE_BURY;
}

static enum metrics_result result_of(const struct run_job *item)
{
    static const enum metrics_result verdicts[] = {[VERDICT_DONE] = METRICS_DONE,
                                                   [VERDICT_SKIP] = METRICS_SKIPPED,
                                                   [VERDICT_PARK] = METRICS_PARKED,
                                                   [VERDICT_DEAD] = METRICS_DEAD,
                                                   [VERDICT_RETRY] = METRICS_RETRIED};
    static const enum metrics_result states[] = {[JOB_STATE_DONE] = METRICS_DONE,
                                                 [JOB_STATE_SKIPPED] = METRICS_SKIPPED,
                                                 [JOB_STATE_PARKED] = METRICS_PARKED,
                                                 [JOB_STATE_DEAD] = METRICS_DEAD};
    if (item->released)
        return METRICS_RELEASED;
    return item->verdict.action == VERDICT_DONE ? states[item->ended]
                                                : verdicts[item->verdict.action];
}

static void count(struct loop *loop, const struct run_job *item, int64_t wall_ms)
{
    struct worker_metrics *metrics = &loop->telemetry.metrics;
    enum metrics_result result = result_of(item);
    if (atomic_load(&item->lost))
        return; /* whoever has it counts it */
    metrics_job_ended(metrics, item->job, result, item->run_us, wall_ms);
    if (result == METRICS_RETRIED)
        metrics_retry(metrics, item->job, item->class);
}

static void take_verdict(struct loop *loop, struct run_job *item)
{
    struct job *job = item->job;
    enum settlement settlement = settlement_of(item);
    bool poison = job->deliveries > loop->config->max_deliveries;
    job_list_remove(&loop->running, job);
    /* A poison's verdict that PostgreSQL could not take must not make it young again. */
    if (atomic_load(&item->lost) || (settlement == SETTLE_RETRY && poison) ||
        (settlement == SETTLE_RELEASE && lease_must_run_out(job)))
        job_free(job);
    else
        settle_job(loop, job, settlement, &item->verdict);
}

static void finish_run(struct loop *loop, struct slot_thread *thread)
{
    struct run *run = &thread->run;
    loop->busy--;
    if (run->kind == RUN_CHECK) {
        run->kind = RUN_JOBS;
        worker_on_checked_db(loop, &run->err, run->held);
        return;
    }
    int64_t wall_ms = clock_wall_ms();
    for (size_t i = 0; i < run->count; i++) {
        count(loop, &run->jobs[i], wall_ms);
        take_verdict(loop, &run->jobs[i]);
    }
    run->count = 0;
    loop->alone = false; /* if it was: nothing else ran */
    if (run->database_is_down)
        intake_back_off(loop);
    else
        loop->doubtful = false;
}

static void on_relayed(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct relay_request *request = data;
    request->failed |= err != NULL || redis_reply_integer(reply) == QUEUE_HELD;
    if (--request->left == 0)
        slots_answer_relay(request);
}

void dispatch_take(struct loop *loop)
{
    size_t finished;
    size_t relays;
    slots_take(&loop->slots, loop->finished, &finished, loop->relays, &relays);
    for (size_t i = 0; i < relays; i++) {
        struct relay_request *request = loop->relays[i];
        /* count, not left: the last reply ends the request's life. */
        size_t count = request->count;
        const struct outgoing *jobs = request->jobs;
        for (size_t j = 0; j < count; j++)
            queue_enqueue(loop->redis, loop->config->stream_prefix, &jobs[j], on_relayed, request);
    }
    size_t asked = slots_take_asked(&loop->slots, loop->asked);
    for (size_t i = 0; i < asked; i++)
        loop->worker->outside->take(loop, loop->asked[i]);
    for (size_t i = 0; i < finished; i++)
        finish_run(loop, loop->finished[i]);
}
