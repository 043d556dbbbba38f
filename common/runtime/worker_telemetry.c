#include "runtime/worker_telemetry.h"

#include "base/clock.h"

static struct health judge(void *data, int64_t now_ms)
{
    const struct worker_telemetry *it = data;
    const struct config *config = it->options.config;
    return health_of_worker(&it->metrics.watch, config->read_block_ms, config->lease_ms / 3,
                            now_ms);
}

static void sum_up(const struct worker_metrics *metrics, struct registry_entry *out)
{
    for (size_t k = 0; k < METRICS_KINDS; k++) {
        const uint64_t *ended = metrics->kinds[k].ended;
        out->done += ended[METRICS_DONE] + ended[METRICS_SKIPPED];
        out->failed += ended[METRICS_RETRIED] + ended[METRICS_PARKED] + ended[METRICS_DEAD];
    }
}

/* Of the monotonic clock to Unix time. */
static int64_t unix_ms(int64_t mono_ms)
{
    return mono_ms > 0 ? clock_wall_ms() - (clock_mono_ms() - mono_ms) : 0;
}

static void describe(void *data, struct registry_entry *out)
{
    const struct worker_telemetry *it = data;
    struct worker_look look = {.state = REGISTRY_CHECKING};
    it->options.look(it->options.data, &look);
    out->state = look.state;
    out->slots = look.levels.slots;
    out->busy = look.levels.busy;
    out->ready = look.levels.ready;
    out->unsettled = look.levels.unsettled;
    out->last_read_ms = unix_ms(it->metrics.watch.read_ms);
    out->last_beat_ms = unix_ms(it->metrics.watch.beat_ms);
    sum_up(&it->metrics, out);
}

static void write_page(void *data, int64_t now_ms, struct metric_page *page)
{
    const struct worker_telemetry *it = data;
    struct worker_look look = {.state = REGISTRY_CHECKING};
    it->options.look(it->options.data, &look);
    metrics_write_worker(&it->metrics, &look.levels, it->options.queue->name, now_ms, page);
    if (it->options.more != NULL)
        it->options.more(it->options.data, page);
}

struct err worker_telemetry_start(struct worker_telemetry *it,
                                  const struct worker_telemetry_options *options)
{
    const struct telemetry_options more = {
        .loop = options->loop,
        .redis = options->queue->redis,
        .config = options->config,
        .program = options->program,
        .queue = queue_text(options->queue->name),
        .name = options->queue->consumer,
        .source = {.judge = judge, .describe = describe, .write = write_page, .data = it},
    };
    memset(it, 0, sizeof *it);
    it->options = *options;
    health_start(&it->metrics.watch, clock_mono_ms());
    return telemetry_start(&it->shown, &more);
}
