#ifndef WHOPLINE_WORKER_REPORT_H
#define WHOPLINE_WORKER_REPORT_H
/* What a worker says of itself: its counters on the pages and in the registry of report.h. One per
 * process, in the loop's memory; loop thread. */
#include "runtime/metrics.h"
#include "runtime/report.h"

/* How the worker is at this moment. */
struct worker_look {
    enum registry_state state;
    struct metrics_levels levels;
};

struct worker_report_options {
    uv_loop_t *loop;
    const struct config *config; /* borrowed */
    const char *program;         /* borrowed */
    const struct queue *queue;   /* borrowed; initialised */
    void (*look)(void *data, struct worker_look *out);
    void *data;
};

struct worker_report {
    struct worker_metrics metrics; /* counted by the loop */
    struct report report;
    struct worker_report_options options;
};

/* As report_start. */
MUST_CHECK struct err worker_report_start(struct worker_report *it,
                                          const struct worker_report_options *options);

#endif
