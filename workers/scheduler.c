/* whopline-scheduler: no queued row is forgotten, and no time passes unnoticed.
 *
 * Offers rows to Redis that nobody has relayed, or that were relayed long ago; and all of them when
 * Redis turns out to be another one than before. Fires schedules and timers, and deletes what is
 * old (runtime/duties.h). Any number of these may run: what one offers twice is a duplicate, and
 * what one fires no other does. */
#include "base/clock.h"
#include "base/log.h"
#include "runtime/duties.h"
#include "runtime/overview.h"
#include "runtime/process.h"
#include "runtime/telemetry.h"
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
    struct overview overview;
    struct duties duties;
    struct telemetry telemetry;
    uv_timer_t timer;
    bool working;         /* the schema is ours */
    bool sweep_troubled;  /* said so already */
    bool duties_troubled; /* the same */
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
        scheduler->overview.rebuilt += rebuilt;
        if (rebuilt > 0)
            log_warning("scheduler", "another Redis: queued jobs are offered again",
                        LOG_INT("jobs", rebuilt));
        TRY(relay_sweep(&scheduler->relay, &round));
        scheduler->overview.relayed += round.offered;
        if (round.offered > 0)
            log_info("scheduler", "jobs relayed", LOG_INT("jobs", round.offered));
    } while (round.offered > 0 && !scheduler->process.stopping);
    *bulk_waiting = round.bulk_waiting;
    return ERR_NONE;
}

/* One line when trouble begins and one when it ends, not one a second. */
static void note(const struct err *err, const char *what, bool *troubled)
{
    if (err_failed(err) && !*troubled)
        log_warning("scheduler", "in trouble", LOG_TEXT("with", what),
                    LOG_TEXT("error", err_text(err)));
    if (!err_failed(err) && *troubled)
        log_info("scheduler", "trouble is over", LOG_TEXT("with", what));
    *troubled = err_failed(err);
}

/* Schedules need no Redis, so each goes on without the other. Whether to come back soon. */
static bool make_round(struct scheduler *scheduler)
{
    bool bulk_waiting = false;
    bool more = false;
    struct err err = sweep(scheduler, &bulk_waiting);
    note(&err, "sweeping", &scheduler->sweep_troubled);
    overview_swept(&scheduler->overview, !err_failed(&err));
    err = duties_round(&scheduler->duties, &more);
    note(&err, "schedules, timers or retention", &scheduler->duties_troubled);
    overview_collect(&scheduler->overview);
    return bulk_waiting || more;
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
        note(&err, "the database", &scheduler->sweep_troubled);
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
    scheduler->working = status == 0;
    while (status == 0 && !scheduler->process.stopping) {
        bool hurry = make_round(scheduler);
        if (!scheduler->process.stopping)
            idle(scheduler,
                 hurry && config->relay_sweep_ms > HURRY_MS ? HURRY_MS : config->relay_sweep_ms);
    }
    return status;
}

/* --- what it says of itself ------------------------------------------------------------------ */

/* Asked between sweeps only: one that hangs is not answered for at all. */
static struct health judge(void *data, int64_t now_ms)
{
    const struct scheduler *scheduler = data;
    return overview_judge(&scheduler->overview, now_ms);
}

static void describe(void *data, struct registry_entry *out)
{
    const struct scheduler *scheduler = data;
    out->state = scheduler->process.stopping ? REGISTRY_STOPPING
                 : scheduler->working        ? REGISTRY_WORKING
                                             : REGISTRY_CHECKING;
    out->done = scheduler->overview.sweeps_done;
    out->failed = scheduler->overview.sweeps_failed;
}

static void write_page(void *data, int64_t now_ms, struct metric_page *page)
{
    const struct scheduler *scheduler = data;
    overview_write(&scheduler->overview, now_ms, page);
    duties_write(&scheduler->duties, page);
}

static struct err start_telemetry(struct scheduler *scheduler)
{
    char name[QUEUE_CONSUMER_MAX];
    const struct telemetry_options options = {
        .loop = &scheduler->process.loop,
        .redis = scheduler->relay.redis,
        .config = &scheduler->process.config,
        .program = scheduler->process.name,
        .queue = "",
        .name = name,
        .source = {.judge = judge, .describe = describe, .write = write_page, .data = scheduler},
    };
    queue_consumer(name);
    return telemetry_start(&scheduler->telemetry, &options);
}

static void on_left(const struct err *err, const struct redis_reply *reply, void *data)
{
    size_t *left = data;
    (void)err;
    (void)reply;
    --*left;
}

static void end_telemetry(struct scheduler *scheduler)
{
    size_t left = 1;
    telemetry_leave(&scheduler->telemetry, on_left, &left);
    redis_settle(scheduler->relay.redis, &left);
    telemetry_close(&scheduler->telemetry);
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_redis_ready(void *data)
{
    struct scheduler *scheduler = data;
    telemetry_connected(&scheduler->telemetry);
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
        .on_ready = on_redis_ready,
        .data = scheduler,
    };
    scheduler->relay = (struct relay){
        .pg = pg_new(config->database_url),
        .prefix = config->stream_prefix,
        .grace_ms = config->relay_sweep_ms,
        .stale_ms = config->relay_stale_ms,
        .tenant_max = config->tenant_max_inflight,
    };
    TRY(redis_new(&options, &scheduler->relay.redis));
    pg_set_prepare(scheduler->relay.pg, config->database_prepare);
    pg_set_lock_wait(scheduler->relay.pg, config->database_lock_timeout_ms);
    pg_limit(scheduler->relay.pg, config->max_run_ms); /* e.g. a row that somebody has locked */
    overview_init(&scheduler->overview, scheduler->relay.redis, scheduler->relay.pg, config);
    duties_init(&scheduler->duties, scheduler->relay.pg, config, &scheduler->process.stopping);
    return ERR_NONE;
}

int main(int argc, char **argv)
{
    struct scheduler scheduler = {0};
    int status = process_start(&scheduler.process, argc, argv, "whopline-scheduler",
                               "relays jobs that have not reached Redis, fires schedules",
                               CONFIG_WORKER, telemetry_check);
    if (status != PROCESS_GO)
        return status;
    scheduler.process.on_stop = on_stop;
    scheduler.process.data = &scheduler;
    uv_timer_init(&scheduler.process.loop, &scheduler.timer);

    struct err err = open_stores(&scheduler);
    bool open = !err_failed(&err);
    if (open)
        err = start_telemetry(&scheduler);
    if (err_failed(&err)) {
        log_error("scheduler", "cannot start", LOG_TEXT("error", err_text(&err)));
        status = 2;
    } else {
        status = work(&scheduler);
    }

    if (open)
        end_telemetry(&scheduler);
    redis_close(scheduler.relay.redis);
    pg_free(scheduler.relay.pg);
    uv_close((uv_handle_t *)&scheduler.timer, NULL);
    return process_end(&scheduler.process, status);
}
