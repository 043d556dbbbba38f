/* A worker's own figures: counted, poured after COMMIT, forgotten after a rollback, shown. */
#include "base/figures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SEEN, OVERRUN, LOST, TOOK, COUNT };

static const struct figures_series series[COUNT] = {
    [SEEN] = {.metric = METRIC_reclaimed_total},
    [OVERRUN] = {.metric = METRIC_cancelled_total, .label = "overrun"},
    [LOST] = {.metric = METRIC_cancelled_total, .label = "lease_lost"},
    [TOOK] = {.metric = METRIC_schedule_late_seconds},
};
static const struct figures_list list = {series, COUNT};

static void expect_page(const struct figures *figures, const char *const *lines, size_t count)
{
    struct buf out = {0};
    struct metric_page page = {.out = &out};
    figures_write(figures, &page);
    for (size_t i = 0; i < count; i++)
        if (strstr(buf_text(&out), lines[i]) == NULL)
            fail_msg("no %s in\n%s", lines[i], buf_text(&out));
    buf_close(&out);
}

static void test_what_is_poured_adds_up_and_what_is_emptied_is_gone(void **state)
{
    static const char *const zero[] = {
        "whopline_reclaimed_total 0\n",
        "whopline_cancelled_total{reason=\"overrun\"} 0\n",
        "whopline_cancelled_total{reason=\"lease_lost\"} 0\n",
        "whopline_schedule_late_seconds_count 0\n",
    };
    static const char *const sum[] = {
        "# TYPE whopline_cancelled_total counter\n",
        "whopline_reclaimed_total 5\n",
        "whopline_cancelled_total{reason=\"overrun\"} 0\n",
        "whopline_cancelled_total{reason=\"lease_lost\"} 7\n",
        "whopline_schedule_late_seconds_bucket{le=\"1\"} 1\n",
        "whopline_schedule_late_seconds_bucket{le=\"2.5\"} 2\n",
        "whopline_schedule_late_seconds_sum 3.000000\n",
    };
    struct figures all;
    struct figures job;
    (void)state;
    figures_init(&all, &list);
    figures_init(&job, &list);
    expect_page(&all, zero, ARRAY_LEN(zero));
    figures_count(&job, SEEN, 2);
    figures_observe(&job, TOOK, 1000000);
    figures_pour(&job, &all);
    figures_count(&job, SEEN, 90);
    figures_observe(&job, TOOK, 90);
    figures_empty(&job);
    figures_count(&job, SEEN, 3);
    figures_count(&job, LOST, 7);
    figures_count(&job, OVERRUN, 0);
    figures_observe(&job, TOOK, 2000000);
    figures_pour(&job, &all);
    figures_pour(&job, &all);
    expect_page(&all, sum, ARRAY_LEN(sum));
    expect_page(&job, zero, ARRAY_LEN(zero));
    figures_close(&all);
    figures_close(&job);
}

static void test_without_a_list_nothing_is_counted(void **state)
{
    struct figures none;
    struct figures other;
    struct buf out = {0};
    struct metric_page page = {.out = &out};
    (void)state;
    figures_init(&none, NULL);
    figures_init(&other, NULL);
    figures_count(&none, SEEN, 2);
    figures_observe(&none, TOOK, 2);
    figures_pour(&none, &other);
    figures_empty(&none);
    figures_write(&other, &page);
    assert_int_equal(out.len, 0);
    figures_close(&none);
    figures_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_poured_adds_up_and_what_is_emptied_is_gone),
        cmocka_unit_test(test_without_a_list_nothing_is_counted),
    };
    return cmocka_run_group_tests_name("figures", tests, NULL, NULL);
}
