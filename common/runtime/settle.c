#include "base/fault.h"
#include "base/log.h"
#include "runtime/loop.h"

#include <stdlib.h>

/* After an error reply, e.g. for a missing permission: no reason to spin. */
enum { REFUSED_PAUSE_MS = 1000 };

/* A call that settles several jobs at once. They are in loop->settling meanwhile. */
struct settling {
    struct loop *loop;
    enum settlement settlement;
    size_t count;
    struct job *jobs[]; /* owned */
};

void settle_job(struct loop *loop, struct job *job, enum settlement settlement,
                const struct verdict *verdict)
{
    if (verdict != NULL) {
        job->delay_ms = verdict->delay_ms;
        job->next_attempt = verdict->attempt;
    }
    if (settlement == SETTLE_BURY)
        job->reason = mem_strdup(verdict->reason);
    job_list_add(&loop->unsettled[settlement], job);
}

bool settle_is_over(const struct loop *loop)
{
    for (size_t i = 0; i < SETTLEMENT_COUNT; i++)
        if (loop->unsettled[i].count > 0)
            return false;
    return loop->calls == 0;
}

static void on_settle_again(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    loop->refused = false;
    loop_advance(loop);
}

/* What a fault point makes of a reply: it was lost. */
static bool is_lost(enum settlement settlement)
{
    return (settlement == SETTLE_DONE && FAULT(done_reply_lost)) ||
           (settlement == SETTLE_RETRY && FAULT(retry_reply_lost));
}

static void on_settled(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct settling *call = data;
    struct loop *loop = call->loop;
    struct err lost = err_make(ERR_REDIS_DOWN, "fault: the reply was lost");
    (void)reply;
    loop->calls--;
    if (is_lost(call->settlement))
        err = &lost;
    for (size_t i = 0; i < call->count; i++) {
        struct job *job = call->jobs[i];
        job_list_remove(&loop->settling, job);
        if (err != NULL) /* said again once there is a connection; all of it may be repeated */
            job_list_add(&loop->unsettled[call->settlement], job);
        else
            job_free(job);
    }
    free(call);
    if (err != NULL && err->code == ERR_REDIS_REPLY) {
        log_error("worker", "Redis refused a verdict", LOG_TEXT("error", err_text(err)));
        loop->refused = true;
        uv_timer_start(&loop->settle, on_settle_again, REFUSED_PAUSE_MS, 0);
    }
    loop_advance(loop);
}

static void tell(struct loop *loop, struct settling *call)
{
    struct queue *queue = &loop->queue;
    struct job *job = call->jobs[0];
    struct span entries[LOOP_CHUNK_MAX];
    switch (call->settlement) {
    case SETTLE_DONE:
        (void)FAULT(before_done);
        queue_done(queue, (const struct job *const *)call->jobs, call->count, on_settled, call);
        return;
    case SETTLE_RETRY:
        (void)FAULT(before_retry);
        queue_retry(queue, job, job->delay_ms, job->next_attempt, on_settled, call);
        return;
    case SETTLE_BURY: queue_bury(queue, job, job->reason, on_settled, call); return;
    case SETTLE_RELEASE:
        for (size_t i = 0; i < call->count; i++)
            entries[i] = span_of(call->jobs[i]->entry);
        queue_release(queue, entries, call->count, on_settled, call);
        return;
    case SETTLEMENT_COUNT: break;
    }
}

/* The next call's worth of one kind. */
static struct settling *take(struct loop *loop, enum settlement settlement)
{
    struct job_list *from = &loop->unsettled[settlement];
    bool single = settlement == SETTLE_RETRY || settlement == SETTLE_BURY;
    size_t most = single ? 1 : LOOP_CHUNK_MAX;
    size_t count = from->count < most ? from->count : most;
    struct settling *call = mem_alloc(sizeof *call + count * sizeof(struct job *));
    *call = (struct settling){.loop = loop, .settlement = settlement, .count = count};
    for (size_t i = 0; i < count; i++) {
        call->jobs[i] = job_list_take(from);
        job_list_add(&loop->settling, call->jobs[i]);
    }
    return call;
}

void settle_all(struct loop *loop)
{
    for (size_t i = 0; i < SETTLEMENT_COUNT; i++) {
        while (redis_is_ready(loop->redis) && !loop->refused && loop->unsettled[i].count > 0) {
            struct settling *call = take(loop, (enum settlement)i);
            loop->calls++;
            tell(loop, call);
        }
    }
}

void settle_free(struct loop *loop)
{
    job_list_free(&loop->ready);
    job_list_free(&loop->running);
    job_list_free(&loop->settling);
    for (size_t i = 0; i < SETTLEMENT_COUNT; i++)
        job_list_free(&loop->unsettled[i]);
}
