/* whopline-scheduler: no queued row is forgotten.
 *
 * Offers rows to Redis that nobody has relayed, or that were relayed long ago; and all of them when
 * Redis turns out to be another one than before. Any number of these may run: what one offers twice
 * is a duplicate. */
#include "base/clock.h"
#include "base/log.h"
#include "runtime/process.h"
#include "service/migrate.h"
#include "service/relay.h"
#include "service/scripts.h"

enum {
    REDIS_TIMEOUT_MS = 5000,
    SCHEMA_AGAIN_MS = 1000,
    HURRY_MS =
        100, /* bulk rows wait for room: a tenant's rate is at most TENANT_MAX_INFLIGHT in this */
};

struct scheduler {
    struct process process;
    struct relay relay;
    uv_timer_t timer;
    bool troubled; /* said so already */
};

static void on_timer(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* Lets the loop turn for so long: signals arrive, connections are looked after. */
static void idle(struct scheduler *scheduler, int64_t ms)
{
    uv_update_time(&scheduler->process.loop);
    uv_timer_start(&scheduler->timer, on_timer, (uint64_t)ms, 0);
    uv_run(&scheduler->process.loop, UV_RUN_DEFAULT);
    uv_timer_stop(&scheduler->timer);
}

static struct err sweep(struct scheduler *scheduler, bool *bulk_waiting)
{
    size_t rebuilt;
    struct relay_round round;
    do {
        /* Each time: a flood of bulk rows may keep this going for hours. */
        TRY(relay_check_epoch(&scheduler->relay, &rebuilt));
        if (rebuilt > 0)
            log_warning("scheduler", "another Redis: queued jobs are offered again",
                        LOG_INT("jobs", rebuilt));
        TRY(relay_sweep(&scheduler->relay, &round));
        if (round.offered > 0)
            log_info("scheduler", "jobs relayed", LOG_INT("jobs", round.offered));
    } while (round.offered > 0 && !scheduler->process.stopping);
    *bulk_waiting = round.bulk_waiting;
    return ERR_NONE;
}

/* One line when trouble begins and one when it ends, not one a second. */
static void note(struct scheduler *scheduler, const struct err *err)
{
    if (err_failed(err) && !scheduler->troubled)
        log_warning("scheduler", "cannot sweep", LOG_TEXT("error", err_text(err)));
    if (!err_failed(err) && scheduler->troubled)
        log_info("scheduler", "sweeping again");
    scheduler->troubled = err_failed(err);
}

static void on_stop(void *data)
{
    struct scheduler *scheduler = data;
    uv_stop(&scheduler->process.loop);
}

/* 0, or the exit status. */
static int wait_for_schema(struct scheduler *scheduler)
{
    for (;;) {
        struct err err = migrate_check(scheduler->relay.pg);
        note(scheduler, &err);
        if (!err_failed(&err) || scheduler->process.stopping)
            return 0;
        if (err.code == ERR_PG_SCHEMA) {
            log_error("scheduler", "cannot start", LOG_TEXT("error", err_text(&err)));
            return 1;
        }
        idle(scheduler, SCHEMA_AGAIN_MS);
    }
}

static int work(struct scheduler *scheduler)
{
    const struct config *config = &scheduler->process.config;
    int status = wait_for_schema(scheduler);
    if (status == 0)
        log_info("scheduler", "working");
    while (status == 0 && !scheduler->process.stopping) {
        bool hurry = false;
        struct err err = sweep(scheduler, &hurry);
        note(scheduler, &err);
        if (!scheduler->process.stopping)
            idle(scheduler,
                 hurry && config->relay_sweep_ms > HURRY_MS ? HURRY_MS : config->relay_sweep_ms);
    }
    return status;
}

static struct err open_stores(struct scheduler *scheduler)
{
    const struct config *config = &scheduler->process.config;
    const struct redis_options options = {
        .loop = &scheduler->process.loop,
        .url = config->redis_url,
        .scripts = scripts_all(),
        .script_count = SCRIPT_COUNT,
        .timeout_ms = REDIS_TIMEOUT_MS,
    };
    scheduler->relay = (struct relay){
        .pg = pg_new(config->database_url),
        .prefix = config->stream_prefix,
        .grace_ms = config->relay_sweep_ms,
        .stale_ms = config->relay_stale_ms,
        .tenant_max = config->tenant_max_inflight,
    };
    pg_limit(scheduler->relay.pg, config->max_run_ms); /* e.g. a row that somebody has locked */
    return redis_new(&options, &scheduler->relay.redis);
}

int main(int argc, char **argv)
{
    struct scheduler scheduler = {0};
    int status = process_start(&scheduler.process, argc, argv, "whopline-scheduler",
                               "relays jobs that have not reached Redis", CONFIG_WORKER, NULL);
    if (status != PROCESS_GO)
        return status;
    scheduler.process.on_stop = on_stop;
    scheduler.process.data = &scheduler;
    uv_timer_init(&scheduler.process.loop, &scheduler.timer);

    struct err err = open_stores(&scheduler);
    if (err_failed(&err)) {
        log_error("scheduler", "cannot start", LOG_TEXT("error", err_text(&err)));
        status = 2;
    } else {
        status = work(&scheduler);
    }

    redis_close(scheduler.relay.redis);
    pg_free(scheduler.relay.pg);
    uv_close((uv_handle_t *)&scheduler.timer, NULL);
    return process_end(&scheduler.process, status);
}
