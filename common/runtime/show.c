#include "base/clock.h"
#include "runtime/loop.h"

/* A pause after an error of Redis is no purpose: it goes on trying. */
static enum health_intake intake_state(const struct loop *loop)
{
    bool paused = loop->held || (loop->doubtful && intake_backs_off(loop));
    if (loop->phase == PHASE_CHECKING)
        return HEALTH_OPEN;
    if (loop->phase != PHASE_WORKING || paused || loop->alone || loop->suspects != NULL)
        return HEALTH_HELD;
    if (loop->busy == loop->slots.count)
        return HEALTH_FULL;
    return intake_room(loop) > 0 ? HEALTH_OPEN : HEALTH_HELD;
}

static enum registry_state state_of(const struct loop *loop)
{
    if (loop->phase != PHASE_WORKING)
        return loop->phase < PHASE_WORKING ? REGISTRY_CHECKING : REGISTRY_STOPPING;
    if (loop->held || intake_backs_off(loop))
        return REGISTRY_PAUSED;
    return loop->alone || loop->suspects != NULL ? REGISTRY_ISOLATING : REGISTRY_WORKING;
}

static void look(void *data, struct worker_look *out)
{
    const struct loop *loop = data;
    out->state = state_of(loop);
    out->levels = (struct metrics_levels){.slots = loop->slots.count,
                                          .busy = loop->busy,
                                          .ready = loop->ready.count,
                                          .unsettled = loop->settling.count};
    for (size_t i = 0; i < SETTLEMENT_COUNT; i++)
        out->levels.unsettled += loop->unsettled[i].count;
}

static void show_more(void *data, struct metric_page *page)
{
    struct loop *loop = data;
    if (loop->slots.shared != NULL)
        loop->worker->outside->write(loop, page);
    slots_write(&loop->slots, page);
}

struct err show_start(struct loop *loop)
{
    const struct worker_telemetry_options options = {.loop = &loop->process.loop,
                                                     .config = loop->config,
                                                     .program = loop->worker->name,
                                                     .queue = &loop->queue,
                                                     .look = look,
                                                     .more = show_more,
                                                     .data = loop};
    return worker_telemetry_start(&loop->telemetry, &options);
}

void show_intake(struct loop *loop)
{
    metrics_intake(&loop->telemetry.metrics, intake_state(loop), clock_mono_ms());
}
