/* Prometheus text: heads, labels and their escapes, times, histograms; and what is declared. */
#include "base/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_a_head_for_each_metric(void **state)
{
    struct buf out = {0};
    struct metric_page page = {.out = &out};
    (void)state;
    metric_put(&page, METRIC_jobs_total, 3, "a", "done");
    metric_put(&page, METRIC_jobs_total, 0, "a", "dead");
    metric_begin(&page, METRIC_parked);
    metric_put(&page, METRIC_slots, 8, NULL, NULL);
    const char *text = buf_text(&out);
    assert_non_null(strstr(text, "# TYPE whopline_jobs_total counter\n"
                                 "whopline_jobs_total{type=\"a\",result=\"done\"} 3\n"
                                 "whopline_jobs_total{type=\"a\",result=\"dead\"} 0\n"
                                 "# HELP whopline_parked "));
    assert_non_null(strstr(text, "# TYPE whopline_parked gauge\n# HELP whopline_slots "));
    assert_non_null(strstr(text, "# TYPE whopline_slots gauge\nwhopline_slots 8\n"));
    buf_close(&out);
}

static void test_label_values_are_escaped(void **state)
{
    struct buf out = {0};
    struct metric_page page = {.out = &out};
    (void)state;
    metric_put(&page, METRIC_retries_total, 1, "a\"b\\c\nd}", "");
    assert_non_null(strstr(buf_text(&out),
                           "\nwhopline_retries_total{type=\"a\\\"b\\\\c\\nd}\",class=\"\"} 1\n"));
    buf_close(&out);
}

static void test_times_are_seconds(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, " 0.000\n"},
                 {7, " 0.007\n"},
                 {61234, " 61.234\n"},
                 {-1, " 0.000\n"},
                 {86400000000, " 86400000.000\n"}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        struct metric_page page = {.out = &out};
        metric_put_ms(&page, METRIC_sweep_age_seconds, cases[i].ms, NULL);
        if (strstr(buf_text(&out), cases[i].text) == NULL)
            fail_msg("%s", buf_text(&out));
        buf_close(&out);
    }
}

static void test_histogram(void **state)
{
    static const int64_t times_us[] = {0,       1000,       1001,       2500, 999999,
                                       1000000, 3600000000, 3600000001, -5};
    static const char *const expected[] = {
        "whopline_job_seconds_bucket{type=\"k\",le=\"0.001\"} 3\n",
        "whopline_job_seconds_bucket{type=\"k\",le=\"0.0025\"} 5\n",
        "whopline_job_seconds_bucket{type=\"k\",le=\"0.5\"} 5\n",
        "whopline_job_seconds_bucket{type=\"k\",le=\"1\"} 7\n",
        "whopline_job_seconds_bucket{type=\"k\",le=\"3600\"} 8\n",
        "whopline_job_seconds_bucket{type=\"k\",le=\"+Inf\"} 9\n",
        "whopline_job_seconds_sum{type=\"k\"} 7202.004501\n",
        "whopline_job_seconds_count{type=\"k\"} 9\n",
    };
    struct metric_histogram histogram = {0};
    struct buf out = {0};
    struct metric_page page = {.out = &out};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times_us); i++)
        metric_observe(METRIC_job_seconds, &histogram, times_us[i]);
    metric_put_histogram(&page, METRIC_job_seconds, &histogram, "k");
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        if (strstr(buf_text(&out), expected[i]) == NULL)
            fail_msg("no %s in\n%s", expected[i], buf_text(&out));
    buf_close(&out);
}

static void test_lateness_is_counted_in_longer_times(void **state)
{
    static const int64_t times_us[] = {-1, 500000, 500001, 7200000000, 86400000000, 86400000001};
    static const char *const expected[] = {
        "whopline_credit_latency_seconds_bucket{le=\"0.5\"} 2\n",
        "whopline_credit_latency_seconds_bucket{le=\"1\"} 3\n",
        "whopline_credit_latency_seconds_bucket{le=\"3600\"} 3\n",
        "whopline_credit_latency_seconds_bucket{le=\"7200\"} 4\n",
        "whopline_credit_latency_seconds_bucket{le=\"86400\"} 5\n",
        "whopline_credit_latency_seconds_bucket{le=\"+Inf\"} 6\n",
        "whopline_credit_latency_seconds_sum 180001.000002\n",
    };
    struct metric_histogram histogram = {0};
    struct buf out = {0};
    struct metric_page page = {.out = &out};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times_us); i++)
        metric_observe(METRIC_credit_latency_seconds, &histogram, times_us[i]);
    metric_put_histogram(&page, METRIC_credit_latency_seconds, &histogram, NULL);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        if (strstr(buf_text(&out), expected[i]) == NULL)
            fail_msg("no %s in\n%s", expected[i], buf_text(&out));
    buf_close(&out);
}

/* Help texts and label names stand in a line, and in a table's row, as they are. */
static void test_declarations(void **state)
{
    static const struct {
        const char *name;
        const char *labels;
        const char *help;
        bool counter;
    } all[] = {
#define GROUP(title, where)
#define COUNTER(name, labels, help)   {#name, labels, help, true},
#define GAUGE(name, labels, help)     {#name, labels, help, false},
#define HISTOGRAM(name, labels, help) {#name, labels, help, false},
#define LATENESS(name, labels, help)  {#name, labels, help, false},
#include "metrics.def"
#undef GROUP
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef LATENESS
    };
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        size_t len = strlen(all[i].name);
        bool total = len > 6 && strcmp(all[i].name + len - 6, "_total") == 0;
        if (all[i].name[strspn(all[i].name, letters)] != '\0' || all[i].counter != total)
            fail_msg("%s: is no name of its type", all[i].name);
        if (strpbrk(all[i].help, "\n\\|") != NULL || text_is_empty(all[i].help))
            fail_msg("%s: its help does not fit a line", all[i].name);
        const char *labels = all[i].labels;
        size_t commas = 0;
        for (const char *c = labels; *c != '\0'; c++)
            commas += *c == ',' ? 1 : 0;
        if (commas > 1 || strstr(labels, "tenant") != NULL || strstr(labels, "user") != NULL ||
            labels[strspn(labels, "abcdefghijklmnopqrstuvwxyz,")] != '\0')
            fail_msg("%s: labels", all[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_head_for_each_metric),
        cmocka_unit_test(test_label_values_are_escaped),
        cmocka_unit_test(test_times_are_seconds),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_lateness_is_counted_in_longer_times),
        cmocka_unit_test(test_declarations),
    };
    return cmocka_run_group_tests_name("metric", tests, NULL, NULL);
}
