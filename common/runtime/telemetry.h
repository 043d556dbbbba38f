#ifndef WHOPLINE_TELEMETRY_H
#define WHOPLINE_TELEMETRY_H
/* What a worker or the scheduler says of itself: the pages of its private listener, its entry in
 * the registry (service/registry.h), how late its loop is.
 *
 *   telemetry_start ──> every second or so: lag; every 5 s, or LEASE_MS/3: the entry is written
 *   telemetry_leave ──> the entry is removed, when Redis has answered; pages are still given
 *   telemetry_close ──> nothing any more
 *
 * In the caller's memory, which must outlive the closing of redis; loop thread. */
#include "base/config.h"
#include "base/metric.h"
#include "runtime/health.h"
#include "runtime/private.h"
#include "service/registry.h"

/* What only the program knows. Called on the loop, from within the pages and the timer. */
struct telemetry_source {
    struct health (*judge)(void *data, int64_t now_ms); /* now_ms: monotonic */
    /* Fills in state, levels, counts and times; the rest is filled in already. */
    void (*describe)(void *data, struct registry_entry *out);
    void (*write)(void *data, int64_t now_ms, struct metric_page *page);
    void *data;
};

struct telemetry_options {
    uv_loop_t *loop;
    struct redis *redis;         /* borrowed; opened with scripts_all() */
    const struct config *config; /* borrowed */
    const char *program;         /* borrowed; "whopline-credits" */
    const char *queue;           /* borrowed; "" for none */
    const char *name;            /* of the consumer (queue.h); copied */
    struct telemetry_source source;
};

struct telemetry {
    struct telemetry_options options;
    struct private private;
    struct registry registry;
    uv_timer_t timer;
    int64_t tick_ms;
    int64_t write_ms; /* how often the entry is written */
    int64_t started_ms;
    int64_t ticked_ms;  /* of the monotonic clock, as below */
    int64_t written_ms; /* 0: not yet */
    int64_t window_ms;  /* when the present window began */
    int64_t lag_ms[2];  /* the worst of the window before, and of this one */
    bool connected;     /* once */
    uint64_t reconnects;
};

/* Adds a line to problems if WORKER_LISTEN cannot be used: a process_check. */
void telemetry_check(const struct config *config, struct buf *problems);
/* CONFIG if it cannot listen there; telemetry_close is due then too. */
MUST_CHECK struct err telemetry_start(struct telemetry *telemetry,
                                      const struct telemetry_options *options);
void telemetry_connected(struct telemetry *telemetry); /* to Redis: the first time or again */
/* callback fires once, as those of io/redis do: with an error if Redis is not there. */
void telemetry_leave(struct telemetry *telemetry, redis_callback *callback, void *data);
void telemetry_close(struct telemetry *telemetry);

#endif
