#include "runtime/worker.h"

#include "base/log.h"
#include "runtime/loop.h"
#include "runtime/reporter.h"
#include "service/scripts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    COMMAND_TIMEOUT_MS = 5000, /* a script that takes longer means a broken connection */
    READ_SLACK_MS = 1000,      /* beyond READ_BLOCK_MS */
    CHECK_AGAIN_MS = 1000,
    FORCED_MAX_MS = 1000, /* for Redis to take back what did not end in time */
};

/* --- the database ---------------------------------------------------------------------------- */

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

/* --- connections ----------------------------------------------------------------------------- */

static void on_checked(const struct err *err, void *data)
{
    struct loop *loop = data;
    if (loop->phase != PHASE_CHECKING)
        return;
    if (err != NULL && err->code != ERR_REDIS_UNSAFE && err->code != ERR_REDIS_REPLY)
        return; /* asked again when the connection is back */
    if (err != NULL && !loop->config->allow_volatile_redis) {
        log_error("worker", "cannot start", LOG_TEXT("error", err_text(err)));
        loop->status = 1;
        loop->phase = PHASE_STOPPING;
    } else {
        if (err != NULL)
            log_warning("worker", "ALLOW_VOLATILE_REDIS is set", LOG_TEXT("danger", err_text(err)));
        loop->phase = PHASE_CHECKING_DB;
    }
    loop_advance(loop);
}

static void on_redis_ready(void *data)
{
    struct loop *loop = data;
    log_info("worker", "connected to Redis");
    lease_renew(loop);
    intake_create_group(loop);
    if (loop->phase == PHASE_CHECKING)
        redis_check_start(loop->redis, &loop->check);
    loop_advance(loop);
}

/* What broke one connection (another server behind the address, a frozen one) is true of both, and
 * a reader that has not noticed would be deaf. */
static void on_redis_down(const struct err *why, void *data)
{
    struct loop *loop = data;
    if (loop->phase == PHASE_CLOSED)
        return;
    log_warning("worker", "Redis is away", LOG_TEXT("error", err_text(why)));
    redis_reset(loop->reader, why);
}

static void on_reader_down(const struct err *why, void *data)
{
    struct loop *loop = data;
    loop->reader_client_id = 0;
    if (loop->phase != PHASE_CLOSED)
        redis_reset(loop->redis, why);
}

static void on_client_id(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    if (err == NULL)
        loop->reader_client_id = redis_reply_integer(reply);
    loop_advance(loop);
}

static void on_reader_ready(void *data)
{
    struct loop *loop = data;
    const struct span args[] = {SPAN("CLIENT"), SPAN("ID")};
    redis_command(loop->reader, args, ARRAY_LEN(args), on_client_id, loop);
    loop_advance(loop);
}

/* --- stopping -------------------------------------------------------------------------------- */

/* Without taking anything down: threads still run. */
_Noreturn static void leave(void)
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
        leave();
}

static void on_grace_really_over(uv_timer_t *timer)
{
    (void)timer;
    leave();
}

/* The jobs still on slots go back; their threads cannot be ended, the process can. */
static void on_grace_over(uv_timer_t *timer)
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

static void on_stop(void *data)
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
    redis_close(loop->reader);
    redis_close(loop->redis);
    close_handle(&loop->async);
    lease_close(loop);
    close_handle(&loop->resume);
    close_handle(&loop->watch);
    close_handle(&loop->settle);
    close_handle(&loop->grace);
    process_release(&loop->process);
}

static void maybe_close(struct loop *loop)
{
    bool redis_gone = !redis_is_ready(loop->redis);
    bool settled = settle_is_over(loop) && loop->starting == 0;
    /* Without Redis nothing more can be said: leases run out and the jobs come back elsewhere. */
    if (loop->busy > 0 || (!redis_gone && (!settled || loop->reading || loop->promoting)))
        return;
    close_all(loop);
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
        maybe_close(loop);
        break;
    case PHASE_CLOSED: break;
    }
}

static struct err open_redis(struct loop *loop)
{
    struct redis_options options = {
        .loop = &loop->process.loop,
        .url = loop->config->redis_url,
        .scripts = scripts_all(),
        .script_count = SCRIPT_COUNT,
        .timeout_ms = COMMAND_TIMEOUT_MS,
        .on_ready = on_redis_ready,
        .on_down = on_redis_down,
        .data = loop,
    };
    TRY(redis_new(&options, &loop->redis));
    options.script_count = 0;
    options.timeout_ms = loop->config->read_block_ms + READ_SLACK_MS;
    options.on_ready = on_reader_ready;
    options.on_down = on_reader_down;
    return redis_new(&options, &loop->reader);
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

int worker_main(int argc, char **argv, const struct worker *worker)
{
    struct loop *loop = mem_zalloc(sizeof *loop);
    int status = process_start(&loop->process, argc, argv, worker->name, worker->purpose,
                               CONFIG_WORKER, NULL);
    if (status != PROCESS_GO) {
        free(loop);
        return status;
    }
    loop->worker = worker;
    loop->config = &loop->process.config;
    loop->run_max = largest_run(worker);
    loop->process.on_stop = on_stop;
    loop->process.data = loop;
    loop->check.callback = on_checked;
    loop->check.data = loop;

    struct err err = open_redis(loop);
    if (err_failed(&err)) {
        log_error("worker", "cannot start", LOG_TEXT("error", err_text(&err)));
        status = 2;
    } else {
        queue_init(&loop->queue, loop->redis, loop->config->stream_prefix, worker->queue);
        init_handles(loop);
        slots_start(&loop->slots, worker, loop->config, notify, loop);
        loop->finished = mem_zalloc(loop->slots.count * sizeof(struct slot_thread *));
        loop->relays = mem_zalloc(loop->slots.count * sizeof(struct relay_request *));
        process_run(&loop->process);
        status = loop->status;
    }
    status = process_end(&loop->process, status);
    settle_free(loop);
    free(loop->finished);
    free(loop->relays);
    free(loop);
    return status;
}
