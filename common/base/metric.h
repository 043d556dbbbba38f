#ifndef WHOPLINE_METRIC_H
#define WHOPLINE_METRIC_H
/* The figures of schema/metrics.def as Prometheus text. Who counts keeps the numbers; here is how
 * they are written. Any thread, one page each.
 *
 *   struct metric_page page = {.out = &buf};
 *   metric_put(&page, METRIC_jobs_total, 3, "credits.payment_succeeded", "done");
 *
 * All samples of a metric are written one after another; the first brings its HELP and TYPE. */
#include "base/buf.h"

enum metric {
#define GROUP(title, where)
#define COUNTER(name, labels, help)   METRIC_##name,
#define GAUGE(name, labels, help)     METRIC_##name,
#define HISTOGRAM(name, labels, help) METRIC_##name,
#define LATENESS(name, labels, help)  METRIC_##name,
#include "metrics.def"
#undef GROUP
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef LATENESS
    METRIC_COUNT
};

struct metric_page {
    struct buf *out;
    enum metric current;
    bool begun[METRIC_COUNT];
};

/* HELP and TYPE alone, where there may be no sample yet. */
void metric_begin(struct metric_page *page, enum metric metric);
/* a, b: values of the labels, in order; NULL for labels the metric does not have. Any bytes. */
void metric_put(struct metric_page *page, enum metric metric, int64_t value, const char *a,
                const char *b);
/* A time, written in seconds. */
void metric_put_ms(struct metric_page *page, enum metric metric, int64_t ms, const char *a);

enum { METRIC_BOUNDS = 18 };

bool metric_is_histogram(enum metric metric);

/* How often something took how long. Zeroed at first. */
struct metric_histogram {
    uint64_t
        counts[METRIC_BOUNDS + 1]; /* by the lowest bound that is not exceeded; no bound: last */
    uint64_t sum_us;
};

/* Of that metric, whose bounds they are. us: negative is 0. */
void metric_observe(enum metric metric, struct metric_histogram *histogram, int64_t us);
void metric_put_histogram(struct metric_page *page, enum metric metric,
                          const struct metric_histogram *histogram, const char *a);

void metric_write_reference(struct buf *out); /* docs/metrics.md */

#endif
