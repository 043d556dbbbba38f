#include "runtime/worker.h"

#include "base/log.h"
#include "runtime/loop.h"

#include <stdlib.h>

enum { CHECK_AGAIN_MS = 1000 };

/* --- the database, and the slots' mailbox
 * ---------------------------------------------------------------------------- */

static void on_check_again(uv_timer_t *timer)
{
    loop_advance(timer->data);
}

void worker_on_checked_db(struct loop *loop, const struct err *err, bool held)
{
    if (!err_failed(err)) {
        if (loop->phase == PHASE_CHECKING_DB) {
            loop->phase = PHASE_WORKING;
            log_info("worker", "working", LOG_TEXT("queue", queue_text(loop->queue.name)),
                     LOG_INT("slots", loop->slots.count));
            intake_hold(loop, held);
        }
        return;
    }
    if (err->code != ERR_PG_SCHEMA) {
        log_warning("worker", "waiting for the database", LOG_TEXT("error", err_text(err)));
        uv_timer_start(&loop->resume, on_check_again, CHECK_AGAIN_MS, 0);
        return;
    }
    log_error("worker", "cannot start", LOG_TEXT("error", err_text(err)));
    loop->status = 1;
    loop->phase = PHASE_STOPPING;
}

static void start_check(struct loop *loop)
{
    if (loop->busy == 0 && !uv_is_active((uv_handle_t *)&loop->resume))
        dispatch_check(loop);
}

static void on_async(uv_async_t *async)
{
    struct loop *loop = async->data;
    dispatch_take(loop);
    loop_advance(loop);
}

static void notify(void *data)
{
    struct loop *loop = data;
    uv_async_send(&loop->async);
}

/* --- the loop -------------------------------------------------------------------------------- */

void loop_advance(struct loop *loop)
{
    switch (loop->phase) {
    case PHASE_CHECKING: break;
    case PHASE_CHECKING_DB: start_check(loop); break;
    case PHASE_WORKING:
        settle_all(loop);
        dispatch_ready(loop);
        if (!isolate_next(loop))
            intake_read(loop);
        break;
    case PHASE_STOPPING:
        settle_all(loop);
        stop_end(loop);
        break;
    case PHASE_CLOSED: break;
    }
    show_intake(loop);
}

static void init_handles(struct loop *loop)
{
    uv_loop_t *uv = &loop->process.loop;
    uv_timer_init(uv, &loop->resume);
    uv_timer_init(uv, &loop->settle);
    uv_timer_init(uv, &loop->grace);
    uv_async_init(uv, &loop->async, on_async);
    loop->resume.data = loop->settle.data = loop->grace.data = loop->async.data = loop;
    lease_init(loop);
    watch_init(loop);
}

static size_t largest_run(const struct worker *worker)
{
    size_t largest = 1;
    for (size_t i = 0; i < worker->handler_count; i++) {
        size_t run_max = job_type(worker->handlers[i].kind)->run_max;
        if (run_max > largest)
            largest = run_max;
    }
    return largest < RUN_JOBS_MAX ? largest : RUN_JOBS_MAX;
}

/* What may fail; after a failure nothing is open. */
static struct err open_all(struct loop *loop)
{
    TRY(connect_open(loop));
    queue_init(&loop->queue, loop->redis, loop->config->stream_prefix, loop->worker->queue);
    struct err err = show_start(loop);
    if (!err_failed(&err) && loop->worker->outside != NULL)
        err = loop->worker->outside->open(loop);
    if (err_failed(&err)) {
        loop->phase = PHASE_CLOSED;
        telemetry_close(&loop->telemetry.shown);
        connect_close(loop);
    }
    return err;
}

int worker_main(int argc, char **argv, const struct worker *worker)
{
    struct loop *loop = mem_zalloc(sizeof *loop);
    int status =
        process_start(&loop->process, argc, argv, worker->name, worker->purpose, CONFIG_WORKER,
                      worker->check != NULL ? worker->check : telemetry_check);
    if (status != PROCESS_GO) {
        free(loop);
        return status;
    }
    loop->worker = worker;
    loop->config = &loop->process.config;
    loop->run_max = largest_run(worker);
    loop->process.on_stop = stop_begin;
    loop->process.data = loop;

    struct err err = open_all(loop);
    if (err_failed(&err)) {
        log_error("worker", "cannot start", LOG_TEXT("error", err_text(&err)));
        status = 2;
    } else {
        init_handles(loop);
        slots_start(&loop->slots, worker, loop->config, notify, loop);
        loop->finished = mem_zalloc(loop->slots.count * sizeof(struct slot_thread *));
        loop->relays = mem_zalloc(loop->slots.count * sizeof(struct relay_request *));
        loop->asked = mem_zalloc(loop->slots.count * sizeof(struct outside_request *));
        process_run(&loop->process);
        status = loop->status;
    }
    status = process_end(&loop->process, status);
    settle_free(loop);
    free(loop->finished);
    free(loop->relays);
    free(loop->asked);
    free(loop);
    return status;
}
