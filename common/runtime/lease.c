#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/random.h"
#include "runtime/loop.h"
#include "service/controls.h"

#include <stdlib.h>

enum {
    PROMOTE_MAX_MS = 1000,                /* longest time a due job may wait for its promotion */
    SUSPECTS_BEATEN_MAX = LOOP_CHUNK_MAX, /* what waits behind them runs out */
};

/* --- keeping --------------------------------------------------------------------------------- */

static void on_beaten(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    if (err != NULL)
        return;
    metrics_beat(&loop->telemetry.metrics, clock_mono_ms());
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        struct span entry = redis_reply_text(redis_reply_at(reply, i));
        const struct job *job = job_list_find(&loop->running, entry);
        if (job != NULL) {
            metrics_lease_lost(&loop->telemetry.metrics);
            log_warning("worker", "lease lost: another worker may run this job too",
                        LOG_TEXT("job", job->id));
        }
        watch_lost(loop, entry);
        isolate_lost(loop, entry);
    }
    loop_advance(loop);
}

static void beat_list(struct loop *loop, const struct job_list *list)
{
    struct span entries[LOOP_CHUNK_MAX];
    size_t count = 0;
    for (const struct job *job = list->first; job != NULL; job = job->next) {
        entries[count++] = span_of(job->entry);
        if (count == LOOP_CHUNK_MAX || job->next == NULL) {
            queue_beat(&loop->queue, entries, count, on_beaten, loop);
            count = 0;
        }
    }
}

static void on_beat(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    struct span suspects[SUSPECTS_BEATEN_MAX];
    if (isolate_give_up(loop))
        loop_advance(loop);
    if (!redis_is_ready(loop->redis))
        return;
    beat_list(loop, &loop->running);
    beat_list(loop, &loop->ready);
    for (size_t i = 0; i < SETTLEMENT_COUNT; i++)
        beat_list(loop, &loop->unsettled[i]);
    size_t count = isolate_list(loop, suspects, ARRAY_LEN(suspects));
    if (count > 0)
        queue_beat(&loop->queue, suspects, count, on_beaten, loop);
}

/* --- taking over ----------------------------------------------------------------------------- */

struct starting {
    struct loop *loop;
    bool alone;
    char entry[LOOP_ENTRY_MAX];
};

static bool is_held(const struct loop *loop, struct span entry)
{
    bool held = isolate_has(loop, entry) || job_list_find(&loop->running, entry) != NULL ||
                job_list_find(&loop->ready, entry) != NULL ||
                job_list_find(&loop->settling, entry) != NULL;
    for (size_t i = 0; !held && i < SETTLEMENT_COUNT; i++)
        held = job_list_find(&loop->unsettled[i], entry) != NULL;
    return held;
}

static void on_started(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct starting *start = data;
    struct loop *loop = start->loop;
    bool suspect = false;
    struct job *job = NULL;
    loop->starting--;
    if (err == NULL)
        job = queue_take_start(reply, span_of(start->entry), &suspect);
    if (job != NULL) {
        metrics_reclaimed(&loop->telemetry.metrics);
        log_info("worker", "took over a job whose worker is gone", LOG_TEXT("job", job->id),
                 LOG_INT("deliveries", job->deliveries));
        intake_take(loop, job);
    } else if (suspect && loop->phase == PHASE_WORKING) {
        isolate_add(loop, span_of(start->entry));
    }
    if (start->alone && loop->ready.count == 0)
        loop->alone = false; /* it was not ours any more, or is not to be begun now */
    free(start);
    loop_advance(loop);
}

void lease_start(struct loop *loop, struct span entry, bool alone)
{
    struct starting *start = mem_zalloc(sizeof *start);
    REQUIRE(entry.len < sizeof start->entry);
    start->loop = loop;
    start->alone = alone;
    memcpy(start->entry, entry.ptr, entry.len);
    loop->starting++;
    (void)FAULT(before_start);
    queue_start(&loop->queue, entry, alone, on_started, start);
}

bool lease_must_run_out(const struct job *job)
{
    return job->deliveries >= QUEUE_SUSPECT_DELIVERIES;
}

static void reclaim_more(struct loop *loop);

