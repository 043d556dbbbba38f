#ifndef WHOPLINE_OVERVIEW_H
#define WHOPLINE_OVERVIEW_H
/* What the scheduler shows on /metrics: its own sweeps, and how the whole installation stands
 * (service/queue_stats.h), asked of the stores every METRICS_COLLECT_MS at most. In passing it has
 * Redis forget consumers that are long gone. Figures of a store that did not answer are not shown,
 * rather than old ones. Blocking; one thread that owns both connections. */
#include "base/config.h"
#include "base/metric.h"
#include "runtime/health.h"
#include "service/queue_stats.h"

struct overview {
    struct redis *redis; /* borrowed; opened with scripts_all() */
    struct pg *pg;       /* borrowed */
    const struct config *config;

    uint64_t sweeps_done;
    uint64_t sweeps_failed;
    uint64_t relayed;
    uint64_t rebuilt;
    int64_t started_ms; /* all of the monotonic clock */
    int64_t swept_ms;   /* 0: not yet */

    int64_t asked_ms; /* both, whatever came of it */
    int64_t redis_ms; /* when it answered; 0: it did not, the last time */
    int64_t pg_ms;
    int64_t reaped_ms;
    bool troubled; /* said so already */
    struct redis_stats redis_stats;
    struct pg_stats pg_stats;
};

void overview_init(struct overview *overview, struct redis *redis, struct pg *pg,
                   const struct config *config);
void overview_swept(struct overview *overview, bool done);
/* Asks, if it is time to. */
void overview_collect(struct overview *overview);
struct health overview_judge(const struct overview *overview, int64_t now_ms);
void overview_write(const struct overview *overview, int64_t now_ms, struct metric_page *page);

#endif
