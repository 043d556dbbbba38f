#include "runtime/overview.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    REAP_MS = 60000, /* or CONSUMER_IDLE_MS, where that is shorter */
    LOCK_MS = 200,   /* figures are not worth waiting for longer: relaying waits, too */
};

void overview_init(struct overview *overview, struct redis *redis, struct pg *pg,
                   const struct config *config)
{
    *overview = (struct overview){
        .redis = redis, .pg = pg, .config = config, .started_ms = clock_mono_ms()};
}

void overview_swept(struct overview *overview, bool done)
{
    if (done) {
        overview->sweeps_done++;
        overview->swept_ms = clock_mono_ms();
    } else {
        overview->sweeps_failed++;
    }
}

struct health overview_judge(const struct overview *overview, int64_t now_ms)
{
    int64_t since_ms = overview->swept_ms > 0 ? overview->swept_ms : overview->started_ms;
    return health_of_scheduler(since_ms, overview->config->relay_sweep_ms, now_ms);
}

/* --- asking ---------------------------------------------------------------------------------- */

struct reaping {
    size_t left;
    int64_t gone;
};

static void on_reaped(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct reaping *reaping = data;
    reaping->left--;
    if (err == NULL)
        reaping->gone += redis_reply_integer(reply);
}

/* An error is no harm: they are still there the next time. */
static void reap(struct overview *overview, int64_t now_ms)
{
    struct reaping reaping = {.left = QUEUE_COUNT};
    int64_t idle_ms = overview->config->consumer_idle_ms;
    int64_t every_ms = idle_ms < REAP_MS ? idle_ms : REAP_MS;
    if (overview->reaped_ms > 0 && now_ms - overview->reaped_ms < every_ms)
        return;
    overview->reaped_ms = now_ms;
    for (size_t i = 0; i < QUEUE_COUNT; i++) {
        struct queue queue;
        queue_init(&queue, overview->redis, overview->config->stream_prefix, (enum queue_name)i);
        queue_reap(&queue, idle_ms, on_reaped, &reaping);
    }
    redis_settle(overview->redis, &reaping.left);
    if (reaping.gone > 0)
        log_info("overview", "consumers that are long gone were forgotten",
                 LOG_INT("consumers", reaping.gone));
}

/* One line when trouble begins. A store that is away is the sweep's news. */
static void note(struct overview *overview, const struct err *redis, const struct err *pg)
{
    const struct err *err = err_failed(redis) ? redis : pg;
    bool news = err_failed(err) && err->code != ERR_REDIS_DOWN && err->code != ERR_PG_DOWN;
    if (news && !overview->troubled)
        log_warning("overview", "cannot collect metrics", LOG_TEXT("error", err_text(err)));
    overview->troubled = news;
}

/* A table may be locked for long, e.g. by a migration. What is read needs no COMMIT. */
static struct err ask_pg(struct pg *pg, struct pg_stats *out)
{
    TRY(pg_begin(pg));
    struct err err =
        PG_EXEC(pg, "SELECT set_config('lock_timeout', $1, true)", pg_integer(LOCK_MS));
    if (!err_failed(&err))
        err = queue_stats_ask_pg(pg, out);
    pg_rollback(pg);
    return err;
}

void overview_collect(struct overview *overview)
{
    struct err redis = err_make(ERR_REDIS_DOWN, "not asked");
    int64_t now_ms = clock_mono_ms();
    if (overview->asked_ms > 0 &&
        now_ms - overview->asked_ms < overview->config->metrics_collect_ms)
        return;
    overview->asked_ms = now_ms;
    if (redis_is_ready(overview->redis)) {
        redis = queue_stats_ask_redis(overview->redis, overview->config->stream_prefix,
                                      &overview->redis_stats);
        reap(overview, now_ms);
    }
    overview->redis_ms = err_failed(&redis) ? 0 : now_ms;
    struct err pg = ask_pg(overview->pg, &overview->pg_stats);
    overview->pg_ms = err_failed(&pg) ? 0 : now_ms;
    note(overview, &redis, &pg);
}

/* --- the page -------------------------------------------------------------------------------- */

static const char *stream_text(size_t queue)
{
    return queue_text((enum queue_name)queue);
}

static void write_redis(const struct redis_stats *stats, struct metric_page *page)
{
    const struct queue_stats *queues = stats->queues;
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put(page, METRIC_stream_depth, queues[i].depth, stream_text(i), NULL);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put(page, METRIC_pending_entries, queues[i].pending, stream_text(i), NULL);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put(page, METRIC_delayed_entries, queues[i].delayed, stream_text(i), NULL);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put_ms(page, METRIC_stream_oldest_seconds, queues[i].oldest_ms, stream_text(i));
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put_ms(page, METRIC_stream_read_age_seconds, queues[i].idle_ms, stream_text(i));
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put(page, METRIC_stream_consumers, queues[i].consumers, stream_text(i), NULL);
    metric_put(page, METRIC_events_dead, stats->events_dead, NULL, NULL);
}

/* Kinds whose jobs have a row to be dead in, also while none is; others when they have. */
static void write_dead(const struct pg_stats *stats, struct metric_page *page)
{
    for (size_t i = 0; i < JOB_KIND_COUNT; i++) {
        const struct job_type *type = job_type((enum job_kind)i);
        if (type->life == JOB_LIFE_KEPT || stats->dead[i] > 0)
            metric_put(page, METRIC_dlq_size, stats->dead[i], type->kind, NULL);
    }
    if (stats->dead[JOB_KIND_COUNT] > 0)
        metric_put(page, METRIC_dlq_size, stats->dead[JOB_KIND_COUNT], "unknown", NULL);
}

