#include "base/clock.h"
#include "base/log.h"
#include "runtime/loop.h"

#include <stdio.h>

enum { PAUSE_MS = 1000 };

static void on_resume(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    loop->back_off_until_ms = 0; /* libuv's clock may be a millisecond ahead of ours */
    loop_advance(loop);
}

static void back_off(struct loop *loop)
{
    loop->back_off_until_ms = clock_mono_ms() + PAUSE_MS;
    uv_timer_start(&loop->resume, on_resume, PAUSE_MS, 0);
}

void intake_back_off(struct loop *loop)
{
    loop->doubtful = true;
    back_off(loop);
}

bool intake_backs_off(const struct loop *loop)
{
    return clock_mono_ms() < loop->back_off_until_ms;
}

static void on_group(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    (void)reply;
    if (err != NULL && strstr(err_text(err), "BUSYGROUP") == NULL) {
        /* A full Redis refuses this even where the group exists, and reading needs no memory. If it
         * is missing the read will say so. */
        if (err->code == ERR_REDIS_REPLY) {
            log_warning("worker", "cannot create the consumer group",
                        LOG_TEXT("error", err_text(err)));
            loop->group_known = true;
            back_off(loop);
        }
        return;
    }
    loop->group_known = true;
    loop_advance(loop);
}

void intake_create_group(struct loop *loop)
{
    queue_create_group(&loop->queue, on_group, loop);
}

/* Whether nothing is to be begun any more, or for now. */
static bool gives_back(const struct loop *loop)
{
    return loop->phase == PHASE_STOPPING || loop->held;
}

void intake_take(struct loop *loop, struct job *job)
{
    if (!gives_back(loop))
        job_list_add(&loop->ready, job);
    else if (lease_must_run_out(job))
        job_free(job);
    else
        settle_job(loop, job, SETTLE_RELEASE, NULL);
}

void intake_release(struct loop *loop)
{
    struct job_list waiting = loop->ready;
    struct job *job;
    loop->ready = (struct job_list){0};
    while ((job = job_list_take(&waiting)) != NULL)
        intake_take(loop, job);
}

void intake_wake(struct loop *loop)
{
    char id[24];
    if (!loop->reading || loop->reader_client_id == 0 || !redis_is_ready(loop->redis))
        return;
    snprintf(id, sizeof id, "%lld", (long long)loop->reader_client_id);
    const struct span args[] = {SPAN("CLIENT"), SPAN("UNBLOCK"), span_of(id)};
    redis_command(loop->redis, args, ARRAY_LEN(args), NULL, NULL);
}

void intake_hold(struct loop *loop, bool held)
{
    if (held == loop->held || loop->phase != PHASE_WORKING)
        return;
    loop->held = held;
    atomic_store(&loop->slots.stopping, held);
    log_info("worker", held ? "the queue is paused" : "the queue goes on",
             LOG_TEXT("queue", queue_text(loop->queue.name)));
    if (held) {
        intake_release(loop);
        intake_wake(loop);
    }
    loop_advance(loop);
}

static void on_read(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    loop->reading = false;
    if (err != NULL) {
        if (err->code == ERR_REDIS_REPLY && strstr(err_text(err), "NOGROUP") != NULL) {
            log_warning("worker", "the consumer group is gone and will be made again: has Redis "
                                  "lost its data?");
            metrics_group_recreated(&loop->telemetry.metrics);
            loop->group_known = false;
            intake_create_group(loop);
        } else if (err->code == ERR_REDIS_REPLY && strstr(err_text(err), "UNBLOCKED") == NULL) {
            log_error("worker", "cannot read jobs", LOG_TEXT("error", err_text(err)));
            back_off(loop);
        }
        loop_advance(loop);
        return;
    }
    metrics_read(&loop->telemetry.metrics, clock_mono_ms());
    struct job *job = queue_take_read(reply);
    while (job != NULL) {
        struct job *next = job->next;
        intake_take(loop, job);
        job = next;
    }
    loop_advance(loop);
}

size_t intake_room(const struct loop *loop)
{
    size_t places = (loop->slots.count - loop->busy) * loop->run_max;
    size_t taken = loop->ready.count + loop->starting;
    if (loop->doubtful)
        places = places > 0 && loop->busy == 0 ? 1 : 0;
    return places > taken ? places - taken : 0;
}

void intake_read(struct loop *loop)
{
    size_t count = intake_room(loop);
    if (loop->reading || loop->held || !loop->group_known || count == 0 ||
        !redis_is_ready(loop->reader) || intake_backs_off(loop))
        return;
    loop->reading = true;
    queue_read(&loop->queue, loop->reader, count, loop->config->read_block_ms, on_read, loop);
}
