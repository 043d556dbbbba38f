#include "runtime/health.h"

#include <stdio.h>

enum {
    PATIENCE = 3,          /* times an interval */
    SILENCE_MIN_MS = 1000, /* a shorter one says nothing on a busy machine */
    SWEEP_SLACK_MS = 5000, /* a sweep may wait for a store that restarts */
};

static int64_t longer(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Adds the time since the last note to what it was spent on. */
static void settle(struct health_watch *watch, int64_t now_ms)
{
    int64_t spent_ms = longer(now_ms - watch->noted_ms, 0);
    if (watch->intake == HEALTH_OPEN)
        watch->open_ms += spent_ms;
    else if (watch->intake == HEALTH_FULL)
        watch->full_ms += spent_ms;
    watch->noted_ms = longer(now_ms, watch->noted_ms);
}

void health_start(struct health_watch *watch, int64_t now_ms)
{
    *watch = (struct health_watch){.intake = HEALTH_OPEN, .noted_ms = now_ms};
}

void health_note(struct health_watch *watch, enum health_intake intake, int64_t now_ms)
{
    settle(watch, now_ms);
    watch->intake = intake;
}

void health_read(struct health_watch *watch, int64_t now_ms)
{
    settle(watch, now_ms);
    watch->open_ms = 0;
    watch->read_ms = now_ms;
}

void health_beat(struct health_watch *watch, int64_t now_ms)
{
    settle(watch, now_ms);
    watch->full_ms = 0;
    watch->beat_ms = now_ms;
}

struct health health_of_worker(const struct health_watch *watch, int64_t read_block_ms,
                               int64_t beat_interval_ms, int64_t now_ms)
{
    struct health health = {.healthy = true, .text = "ok"};
    struct health_watch until_now = *watch;
    settle(&until_now, now_ms);
    if (until_now.intake == HEALTH_OPEN &&
        until_now.open_ms > longer(PATIENCE * read_block_ms, SILENCE_MIN_MS)) {
        health.healthy = false;
        snprintf(
            health.text, sizeof health.text,
            "no read of jobs has succeeded for %lld ms although slots are free: is Redis there?",
            (long long)until_now.open_ms);
    } else if (until_now.intake == HEALTH_FULL &&
               until_now.full_ms > longer(PATIENCE * beat_interval_ms, SILENCE_MIN_MS)) {
        health.healthy = false;
        snprintf(health.text, sizeof health.text,
                 "no lease has been prolonged for %lld ms although all slots are busy: others may "
                 "take the jobs over",
                 (long long)until_now.full_ms);
    }
    return health;
}

struct health health_of_scheduler(int64_t swept_ms, int64_t sweep_ms, int64_t now_ms)
{
    struct health health = {.healthy = true, .text = "ok"};
    if (now_ms - swept_ms > PATIENCE * sweep_ms + SWEEP_SLACK_MS) {
        health.healthy = false;
        snprintf(health.text, sizeof health.text,
                 "no sweep has succeeded for %lld ms: are Redis and PostgreSQL there?",
                 (long long)(now_ms - swept_ms));
    }
    return health;
}
