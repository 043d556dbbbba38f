#include "runtime/report.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    TICK_MS = 1000,
    WRITE_MS = 5000,       /* or a third of a lease: when leases are short, so is patience */
    KEEP_FACTOR = 3,       /* of writes that may fail before the entry is gone */
    LAG_WINDOW_MS = 30000, /* two are shown: longer than most scrape intervals */
};

/* --- pages ----------------------------------------------------------------------------------- */

static struct registry_entry describe(struct report *report)
{
    const struct report_options *options = &report->options;
    struct registry_entry entry = {
        .program = options->program,
        .queue = options->queue,
        .state = REGISTRY_CHECKING,
        .started_ms = report->started_ms,
        .listen = report->private.address,
    };
    options->source.describe(options->source.data, &entry);
    return entry;
}

/* NULL: it does its work. */
static const char *why_not_ready(struct report *report)
{
    enum registry_state state = describe(report).state;
    if (state == REGISTRY_STOPPING)
        return "stopping";
    if (!redis_is_ready(report->options.redis))
        return "waiting for Redis";
    return state == REGISTRY_CHECKING ? "waiting for its stores" : NULL;
}

static int give_live(void *data, struct buf *out)
{
    struct report *report = data;
    const struct report_source *source = &report->options.source;
    struct health health = source->judge(source->data, clock_mono_ms());
    buf_printf(out, "%s\n", health.text);
    return health.healthy ? 200 : 503;
}

static int give_ready(void *data, struct buf *out)
{
    const char *why = why_not_ready(data);
    buf_printf(out, "%s\n", why != NULL ? why : "ok");
    return why != NULL ? 503 : 200;
}

static void give_metrics(void *data, struct buf *out)
{
    struct report *report = data;
    const struct report_source *source = &report->options.source;
    struct metric_page page = {.out = out};
    int64_t now_ms = clock_mono_ms();
    int64_t worst_ms = report->lag_ms[report->lag_ms[1] > report->lag_ms[0] ? 1 : 0];
    source->write(source->data, now_ms, &page);
    metric_put(&page, METRIC_healthy, source->judge(source->data, now_ms).healthy ? 1 : 0, NULL,
               NULL);
    metric_put(&page, METRIC_ready, why_not_ready(report) == NULL ? 1 : 0, NULL, NULL);
    metric_put_ms(&page, METRIC_loop_lag_seconds, worst_ms, NULL);
    metric_put(&page, METRIC_redis_reconnects_total, (int64_t)report->reconnects, NULL, NULL);
}

/* --- every now and then ---------------------------------------------------------------------- */

/* Nobody's work depends on it; a Redis that is away is somebody else's line in the log. */
static void on_written(const struct err *err, const struct redis_reply *reply, void *data)
{
    (void)reply;
    (void)data;
    if (err != NULL && err->code == ERR_REDIS_REPLY)
        log_debug("report", "Redis refused the entry of this process",
                  LOG_TEXT("error", err_text(err)));
}

static void measure_lag(struct report *report, int64_t now_ms)
{
    int64_t late_ms = now_ms - report->ticked_ms - report->tick_ms;
    report->ticked_ms = now_ms;
    if (now_ms - report->window_ms >= LAG_WINDOW_MS) {
        report->window_ms = now_ms;
        report->lag_ms[0] = report->lag_ms[1];
        report->lag_ms[1] = 0;
    }
    if (late_ms > report->lag_ms[1])
        report->lag_ms[1] = late_ms;
}

static void on_tick(uv_timer_t *timer)
{
    struct report *report = timer->data;
    int64_t now_ms = clock_mono_ms();
    measure_lag(report, now_ms);
    bool due = report->written_ms == 0 || now_ms - report->written_ms >= report->write_ms;
    if (!due || !redis_is_ready(report->options.redis))
        return;
    report->written_ms = now_ms;
    struct registry_entry entry = describe(report);
    registry_write(&report->registry, &entry, KEEP_FACTOR * report->write_ms, on_written, NULL);
}

/* --- life ------------------------------------------------------------------------------------ */

void report_check(const struct config *config, struct buf *problems)
{
    private_check("WORKER_LISTEN", config->worker_listen, problems);
}

struct err report_start(struct report *report, const struct report_options *options)
{
    const struct config *config = options->config;
    const struct private_pages pages = {
        .live = give_live, .ready = give_ready, .metrics = give_metrics, .data = report};
    *report = (struct report){.options = *options, .started_ms = clock_wall_ms()};
    report->write_ms = config->lease_ms / 3 < WRITE_MS ? config->lease_ms / 3 : WRITE_MS;
    report->tick_ms = report->write_ms < TICK_MS ? report->write_ms : TICK_MS;
    report->ticked_ms = report->window_ms = clock_mono_ms();
    registry_init(&report->registry, options->redis, config->stream_prefix, options->name);
    uv_timer_init(options->loop, &report->timer);
    report->timer.data = report;
    uv_timer_start(&report->timer, on_tick, (uint64_t)report->tick_ms, (uint64_t)report->tick_ms);
    private_init(&report->private, options->loop, &pages);
    struct err err = private_listen(&report->private, config->worker_listen, NET_ALONE);
    if (err_failed(&err))
        return err_make(ERR_CONFIG,
                        "WORKER_LISTEN: %s; every process needs a port of its own, port 0 takes a "
                        "free one",
                        err_text(&err));
    return ERR_NONE;
}

void report_connected(struct report *report)
{
    if (report->connected)
        report->reconnects++;
    report->connected = true;
    report->written_ms = 0;
}

void report_soon(struct report *report)
{
    report->written_ms = 0;
}

void report_leave(struct report *report, redis_callback *callback, void *data)
{
    uv_timer_stop(&report->timer);
    registry_remove(&report->registry, callback, data);
}

void report_close(struct report *report)
{
    uv_close((uv_handle_t *)&report->timer, NULL);
    private_close(&report->private);
}
