/* Covers runtime/report_limit: groups, the number a minute, silence asked for, and that whatever is
 * not sent is counted in something that is. Time is an argument. */
#include "runtime/report_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

enum { REPEAT_MS = 10000 };

static struct report_limit limit;

static int start(size_t max_per_minute)
{
    report_limit_init(&limit, max_per_minute, REPEAT_MS);
    return 0;
}

static void add(const char *kind, const char *error, int64_t now_ms)
{
    struct report report = {.what = REPORT_DEAD_JOB};
    snprintf(report.kind, sizeof report.kind, "%s", kind);
    snprintf(report.error, sizeof report.error, "%s", error);
    report_limit_add(&limit, &report, now_ms);
}

/* The kind that goes out now, with left_out and dropped: "a 0 0"; "" if none does. */
static const char *next(int64_t now_ms, bool at_end)
{
    static char text[128];
    struct report report;
    int64_t left_out;
    if (!report_limit_next(&limit, now_ms, at_end, &report, &left_out))
        return "";
    snprintf(text, sizeof text, "%s %d %d", report.kind, (int)left_out, (int)report.dropped);
    return text;
}

static void test_groups(void **state)
{
    (void)state;
    start(30);
    assert_int_equal(report_limit_wait(&limit, 100), -1);
    assert_string_equal(next(100, false), "");
    add("a", "X", 100);
    assert_int_equal(report_limit_wait(&limit, 100), 0);
    assert_string_equal(next(100, false), "a 0 0");
    assert_int_equal(report_limit_wait(&limit, 100), -1);
    for (int i = 0; i < 5; i++)
        add("a", "X", 200);
    add("a", "Y", 200); /* another error is another group, another kind too */
    add("b", "X", 201);
    assert_string_equal(next(300, false), "a 0 0");
    assert_string_equal(next(300, false), "b 0 0");
    assert_string_equal(next(300, false), "");
    assert_int_equal(report_limit_wait(&limit, 300), 100 + REPEAT_MS - 300);
    assert_string_equal(next(100 + REPEAT_MS - 1, false), "");
    assert_string_equal(next(100 + REPEAT_MS, false), "a 4 0");
    assert_int_equal(report_limit_wait(&limit, 100 + REPEAT_MS), -1);
}

static void test_minute(void **state)
{
    char kind[8];
    (void)state;
    start(3);
    for (int i = 0; i < 5; i++) {
        snprintf(kind, sizeof kind, "k%d", i);
        add(kind, "X", 1000 + i);
    }
    assert_string_equal(next(2000, false), "k0 0 0");
    assert_string_equal(next(2500, false), "k1 0 0");
    assert_string_equal(next(3000, false), "k2 0 0");
    assert_string_equal(next(3000, false), "");
    assert_string_equal(next(3000, true), ""); /* the end is no excuse */
    assert_int_equal(report_limit_wait(&limit, 3000), 59000);
    assert_string_equal(next(61999, false), "");
    assert_string_equal(next(62000, false), "k3 0 0");
    assert_string_equal(next(62000, false), "");
    assert_string_equal(next(62500, false), "k4 0 0");
}

static void test_end(void **state)
{
    (void)state;
    start(30);
    add("a", "X", 0);
    assert_string_equal(next(0, false), "a 0 0");
    add("a", "X", 1);
    add("a", "X", 2);
    assert_string_equal(next(3, false), "");
    assert_string_equal(next(3, true), "a 1 0");
    assert_string_equal(next(3, true), "");
}

static void test_hold(void **state)
{
    (void)state;
    start(30);
    add("a", "X", 0);
    report_limit_hold(&limit, 5000);
    assert_string_equal(next(4999, true), "");
    assert_int_equal(report_limit_wait(&limit, 1000), 4000);
    assert_string_equal(next(5000, false), "a 0 0");
}

static void test_failed(void **state)
{
    struct report report;
    int64_t left_out;
    (void)state;
    start(30);
    add("a", "X", 0);
    add("a", "X", 0);
    assert_true(report_limit_next(&limit, 0, false, &report, &left_out));
    report.dropped = 7;
    report_limit_failed(&limit, &report, left_out);
    assert_int_equal(report_limit_unsent(&limit), 9);
    /* Not sent again by itself; the next one counts both. */
    assert_int_equal(report_limit_wait(&limit, REPEAT_MS), -1);
    add("a", "X", REPEAT_MS);
    assert_int_equal(report_limit_unsent(&limit), 10);
    assert_string_equal(next(REPEAT_MS, false), "a 2 7");
    assert_int_equal(report_limit_unsent(&limit), 0);
}

static void test_more_groups_than_places(void **state)
{
    char kind[8];
    (void)state;
    start(600);
    for (int i = 0; i < REPORT_GROUPS_MAX + 6; i++) {
        snprintf(kind, sizeof kind, "k%d", i);
        add(kind, "X", 0);
    }
    assert_string_equal(next(0, false), "k0 0 6");
    for (int i = 1; i < REPORT_GROUPS_MAX; i++)
        assert_string_not_equal(next(0, false), "");
    assert_string_equal(next(0, false), "");
    /* Places are free again when their time is over. */
    add("new", "X", REPEAT_MS);
    assert_string_equal(next(REPEAT_MS, false), "new 0 0");
}

/* What a forgotten group had failed to send is not forgotten. */
static void test_forgotten_group(void **state)
{
    struct report report;
    int64_t left_out;
    (void)state;
    start(600);
    add("a", "X", 0);
    assert_true(report_limit_next(&limit, 0, false, &report, &left_out));
    report_limit_failed(&limit, &report, left_out);
    add("b", "X", REPEAT_MS); /* takes its place */
    assert_string_equal(next(REPEAT_MS, false), "b 0 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_minute),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_more_groups_than_places),
        cmocka_unit_test(test_forgotten_group),
    };
    return cmocka_run_group_tests_name("report_limit", tests, NULL, NULL);
}
