#ifndef WHOPLINE_WORKER_TELEMETRY_H
#define WHOPLINE_WORKER_TELEMETRY_H
/* What a worker says of itself: its counters on the pages and in the registry of telemetry.h. One
 * per process, in the loop's memory; loop thread. */
#include "runtime/metrics.h"
#include "runtime/telemetry.h"

/* How the worker is at this moment. */
struct worker_look {
    enum registry_state state;
    struct metrics_levels levels;
};

struct worker_telemetry_options {
    uv_loop_t *loop;
    const struct config *config; /* borrowed */
    const char *program;         /* borrowed */
    const struct queue *queue;   /* borrowed; initialised */
    void (*look)(void *data, struct worker_look *out);
    void (*more)(void *data, struct metric_page *page); /* what else to show; may be NULL */
    void *data;
};

struct worker_telemetry {
    struct worker_metrics metrics; /* counted by the loop */
    struct telemetry shown;
    struct worker_telemetry_options options;
};

/* As telemetry_start. */
MUST_CHECK struct err worker_telemetry_start(struct worker_telemetry *it,
                                             const struct worker_telemetry_options *options);

#endif
