#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "runtime/loop.h"

#include <stdlib.h>

enum {
    PROMOTE_MAX_MS = 1000, /* longest time a due job may wait for its promotion */
    ISOLATION_LEASES = 3,  /* so long may isolation hold up reading */
    ENTRY_MAX = 48,        /* "1700000000000-0": two 64-bit numbers, a dash and a NUL */
};

/* An entry that is ours and has not been started: it waits until it can run alone. */
struct suspect {
    struct suspect *next;
    char entry[ENTRY_MAX];
};

static void forget_suspects(struct loop *loop)
{
    while (loop->suspects != NULL) {
        struct suspect *suspect = loop->suspects;
        loop->suspects = suspect->next;
        free(suspect);
    }
}

/* A job that does not end, alone or before those who wait for it, must not keep the whole worker
 * from reading. Suspects go to whoever is quiet: their leases run out. */
static void end_long_isolation(struct loop *loop)
{
    int64_t now = clock_mono_ms();
    int64_t longest = ISOLATION_LEASES * loop->config->lease_ms;
    if (loop->isolating_ms == 0 || now - loop->isolating_ms < longest)
        return;
    log_warning("worker", "a job does not end: reading goes on beside it");
    forget_suspects(loop);
    loop->alone = false;
    loop->isolating_ms = 0;
    loop->reclaim_from_ms = now + longest;
    loop_advance(loop);
}

static void on_beaten(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    if (err != NULL)
        return;
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        struct span entry = redis_reply_text(redis_reply_at(reply, i));
        for (struct job *job = loop->running.first; job != NULL; job = job->next)
            if (span_equal(span_of(job->entry), entry))
                log_warning("worker", "lease lost: another worker may run this job too",
                            LOG_TEXT("job", job->id));
    }
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
    end_long_isolation(loop);
    if (!redis_is_ready(loop->redis))
        return;
    beat_list(loop, &loop->running);
    beat_list(loop, &loop->ready);
    for (const struct suspect *suspect = loop->suspects; suspect != NULL; suspect = suspect->next) {
        struct span entry = span_of(suspect->entry);
        queue_beat(&loop->queue, &entry, 1, on_beaten, loop);
    }
}

/* --- taking over ----------------------------------------------------------------------------- */

struct starting {
    struct loop *loop;
    bool alone;
    char entry[ENTRY_MAX];
};

static void add_suspect(struct loop *loop, const char *entry)
{
    struct suspect **last = &loop->suspects;
    struct suspect *suspect = mem_zalloc(sizeof *suspect);
    memcpy(suspect->entry, entry, sizeof suspect->entry);
    while (*last != NULL)
        last = &(*last)->next;
    *last = suspect;
    log_warning("worker",
                "an entry has brought workers down, or ran beside one that did: it will "
                "run alone",
                LOG_TEXT("entry", entry));
}

static bool is_held(const struct loop *loop, struct span entry)
{
    for (const struct suspect *suspect = loop->suspects; suspect != NULL; suspect = suspect->next)
        if (span_equal(span_of(suspect->entry), entry))
            return true;
    return job_list_has(&loop->running, entry) || job_list_has(&loop->ready, entry);
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
        log_info("worker", "took over a job whose worker is gone", LOG_TEXT("job", job->id),
                 LOG_INT("deliveries", job->deliveries));
        intake_take(loop, job);
    } else if (suspect && loop->phase == PHASE_WORKING) {
        add_suspect(loop, start->entry);
    }
    if (job == NULL && start->alone)
        loop->alone = false; /* it was not ours any more */
    free(start);
    loop_advance(loop);
}

static void start_entry(struct loop *loop, struct span entry, bool alone)
{
    struct starting *start = mem_zalloc(sizeof *start);
    REQUIRE(entry.len < sizeof start->entry);
    start->loop = loop;
    start->alone = alone;
    memcpy(start->entry, entry.ptr, entry.len);
    loop->starting++;
    queue_start(&loop->queue, entry, alone, on_started, start);
}

bool lease_must_run_out(const struct job *job)
{
    return job->deliveries >= QUEUE_SUSPECT_DELIVERIES;
}

bool lease_isolate(struct loop *loop)
{
    struct suspect *suspect = loop->suspects;
    if (suspect == NULL && !loop->alone)
        loop->isolating_ms = 0;
    else if (loop->isolating_ms == 0)
        loop->isolating_ms = clock_mono_ms();
    if (suspect == NULL || loop->alone)
        return loop->alone;
    bool quiet = loop->busy == 0 && loop->ready.count == 0 && loop->starting == 0 &&
                 !loop->reading && !loop->reclaiming;
    if (quiet && redis_is_ready(loop->redis) && !intake_is_paused(loop)) {
        loop->alone = true;
        loop->isolating_ms = clock_mono_ms();
        loop->suspects = suspect->next;
        start_entry(loop, span_of(suspect->entry), true);
        free(suspect);
    }
    return true;
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
            start_entry(loop, entry, false);
    }
    if (strcmp(loop->cursor, "0-0") != 0)
        reclaim_more(loop);
    loop_advance(loop);
}

static void reclaim_more(struct loop *loop)
{
    size_t count = intake_room(loop);
    if (loop->phase != PHASE_WORKING || loop->reclaiming || count == 0 || loop->suspects != NULL ||
        loop->alone || !loop->group_known || !redis_is_ready(loop->redis) ||
        clock_mono_ms() < loop->reclaim_from_ms || intake_is_paused(loop))
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
    loop->promoting = false;
    if (loop->phase >= PHASE_STOPPING) {
        loop_advance(loop);
        return;
    }
    if (err != NULL || next < 0 || next > PROMOTE_MAX_MS)
        next = PROMOTE_MAX_MS;
    if (err == NULL && count == LOOP_CHUNK_MAX)
        next = 0;
    uv_timer_start(&loop->promote, on_promote, (uint64_t)next, 0);
}

static void on_promote(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (loop->promoting || loop->phase >= PHASE_STOPPING)
        return;
    loop->promoting = true;
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
    /* Their leases run out, and the next owner finds them as suspect as they are. */
    forget_suspects(loop);
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
