#ifndef WHOPLINE_DUTIES_H
#define WHOPLINE_DUTIES_H
/* What a scheduler does by the clock beside relaying: schedules, timers, retention; a bounded piece
 * of it in each round, so that relaying is never kept waiting for long. Blocking; the thread that
 * owns the connection. */
#include "base/config.h"
#include "base/metric.h"
#include "service/retention.h"
#include "service/schedules.h"

struct duties {
    struct pg *pg; /* borrowed */
    const struct config *config;
    const bool *stopping; /* a round ends early then */
    bool installed;       /* the built-in schedules are in their table */
    bool clock_known;     /* ahead_ms is */
    int64_t ahead_ms;     /* of the database's clock before the monotonic one, at most so far */
    bool retention_waits; /* until retention_ms, of the monotonic clock; else there is more to
                             delete */
    int64_t retention_ms;

    uint64_t steps[SCHEDULES_OUTCOME_COUNT];
    uint64_t timers;
    uint64_t deleted[RETENTION_TABLE_COUNT];
    struct metric_histogram late;
};

void duties_init(struct duties *duties, struct pg *pg, const struct config *config,
                 const bool *stopping);
/* *more: work was left over for the next round. Errors are those of io/pg; nothing is half done. */
MUST_CHECK struct err duties_round(struct duties *duties, bool *more);
void duties_write(const struct duties *duties, struct metric_page *page);

#endif
