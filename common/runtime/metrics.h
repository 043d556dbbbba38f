#ifndef WHOPLINE_METRICS_H
#define WHOPLINE_METRICS_H
/* What a worker counts about itself, and its page of /metrics. One per process, in the loop's
 * memory, loop thread; counting allocates nothing and takes no lock. */
#include "base/metric.h"
#include "runtime/health.h"
#include "service/queue.h"

/* What became of a run. */
enum metrics_result {
    METRICS_DONE,
    METRICS_SKIPPED,
    METRICS_RETRIED,
    METRICS_PARKED,
    METRICS_DEAD,
    METRICS_RELEASED, /* given back unworked */
    METRICS_RESULT_COUNT,
};

enum metrics_cancel {
    METRICS_CANCEL_OVERRUN,
    METRICS_CANCEL_LEASE_LOST,
    METRICS_CANCEL_COUNT,
};

/* Kinds of jobs, and behind them whatever this program does not know. */
enum { METRICS_KINDS = JOB_KIND_COUNT + 1, METRICS_CLASSES = ERR_CLASS_SKIP + 1 };

struct metrics_kind {
    uint64_t ended[METRICS_RESULT_COUNT];
    uint64_t retries[METRICS_CLASSES];
    struct metric_histogram run;
    struct metric_histogram age;
};

struct worker_metrics {
    struct metrics_kind kinds[METRICS_KINDS];
    uint64_t cancelled[METRICS_CANCEL_COUNT];
    uint64_t lease_lost;
    uint64_t group_recreated;
    uint64_t reclaimed;
    uint64_t promoted;
    struct health_watch watch; /* noted by the loop itself; see health.h */
};

/* run_us: what its handler took, 0 if it was not run; of a batch, the job's share. wall_ms: now,
 * for the job's age since it was made, or the event was received. */
void metrics_job_ended(struct worker_metrics *metrics, const struct job *job,
                       enum metrics_result result, int64_t run_us, int64_t wall_ms);
/* Beside METRICS_RETRIED: why. */
void metrics_retry(struct worker_metrics *metrics, const struct job *job, enum err_class class);

static inline void metrics_cancelled(struct worker_metrics *metrics, enum metrics_cancel reason)
{
    metrics->cancelled[reason]++;
}

static inline void metrics_lease_lost(struct worker_metrics *metrics)
{
    metrics->lease_lost++;
}

static inline void metrics_group_recreated(struct worker_metrics *metrics)
{
    metrics->group_recreated++;
}

static inline void metrics_reclaimed(struct worker_metrics *metrics)
{
    metrics->reclaimed++;
}

static inline void metrics_promoted(struct worker_metrics *metrics, size_t count)
{
    metrics->promoted += count;
}

static inline void metrics_read(struct worker_metrics *metrics, int64_t at_ms)
{
    health_read(&metrics->watch, at_ms);
}

static inline void metrics_beat(struct worker_metrics *metrics, int64_t at_ms)
{
    health_beat(&metrics->watch, at_ms);
}

static inline void metrics_intake(struct worker_metrics *metrics, enum health_intake intake,
                                  int64_t at_ms)
{
    health_note(&metrics->watch, intake, at_ms);
}

/* Levels at the moment of asking. */
struct metrics_levels {
    size_t slots;
    size_t busy;
    size_t ready;
    size_t unsettled;
};

/* With all kinds of the queue, also those that have not come yet: a rate needs the 0 it starts at.
 */
void metrics_write_worker(const struct worker_metrics *metrics, const struct metrics_levels *levels,
                          enum queue_name queue, int64_t now_ms, struct metric_page *page);

#endif
