#include "base/fault.h"
#include "base/log.h"
#include "runtime/loop.h"

#include <stdlib.h>

/* After an error reply, e.g. for a missing permission: no reason to spin. */
enum { REFUSED_PAUSE_MS = 1000 };

/* A call that settles several jobs at once. */
struct settling {
    struct loop *loop;
    struct held *list;
};

void settle_hold(struct loop *loop, struct job *job, enum settlement settlement,
                 const struct verdict *verdict)
{
    struct held *held = mem_zalloc(sizeof *held);
    held->job = job;
    held->settlement = settlement;
    if (verdict != NULL) {
        held->delay_ms = verdict->delay_ms;
        held->attempt = verdict->attempt;
        memcpy(held->reason, verdict->reason, sizeof held->reason);
    }
    held->next = loop->unsettled;
    loop->unsettled = held;
}

static void on_settle_again(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    loop->refused = false;
    loop_advance(loop);
}

static void on_settled(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct settling *call = data;
    struct loop *loop = call->loop;
    struct err lost = err_make(ERR_REDIS_DOWN, "fault: the reply to DONE was lost");
    (void)reply;
    loop->settling--;
    if (call->list->settlement == SETTLE_DONE && FAULT(done_reply_lost))
        err = &lost;
    while (call->list != NULL) {
        struct held *held = call->list;
        call->list = held->next;
        if (err != NULL) { /* said again once there is a connection; all of it may be repeated */
            held->next = loop->unsettled;
            loop->unsettled = held;
            continue;
        }
        job_list_remove(&loop->running, held->job);
        job_free(held->job);
        free(held);
    }
    free(call);
    if (err != NULL && err->code == ERR_REDIS_REPLY) {
        log_error("worker", "Redis refused a verdict", LOG_TEXT("error", err_text(err)));
        loop->refused = true;
        uv_timer_start(&loop->settle, on_settle_again, REFUSED_PAUSE_MS, 0);
    }
    loop_advance(loop);
}

static void settle_one(struct loop *loop, struct settling *call)
{
    struct held *held = call->list;
    if (held->settlement == SETTLE_RETRY) {
        (void)FAULT(before_retry);
        queue_retry(&loop->queue, held->job, held->delay_ms, held->attempt, on_settled, call);
        return;
    }
    queue_bury(&loop->queue, held->job, held->reason, on_settled, call);
}

static void settle_many(struct loop *loop, struct settling *call, enum settlement settlement)
{
    const struct job *jobs[LOOP_CHUNK_MAX];
    struct span entries[LOOP_CHUNK_MAX];
    size_t count = 0;
    for (const struct held *held = call->list; held != NULL; held = held->next, count++) {
        jobs[count] = held->job;
        entries[count] = span_of(held->job->entry);
    }
    if (settlement == SETTLE_RELEASE) {
        queue_release(&loop->queue, entries, count, on_settled, call);
        return;
    }
    (void)FAULT(before_done);
    queue_done(&loop->queue, jobs, count, on_settled, call);
}

/* Takes up to max of one kind off the unsettled. */
static struct held *take_unsettled(struct loop *loop, enum settlement settlement, size_t max)
{
    struct held *taken = NULL;
    struct held **at = &loop->unsettled;
    while (*at != NULL && max > 0) {
        struct held *held = *at;
        if (held->settlement != settlement) {
            at = &held->next;
            continue;
        }
        *at = held->next;
        held->next = taken;
        taken = held;
        max--;
    }
    return taken;
}

void settle_all(struct loop *loop)
{
    static const enum settlement order[] = {SETTLE_DONE, SETTLE_RETRY, SETTLE_BURY, SETTLE_RELEASE};
    if (!redis_is_ready(loop->redis) || loop->refused)
        return;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        bool single = order[i] == SETTLE_RETRY || order[i] == SETTLE_BURY;
        struct held *list;
        while ((list = take_unsettled(loop, order[i], single ? 1 : LOOP_CHUNK_MAX)) != NULL) {
            struct settling *call = mem_zalloc(sizeof *call);
            call->loop = loop;
            call->list = list;
            loop->settling++;
            if (single)
                settle_one(loop, call);
            else
                settle_many(loop, call, order[i]);
        }
    }
}

void settle_free(struct loop *loop)
{
    while (loop->unsettled != NULL) {
        struct held *held = loop->unsettled;
        loop->unsettled = held->next;
        free(held);
    }
    while (loop->running.first != NULL) {
        struct job *job = loop->running.first;
        job_list_remove(&loop->running, job);
        job_free(job);
    }
}
