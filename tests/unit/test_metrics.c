/* What a worker counts, read back from its page. */
#include "runtime/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define KIND "credits.payment_succeeded"

static struct worker_metrics metrics;
static const struct metrics_levels levels = {.slots = 8, .busy = 3, .ready = 5, .unsettled = 2};

static const struct job job = {
    .kind_known = true, .known = JOB_credits_payment_succeeded, .enqueued_ms = 1000000};

static int begin(void **state)
{
    (void)state;
    memset(&metrics, 0, sizeof metrics);
    health_start(&metrics.watch, 1000);
    return 0;
}

static void expect(const char *line, bool there)
{
    struct buf out = {0};
    struct buf wanted = {0};
    struct metric_page page = {.out = &out};
    buf_printf(&wanted, "\n%s\n", line);
    metrics_write_worker(&metrics, &levels, QUEUE_credits, 20000, &page);
    if ((strstr(buf_text(&out), buf_text(&wanted)) != NULL) != there)
        fail_msg("%s %s in\n%s", there ? "no" : "unwanted", line, buf_text(&out));
    buf_close(&out);
    buf_close(&wanted);
}

static void test_kinds_of_the_queue_begin_at_zero(void **state)
{
    (void)state;
    expect("whopline_jobs_total{type=\"" KIND "\",result=\"done\"} 0", true);
    expect("whopline_jobs_total{type=\"" KIND "\",result=\"dead\"} 0", true);
    expect("whopline_job_seconds_count{type=\"" KIND "\"} 0", true);
    expect("whopline_jobs_total{type=\"journal.event\",result=\"done\"} 0", false);
    expect("whopline_jobs_total{type=\"unknown\",result=\"dead\"} 0", false);
    expect("# TYPE whopline_retries_total counter", true);
}

static void test_results(void **state)
{
    static const char *const names[METRICS_RESULT_COUNT] = {"done",   "skipped", "retried",
                                                            "parked", "dead",    "released"};
    (void)state;
    for (int result = 0; result < METRICS_RESULT_COUNT; result++) {
        for (int i = 0; i <= result; i++)
            metrics_job_ended(&metrics, &job, (enum metrics_result)result, 1500, 1002000);
        struct buf text = {0};
        buf_printf(&text, "whopline_jobs_total{type=\"" KIND "\",result=\"%s\"} %d", names[result],
                   result + 1);
        expect(buf_text(&text), true);
        buf_close(&text);
    }
    /* 1 done, 2 skipped: an age. All but the 6 that were released: a run. */
    expect("whopline_job_age_seconds_count{type=\"" KIND "\"} 3", true);
    expect("whopline_job_age_seconds_sum{type=\"" KIND "\"} 6.000000", true);
    expect("whopline_job_seconds_count{type=\"" KIND "\"} 15", true);
    expect("whopline_job_seconds_bucket{type=\"" KIND "\",le=\"0.001\"} 0", true);
    expect("whopline_job_seconds_bucket{type=\"" KIND "\",le=\"0.0025\"} 15", true);
}

static void test_odd_jobs(void **state)
{
    (void)state;
    struct job odd = {.kind = "no.such", .enqueued_ms = 0};
    metrics_job_ended(&metrics, &odd, METRICS_DEAD, 0, 1700000000000);
    metrics_job_ended(&metrics, &odd, METRICS_DONE, -1, 1700000000000); /* since 1970 */
    odd.enqueued_ms = INT64_MIN;
    metrics_job_ended(&metrics, &odd, METRICS_DONE, 0, 1700000000000);
    odd.enqueued_ms = 1700000000001; /* from tomorrow */
    metrics_job_ended(&metrics, &odd, METRICS_DONE, 0, 1700000000000);
    odd.enqueued_ms = INT64_MAX;
    metrics_job_ended(&metrics, &odd, METRICS_DONE, 0, INT64_MIN);
    expect("whopline_jobs_total{type=\"unknown\",result=\"dead\"} 1", true);
    expect("whopline_jobs_total{type=\"unknown\",result=\"done\"} 4", true);
    expect("whopline_job_age_seconds_sum{type=\"unknown\"} 94867200.000000", true);
    /* Of another queue: told when it has come. */
    odd = (struct job){.kind_known = true, .known = JOB_journal_event};
    metrics_job_ended(&metrics, &odd, METRICS_DONE, 0, 0);
    expect("whopline_jobs_total{type=\"journal.event\",result=\"done\"} 1", true);
}

static void test_the_rest(void **state)
{
    (void)state;
    metrics_retry(&metrics, &job, ERR_CLASS_UNAVAILABLE);
    metrics_retry(&metrics, &job, ERR_CLASS_UNAVAILABLE);
    const struct job odd = {.kind = "no.such"};
    metrics_retry(&metrics, &odd, ERR_CLASS_TRANSIENT);
    metrics_cancelled(&metrics, METRICS_CANCEL_OVERRUN);
    metrics_lease_lost(&metrics);
    metrics_group_recreated(&metrics);
    metrics_reclaimed(&metrics);
    metrics_promoted(&metrics, 41);
    expect("whopline_retries_total{type=\"" KIND "\",class=\"unavailable\"} 2", true);
    expect("whopline_retries_total{type=\"unknown\",class=\"transient\"} 1", true);
    expect("whopline_cancelled_total{reason=\"overrun\"} 1", true);
    expect("whopline_cancelled_total{reason=\"lease_lost\"} 0", true);
    expect("whopline_lease_lost_total 1", true);
    expect("whopline_group_recreated_total 1", true);
    expect("whopline_reclaimed_total 1", true);
    expect("whopline_promoted_total 41", true);
    expect("whopline_slots 8", true);
    expect("whopline_slots_busy 3", true);
    expect("whopline_jobs_ready 5", true);
    expect("whopline_jobs_unsettled 2", true);
}

static void test_ages_are_there_once_there_was_one(void **state)
{
    (void)state;
    expect("# TYPE whopline_read_age_seconds gauge\n# HELP whopline_beat_age_seconds Since leases "
           "were last prolonged with success. Absent before the first time; without jobs there is "
           "nothing to prolong.",
           true);
    metrics_read(&metrics, 12500);
    metrics_beat(&metrics, 12600);
    expect("whopline_read_age_seconds 7.500", true);
    expect("whopline_beat_age_seconds 7.400", true);
    assert_true(health_of_worker(&metrics.watch, 2000, 10000, 18500).healthy);
    assert_false(health_of_worker(&metrics.watch, 2000, 10000, 26000).healthy);
    metrics_intake(&metrics, HEALTH_HELD, 18000);
    assert_true(health_of_worker(&metrics.watch, 2000, 10000, 99000).healthy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kinds_of_the_queue_begin_at_zero, begin),
        cmocka_unit_test_setup(test_results, begin),
        cmocka_unit_test_setup(test_odd_jobs, begin),
        cmocka_unit_test_setup(test_the_rest, begin),
        cmocka_unit_test_setup(test_ages_are_there_once_there_was_one, begin),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