static void on_reclaimed(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    const struct redis_reply *ids = redis_reply_at(reply, 1);
    struct span cursor = redis_reply_text(redis_reply_at(reply, 0));
    loop->reclaiming = false;
    if (err != NULL || cursor.len == 0 || cursor.len >= sizeof loop->cursor) {
        loop_advance(loop);
        return;
    }
    memcpy(loop->cursor, cursor.ptr, cursor.len);
    loop->cursor[cursor.len] = '\0';
    for (size_t i = 0; i < redis_reply_count(ids); i++) {
        struct span entry = redis_reply_text(redis_reply_at(ids, i));
        if (loop->phase == PHASE_WORKING && !is_held(loop, entry))
            lease_start(loop, entry, false);
    }
    if (strcmp(loop->cursor, "0-0") != 0)
        reclaim_more(loop);
    loop_advance(loop);
}

static void reclaim_more(struct loop *loop)
{
    size_t count = intake_room(loop);
    if (loop->phase != PHASE_WORKING || loop->reclaiming || count == 0 || loop->suspects != NULL ||
        loop->alone || loop->held || !loop->group_known || !redis_is_ready(loop->redis) ||
        clock_mono_ms() < loop->reclaim_from_ms || intake_backs_off(loop))
        return;
    loop->reclaiming = true;
    queue_reclaim(&loop->queue, loop->config->lease_ms, loop->cursor,
                  count < LOOP_CHUNK_MAX ? count : LOOP_CHUNK_MAX, on_reclaimed, loop);
}

static void on_reclaim(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    int64_t lease = loop->config->lease_ms;
    /* lease/6 .. lease/3: processes that started together drift apart. */
    uint64_t wait = (uint64_t)lease / 6 + random_below((uint32_t)lease / 6 + 1);
    uv_timer_start(timer, on_reclaim, wait, 0);
    reclaim_more(loop);
}

static void on_promote(uv_timer_t *timer);

static void on_promoted(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    int64_t count = redis_reply_integer(redis_reply_at(reply, 0));
    int64_t next = redis_reply_integer(redis_reply_at(reply, 1));
    struct span mode = redis_reply_text(redis_reply_at(reply, 2));
    loop->promoting = false;
    if (loop->phase >= PHASE_STOPPING) {
        loop_advance(loop);
        return;
    }
    if (err != NULL || next < 0 || next > PROMOTE_MAX_MS)
        next = PROMOTE_MAX_MS;
    if (err == NULL && count == LOOP_CHUNK_MAX)
        next = 0;
    if (count > 0)
        metrics_promoted(&loop->telemetry.metrics, (size_t)count);
    uv_timer_start(&loop->promote, on_promote, (uint64_t)next, 0);
    enum queue_mode known;
    if (err == NULL && queue_mode_find(mode, &known))
        intake_hold(loop, known == QUEUE_MODE_PAUSED);
}

static void on_promote(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (loop->promoting || loop->phase >= PHASE_STOPPING)
        return;
    loop->promoting = true;
    (void)FAULT(before_promote);
    queue_promote(&loop->queue, LOOP_CHUNK_MAX, on_promoted, loop);
}

void lease_init(struct loop *loop)
{
    uv_timer_t *timers[] = {&loop->beat, &loop->reclaim, &loop->promote};
    uint64_t beat_ms = (uint64_t)loop->config->lease_ms / 3;
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        uv_timer_init(&loop->process.loop, timers[i]);
        timers[i]->data = loop;
    }
    uv_timer_start(&loop->beat, on_beat, beat_ms, beat_ms);
    uv_timer_start(&loop->reclaim, on_reclaim, beat_ms, 0);
    uv_timer_start(&loop->promote, on_promote, 0, 0);
}

void lease_close(struct loop *loop)
{
    isolate_forget(loop);
    uv_close((uv_handle_t *)&loop->beat, NULL);
    uv_close((uv_handle_t *)&loop->reclaim, NULL);
    uv_close((uv_handle_t *)&loop->promote, NULL);
}

void lease_renew(struct loop *loop)
{
    loop->reclaim_from_ms = clock_mono_ms() + loop->config->lease_ms;
    memcpy(loop->cursor, "0-0", sizeof "0-0");
    on_beat(&loop->beat);
}