static void write_drift(const struct credits_stats *stats, struct metric_page *page)
{
    metric_put(page, METRIC_reconcile_drift, stats->paid_without_credit, "paid_without_credit",
               NULL);
    if (stats->proof_age_ms >= 0) {
        metric_put(page, METRIC_reconcile_drift, stats->credited_without_payment,
                   "credited_without_payment", NULL);
        metric_put(page, METRIC_reconcile_drift, stats->balances_wrong, "balance", NULL);
    }
    metric_begin(page, METRIC_credit_proof_age_seconds);
    if (stats->proof_age_ms >= 0)
        metric_put_ms(page, METRIC_credit_proof_age_seconds, stats->proof_age_ms, NULL);
}

static void write_credits(const struct credits_stats *stats, struct metric_page *page)
{
    metric_put(page, METRIC_credit_review_open, stats->review_open, NULL, NULL);
    metric_put_ms(page, METRIC_credit_review_oldest_seconds, stats->review_oldest_ms, NULL);
    metric_put(page, METRIC_credit_orders_requested, stats->orders_requested, NULL, NULL);
    metric_put(page, METRIC_credit_orders_unpaid, stats->orders_unpaid, NULL, NULL);
    metric_put_ms(page, METRIC_credit_orders_unpaid_oldest_seconds, stats->orders_oldest_ms, NULL);
    metric_put(page, METRIC_credit_orders_day, stats->orders_opened, "opened", NULL);
    metric_put(page, METRIC_credit_orders_day, stats->orders_paid, "paid", NULL);
    metric_begin(page, METRIC_credit_notices_day);
    for (size_t i = 0; i < stats->notice_kinds; i++)
        metric_put(page, METRIC_credit_notices_day, stats->notices[i].count, stats->notices[i].kind,
                   NULL);
    metric_put(page, METRIC_negative_balances, stats->owing, NULL, NULL);
    write_drift(stats, page);
}

static void write_pg(const struct pg_stats *stats, struct metric_page *page)
{
    write_dead(stats, page);
    metric_begin(page, METRIC_parked);
    for (size_t i = 0; i <= ERR_CODE_COUNT; i++)
        if (stats->parked[i] > 0)
            metric_put(page, METRIC_parked, stats->parked[i],
                       i < ERR_CODE_COUNT ? err_name((enum err_code)i) : "unknown", NULL);
    metric_put(page, METRIC_outbound_parked, stats->calls_parked, NULL, NULL);
    metric_put(page, METRIC_outbound_unknown, stats->calls_unknown, NULL, NULL);
    metric_begin(page, METRIC_outbound_unknown_seconds);
    if (stats->calls_oldest_ms >= 0)
        metric_put_ms(page, METRIC_outbound_unknown_seconds, stats->calls_oldest_ms, NULL);
    metric_put(page, METRIC_jobs_unrelayed, stats->unrelayed, NULL, NULL);
    metric_put(page, METRIC_jobs_bulk_waiting, stats->bulk_waiting, NULL, NULL);
    metric_begin(page, METRIC_tenant_paused);
    for (size_t i = 0; i < stats->tenant_states; i++)
        metric_put(page, METRIC_tenant_paused, stats->tenants[i].count, stats->tenants[i].status,
                   NULL);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        metric_put(page, METRIC_queue_paused, stats->queue_paused[i] ? 1 : 0, stream_text(i), NULL);
    write_credits(&stats->credits, page);
    metric_put(page, METRIC_reconcile_drift_total, stats->drift_new, "new", NULL);
    metric_put(page, METRIC_reconcile_drift_total, stats->drift_changed, "changed", NULL);
    metric_put(page, METRIC_reconcile_drift_total, stats->drift_gone, "gone", NULL);
    metric_begin(page, METRIC_last_event_seconds);
    if (stats->last_event_ms >= 0)
        metric_put_ms(page, METRIC_last_event_seconds, stats->last_event_ms, NULL);
}

void overview_write(const struct overview *overview, int64_t now_ms, struct metric_page *page)
{
    metric_put(page, METRIC_sweeps_total, (int64_t)overview->sweeps_done, "done", NULL);
    metric_put(page, METRIC_sweeps_total, (int64_t)overview->sweeps_failed, "failed", NULL);
    metric_begin(page, METRIC_sweep_age_seconds);
    if (overview->swept_ms > 0)
        metric_put_ms(page, METRIC_sweep_age_seconds, now_ms - overview->swept_ms, NULL);
    metric_put(page, METRIC_relayed_total, (int64_t)overview->relayed, NULL, NULL);
    metric_put(page, METRIC_rebuilt_total, (int64_t)overview->rebuilt, NULL, NULL);
    metric_begin(page, METRIC_collect_age_seconds);
    if (overview->redis_ms > 0)
        metric_put_ms(page, METRIC_collect_age_seconds, now_ms - overview->redis_ms, "redis");
    if (overview->pg_ms > 0)
        metric_put_ms(page, METRIC_collect_age_seconds, now_ms - overview->pg_ms, "postgresql");
    if (overview->redis_ms > 0)
        write_redis(&overview->redis_stats, page);
    if (overview->pg_ms > 0)
        write_pg(&overview->pg_stats, page);
}
