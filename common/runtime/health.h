#ifndef WHOPLINE_HEALTH_H
#define WHOPLINE_HEALTH_H
/* Whether a process does its work, for /livez. Verdicts are pure functions of what was noted and of
 * the time, which is an argument (ms of the monotonic clock). A process whose loop is stuck does
 * not answer at all, which is a verdict too. Loop thread. */
#include "base/base.h"

struct health {
    bool healthy;
    char text[160]; /* "ok", or a sentence that says what is wrong */
};

/* What a worker is about to do about reading jobs. */
enum health_intake {
    HEALTH_OPEN, /* it has room and reads, or tries to: also while it looks for Redis */
    HEALTH_FULL, /* all slots are busy */
    HEALTH_HELD, /* it does not read on purpose: paused, PostgreSQL away, isolation, stopping */
};

/* Time is added up rather than compared with the last success, so that neither a long job nor a
 * pause counts as silence afterwards, nor does a worker that changes between OPEN and FULL look
 * alive although no read succeeds. */
struct health_watch {
    enum health_intake intake;
    int64_t noted_ms; /* open_ms and full_ms are right up to here */
    int64_t open_ms;  /* spent OPEN since the last successful read */
    int64_t full_ms;  /* spent FULL since the last successful BEAT */
    int64_t read_ms;  /* when that was; 0: not yet */
    int64_t beat_ms;
};

void health_start(struct health_watch *watch, int64_t now_ms); /* OPEN */
void health_note(struct health_watch *watch, enum health_intake intake, int64_t now_ms);
void health_read(struct health_watch *watch, int64_t now_ms); /* also one that brought nothing */
void health_beat(struct health_watch *watch, int64_t now_ms);

/* Unhealthy: no successful read for 3 x read_block_ms while it could read, or, with all slots busy,
 * no successful BEAT for 3 x beat_interval_ms; never before a second. */
struct health health_of_worker(const struct health_watch *watch, int64_t read_block_ms,
                               int64_t beat_interval_ms, int64_t now_ms);

/* Unhealthy: no sweep has succeeded for 3 x sweep_ms + 5 s. swept_ms: when one last did; before the
 * first, when the process started. */
struct health health_of_scheduler(int64_t swept_ms, int64_t sweep_ms, int64_t now_ms);

#endif
