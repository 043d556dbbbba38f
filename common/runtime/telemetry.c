#include "runtime/telemetry.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    TICK_MS = 1000,
    WRITE_MS = 5000,       /* or a third of a lease: when leases are short, so is patience */
    KEEP_FACTOR = 3,       /* of writes that may fail before the entry is gone */
    LAG_WINDOW_MS = 30000, /* two are shown: longer than most scrape intervals */
};

/* --- pages ----------------------------------------------------------------------------------- */

static struct registry_entry describe(struct telemetry *telemetry)
{
    const struct telemetry_options *options = &telemetry->options;
    struct registry_entry entry = {
        .program = options->program,
        .queue = options->queue,
        .state = REGISTRY_CHECKING,
        .started_ms = telemetry->started_ms,
        .listen = telemetry->private.address,
    };
    options->source.describe(options->source.data, &entry);
    return entry;
}

/* NULL: it does its work. */
static const char *why_not_ready(struct telemetry *telemetry)
{
    enum registry_state state = describe(telemetry).state;
    if (state == REGISTRY_STOPPING)
        return "stopping";
    if (!redis_is_ready(telemetry->options.redis))
        return "waiting for Redis";
    return state == REGISTRY_CHECKING ? "waiting for its stores" : NULL;
}

static int give_live(void *data, struct buf *out)
{
    struct telemetry *telemetry = data;
    const struct telemetry_source *source = &telemetry->options.source;
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
    struct telemetry *telemetry = data;
    const struct telemetry_source *source = &telemetry->options.source;
    struct metric_page page = {.out = out};
    int64_t now_ms = clock_mono_ms();
    int64_t worst_ms = telemetry->lag_ms[telemetry->lag_ms[1] > telemetry->lag_ms[0] ? 1 : 0];
    source->write(source->data, now_ms, &page);
    metric_put(&page, METRIC_healthy, source->judge(source->data, now_ms).healthy ? 1 : 0, NULL,
               NULL);
    metric_put(&page, METRIC_ready, why_not_ready(telemetry) == NULL ? 1 : 0, NULL, NULL);
    metric_put_ms(&page, METRIC_loop_lag_seconds, worst_ms, NULL);
    metric_put(&page, METRIC_redis_reconnects_total, (int64_t)telemetry->reconnects, NULL, NULL);
}

/* --- every now and then ---------------------------------------------------------------------- */

/* Nobody's work depends on it; a Redis that is away is somebody else's line in the log. */
static void on_written(const struct err *err, const struct redis_reply *reply, void *data)
{
    (void)reply;
    (void)data;
    if (err != NULL && err->code == ERR_REDIS_REPLY)
        log_debug("telemetry", "Redis refused the entry of this process",
                  LOG_TEXT("error", err_text(err)));
}

static void measure_lag(struct telemetry *telemetry, int64_t now_ms)
{
    int64_t late_ms = now_ms - telemetry->ticked_ms - telemetry->tick_ms;
    telemetry->ticked_ms = now_ms;
    if (now_ms - telemetry->window_ms >= LAG_WINDOW_MS) {
        telemetry->window_ms = now_ms;
        telemetry->lag_ms[0] = telemetry->lag_ms[1];
        telemetry->lag_ms[1] = 0;
    }
    if (late_ms > telemetry->lag_ms[1])
        telemetry->lag_ms[1] = late_ms;
}

static void on_tick(uv_timer_t *timer)
{
    struct telemetry *telemetry = timer->data;
    int64_t now_ms = clock_mono_ms();
    measure_lag(telemetry, now_ms);
    bool due = telemetry->written_ms == 0 || now_ms - telemetry->written_ms >= telemetry->write_ms;
    if (!due || !redis_is_ready(telemetry->options.redis))
        return;
    telemetry->written_ms = now_ms;
    struct registry_entry entry = describe(telemetry);
    registry_write(&telemetry->registry, &entry, KEEP_FACTOR * telemetry->write_ms, on_written,
                   NULL);
}

/* --- life ------------------------------------------------------------------------------------ */

void telemetry_check(const struct config *config, struct buf *problems)
{
    private_check("WORKER_LISTEN", config->worker_listen, problems);
}

struct err telemetry_start(struct telemetry *telemetry, const struct telemetry_options *options)
{
    const struct config *config = options->config;
    const struct private_pages pages = {
        .live = give_live, .ready = give_ready, .metrics = give_metrics, .data = telemetry};
    *telemetry = (struct telemetry){.options = *options, .started_ms = clock_wall_ms()};
    telemetry->write_ms = config->lease_ms / 3 < WRITE_MS ? config->lease_ms / 3 : WRITE_MS;
    telemetry->tick_ms = telemetry->write_ms < TICK_MS ? telemetry->write_ms : TICK_MS;
    telemetry->ticked_ms = telemetry->window_ms = clock_mono_ms();
    registry_init(&telemetry->registry, options->redis, config->stream_prefix, options->name);
    uv_timer_init(options->loop, &telemetry->timer);
    telemetry->timer.data = telemetry;
    uv_timer_start(&telemetry->timer, on_tick, (uint64_t)telemetry->tick_ms,
                   (uint64_t)telemetry->tick_ms);
    private_init(&telemetry->private, options->loop, &pages);
    struct err err = private_listen(&telemetry->private, config->worker_listen, NET_ALONE);
    if (err_failed(&err))
        return err_make(ERR_CONFIG,
                        "WORKER_LISTEN: %s; every process needs a port of its own, port 0 takes a "
                        "free one",
                        err_text(&err));
    return ERR_NONE;
}

void telemetry_connected(struct telemetry *telemetry)
{
    if (telemetry->connected)
        telemetry->reconnects++;
    telemetry->connected = true;
    telemetry->written_ms = 0;
}

void telemetry_leave(struct telemetry *telemetry, redis_callback *callback, void *data)
{
    uv_timer_stop(&telemetry->timer);
    registry_remove(&telemetry->registry, callback, data);
}

void telemetry_close(struct telemetry *telemetry)
{
    uv_close((uv_handle_t *)&telemetry->timer, NULL);
    private_close(&telemetry->private);
}
