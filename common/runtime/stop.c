#include "base/log.h"
#include "runtime/loop.h"
#include "runtime/reporter.h"

#include <unistd.h>

enum {
    FORCED_MAX_MS = 1000,  /* for Redis to take back what did not end in time */
    OUTSIDE_END_MS = 1000, /* for handlers to note what became of their calls to the outside */
};

/* Without taking anything down: threads still run. */
_Noreturn static void end_now(void)
{
    reporter_goodbye();
    _exit(0);
}

static void on_forced(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    (void)err;
    (void)reply;
    if (--loop->forced == 0)
        end_now();
}

static void on_grace_really_over(uv_timer_t *timer)
{
    (void)timer;
    end_now();
}

/* The jobs still on slots go back; their threads cannot be ended, the process can. */
static void force(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    log_warning("worker", "jobs did not end in time", LOG_INT("slots", loop->busy));
    loop->forced = 1;
    for (size_t i = 0; i < loop->slots.count; i++) {
        const struct run *run = &loop->slots.threads[i].run;
        for (size_t j = 0; j < run->count; j++) {
            struct span entry = span_of(run->jobs[j].job->entry);
            if (lease_must_run_out(run->jobs[j].job))
                continue;
            loop->forced++;
            queue_release(&loop->queue, &entry, 1, on_forced, loop);
        }
    }
    uv_timer_start(timer, on_grace_really_over, FORCED_MAX_MS, 0);
    on_forced(NULL, NULL, loop);
}

/* Calls to the outside can be ended, so that it is known what became of them. */
static void on_grace_over(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (loop->worker->outside == NULL || loop->busy == 0) {
        force(timer);
        return;
    }
    atomic_store(&loop->slots.hurry, true);
    uv_timer_start(timer, force, OUTSIDE_END_MS, 0);
    for (size_t i = 0; i < loop->slots.count; i++)
        slots_stop_outside(&loop->slots.threads[i]);
}

void stop_begin(void *data)
{
    struct loop *loop = data;
    if (loop->phase >= PHASE_STOPPING)
        return;
    loop->phase = PHASE_STOPPING;
    atomic_store(&loop->slots.stopping, true);
    intake_release(loop);
    intake_wake(loop);
    uv_timer_start(&loop->grace, on_grace_over, (uint64_t)loop->config->shutdown_grace_ms, 0);
    loop_advance(loop);
}

static void close_handle(void *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_all(struct loop *loop)
{
    loop->phase = PHASE_CLOSED;
    slots_end(&loop->slots);
    connect_close(loop);
    if (loop->worker->outside != NULL)
        loop->worker->outside->close(loop);
    close_handle(&loop->async);
    lease_close(loop);
    close_handle(&loop->resume);
    close_handle(&loop->watch);
    close_handle(&loop->settle);
    close_handle(&loop->grace);
    telemetry_close(&loop->telemetry.shown);
    process_release(&loop->process);
}

static void on_farewell(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    (void)err;
    (void)reply;
    loop->farewells--;
    loop_advance(loop);
}

/* The registry and the consumer group need not remember us. */
static void leave(struct loop *loop)
{
    loop->left = true;
    loop->farewells = 2;
    telemetry_leave(&loop->telemetry.shown, on_farewell, loop);
    queue_leave(&loop->queue, on_farewell, loop);
}

void stop_end(struct loop *loop)
{
    bool redis_gone = !redis_is_ready(loop->redis);
    bool settled = settle_is_over(loop) && loop->starting == 0;
    /* Without Redis nothing more can be said: leases run out and the jobs come back elsewhere. */
    if (loop->busy > 0 || (!redis_gone && (!settled || loop->reading || loop->promoting)))
        return;
    if (!loop->left && !redis_gone)
        leave(loop);
    if (loop->farewells == 0)
        close_all(loop);
}
