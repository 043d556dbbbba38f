#include "runtime/metrics.h"

/* Beyond this it is no age, and would drown the sums. */
static const int64_t age_max_ms = 366LL * 24 * 3600 * 1000;

static const char *const result_names[METRICS_RESULT_COUNT] = {
    [METRICS_DONE] = "done",     [METRICS_SKIPPED] = "skipped", [METRICS_RETRIED] = "retried",
    [METRICS_PARKED] = "parked", [METRICS_DEAD] = "dead",       [METRICS_RELEASED] = "released",
};

static const char *const cancel_names[METRICS_CANCEL_COUNT] = {
    [METRICS_CANCEL_OVERRUN] = "overrun",
    [METRICS_CANCEL_LEASE_LOST] = "lease_lost",
};

static struct metrics_kind *kind_of(struct worker_metrics *metrics, const struct job *job)
{
    return &metrics->kinds[job->kind_known ? (size_t)job->known : JOB_KIND_COUNT];
}

/* Clocks of two machines may differ, and a foreign entry has no time at all. */
static int64_t age_us(const struct job *job, int64_t wall_ms)
{
    int64_t age_ms;
    if (__builtin_sub_overflow(wall_ms, job->enqueued_ms, &age_ms) || age_ms > age_max_ms)
        age_ms = age_max_ms;
    return age_ms > 0 ? age_ms * 1000 : 0;
}

void metrics_job_ended(struct worker_metrics *metrics, const struct job *job,
                       enum metrics_result result, int64_t run_us, int64_t wall_ms)
{
    struct metrics_kind *kind = kind_of(metrics, job);
    kind->ended[result]++;
    if (result != METRICS_RELEASED)
        metric_observe(METRIC_job_seconds, &kind->run, run_us);
    if (result == METRICS_DONE || result == METRICS_SKIPPED)
        metric_observe(METRIC_job_age_seconds, &kind->age, age_us(job, wall_ms));
}

void metrics_retry(struct worker_metrics *metrics, const struct job *job, enum err_class class)
{
    kind_of(metrics, job)->retries[class]++;
}

/* --- the page -------------------------------------------------------------------------------- */

static const char *kind_text(size_t kind)
{
    return kind < JOB_KIND_COUNT ? job_type((enum job_kind)kind)->kind : "unknown";
}

static bool has_run(const struct metrics_kind *kind)
{
    for (size_t i = 0; i < METRICS_RESULT_COUNT; i++)
        if (kind->ended[i] > 0)
            return true;
    return false;
}

static void write_kinds(const struct worker_metrics *metrics, const bool *shown,
                        struct metric_page *page)
{
    for (size_t k = 0; k < METRICS_KINDS; k++)
        for (size_t i = 0; i < METRICS_RESULT_COUNT && shown[k]; i++)
            metric_put(page, METRIC_jobs_total, (int64_t)metrics->kinds[k].ended[i], kind_text(k),
                       result_names[i]);
    for (size_t k = 0; k < METRICS_KINDS; k++)
        if (shown[k])
            metric_put_histogram(page, METRIC_job_seconds, &metrics->kinds[k].run, kind_text(k));
    for (size_t k = 0; k < METRICS_KINDS; k++)
        if (shown[k])
            metric_put_histogram(page, METRIC_job_age_seconds, &metrics->kinds[k].age,
                                 kind_text(k));
    metric_begin(page, METRIC_retries_total);
    for (size_t k = 0; k < METRICS_KINDS; k++)
        for (size_t i = 0; i < METRICS_CLASSES; i++)
            if (metrics->kinds[k].retries[i] > 0)
                metric_put(page, METRIC_retries_total, (int64_t)metrics->kinds[k].retries[i],
                           kind_text(k), err_class_name((enum err_class)i));
    for (size_t i = 0; i < METRICS_CANCEL_COUNT; i++)
        metric_put(page, METRIC_cancelled_total, (int64_t)metrics->cancelled[i], cancel_names[i],
                   NULL);
}

static void put_age(struct metric_page *page, enum metric metric, int64_t since_ms, int64_t now_ms)
{
    metric_begin(page, metric);
    if (since_ms > 0)
        metric_put_ms(page, metric, now_ms - since_ms, NULL);
}

static void put_plain(struct metric_page *page, enum metric metric, uint64_t value)
{
    metric_put(page, metric, (int64_t)value, NULL, NULL);
}

void metrics_write_worker(const struct worker_metrics *metrics, const struct metrics_levels *levels,
                          enum queue_name queue, int64_t now_ms, struct metric_page *page)
{
    bool shown[METRICS_KINDS];
    for (size_t k = 0; k < METRICS_KINDS; k++)
        shown[k] = (k < JOB_KIND_COUNT && job_type((enum job_kind)k)->queue == queue) ||
                   has_run(&metrics->kinds[k]);
    write_kinds(metrics, shown, page);
    put_plain(page, METRIC_slots, levels->slots);
    put_plain(page, METRIC_slots_busy, levels->busy);
    put_plain(page, METRIC_jobs_ready, levels->ready);
    put_plain(page, METRIC_jobs_unsettled, levels->unsettled);
    put_age(page, METRIC_read_age_seconds, metrics->watch.read_ms, now_ms);
    put_age(page, METRIC_beat_age_seconds, metrics->watch.beat_ms, now_ms);
    put_plain(page, METRIC_lease_lost_total, metrics->lease_lost);
    put_plain(page, METRIC_group_recreated_total, metrics->group_recreated);
    put_plain(page, METRIC_reclaimed_total, metrics->reclaimed);
    put_plain(page, METRIC_promoted_total, metrics->promoted);
}
