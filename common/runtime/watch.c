#include "base/clock.h"
#include "base/log.h"
#include "runtime/loop.h"

#include <stdlib.h>

enum { LOOK_MS_MIN = 10, LOOK_MS_MAX = 1000, LOOKS = 4 /* in the shortest time to be noticed */ };

static int64_t max_run_of(const struct loop *loop, const struct handler *handler)
{
    int64_t own = handler != NULL ? job_type(handler->kind)->max_run_ms : 0;
    return own > 0 ? own : loop->config->max_run_ms;
}

static void stop_overrun(struct loop *loop, struct slot_thread *thread, size_t place,
                         int64_t ran_ms)
{
    const struct job *job = thread->run.jobs[place - 1].job;
    log_warning("worker", "a job takes too long and is cancelled", LOG_TEXT("job", job->id),
                LOG_TEXT("kind", job->kind), LOG_INT("ran_ms", ran_ms));
    metrics_cancelled(&loop->telemetry.metrics, METRICS_CANCEL_OVERRUN);
    slots_stop_job(thread, place, STOP_OVERRUN);
}

/* A thread cannot be ended, a process can: its leases run out, and its jobs come back elsewhere. */
static void end_process(const struct slot_thread *thread, size_t place, int64_t ran_ms)
{
    const struct job *job = thread->run.jobs[place - 1].job;
    log_error("worker",
              "a job does not end and cannot be cancelled: this process ends, its jobs will run "
              "elsewhere",
              LOG_TEXT("job", job->id), LOG_TEXT("kind", job->kind), LOG_INT("ran_ms", ran_ms));
    abort();
}

static void look_at(struct loop *loop, struct slot_thread *thread)
{
    size_t place = atomic_load(&thread->place);
    int64_t since_ms = atomic_load(&thread->since_ms);
    if (place == 0 || place != atomic_load(&thread->place))
        return; /* between two jobs */
    int64_t ran_ms = clock_mono_ms() - since_ms;
    int64_t max_ms = max_run_of(loop, thread->run.handler);
    /* Connecting ends by itself, and then the cancel is heard. */
    if (ran_ms > max_ms + loop->config->cancel_grace_ms && !pg_is_connecting(thread->slot.db))
        end_process(thread, place, ran_ms);
    else if (ran_ms > max_ms && atomic_load(&thread->stop_place) != place)
        stop_overrun(loop, thread, place, ran_ms);
}

static void on_watch(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    for (size_t i = 0; i < loop->slots.count; i++)
        if (loop->slots.threads[i].run.count > 0)
            look_at(loop, &loop->slots.threads[i]);
}

static bool stop_lost(struct loop *loop, struct slot_thread *thread, struct span entry)
{
    struct run *run = &thread->run;
    for (size_t i = 0; i < run->count; i++) {
        if (!span_equal(span_of(run->jobs[i].job->entry), entry))
            continue;
        bool batch = run->handler != NULL && run->handler->handle_batch != NULL;
        size_t place = batch ? 1 : i + 1;
        atomic_store(&run->jobs[i].lost, true);
        if (atomic_load(&thread->place) == place) {
            metrics_cancelled(&loop->telemetry.metrics, METRICS_CANCEL_LEASE_LOST);
            slots_stop_job(thread, place, STOP_LOST);
        }
        return true;
    }
    return false;
}

void watch_lost(struct loop *loop, struct span entry)
{
    struct job *job = job_list_find(&loop->ready, entry);
    /* An event may be nowhere but here, if Redis has lost its data; keeping it twice is no harm. */
    if (loop->queue.name == QUEUE_events)
        return;
    if (job != NULL) {
        job_list_remove(&loop->ready, job);
        job_free(job);
        return;
    }
    for (size_t i = 0; i < loop->slots.count; i++)
        if (stop_lost(loop, &loop->slots.threads[i], entry))
            return;
}

void watch_init(struct loop *loop)
{
    int64_t shortest = loop->config->cancel_grace_ms;
    for (size_t i = 0; i < loop->worker->handler_count; i++) {
        int64_t max_ms = max_run_of(loop, &loop->worker->handlers[i]);
        shortest = max_ms < shortest ? max_ms : shortest;
    }
    int64_t every = shortest / LOOKS;
    every = every < LOOK_MS_MIN ? LOOK_MS_MIN : every;
    every = every > LOOK_MS_MAX ? LOOK_MS_MAX : every;
    uv_timer_init(&loop->process.loop, &loop->watch);
    loop->watch.data = loop;
    uv_timer_start(&loop->watch, on_watch, (uint64_t)every, (uint64_t)every);
}
