/* Covers codec/cron: what is read and what is refused, by which field; the next minute, against a
 * search minute by minute; the window around a moment. */
#include "codec/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static int64_t minute_of(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%d %H:%M", &tm);
    assert_true(end != NULL && *end == '\0');
    return timegm(&tm) / 60;
}

static struct cron parsed(const char *text)
{
    struct cron cron;
    struct err err = cron_parse(text, &cron);
    if (err_failed(&err))
        fail_msg("\"%s\": %s", text, err_text(&err));
    return cron;
}

static void test_next(void **state)
{
    (void)state;
    static const struct {
        const char *cron;
        const char *after;
        const char *next;
    } cases[] = {
        {"* * * * *", "2026-11-21 17:00", "2026-11-21 17:01"},
        {"*/15 * * * *", "2026-11-21 17:45", "2026-11-21 18:00"},
        {"5-59/15 * * * *", "2026-11-21 17:50", "2026-11-21 18:05"},
        {"0 3 * * *", "2026-11-21 03:00", "2026-11-22 03:00"},
        {"0 3 * * *", "2026-12-31 03:00", "2027-01-01 03:00"},
        {"30 2 29 2 *", "2026-01-01 00:00", "2028-02-29 02:30"},
        {"0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"},
        {"0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00"},
        {"0 9 * * mon-fri", "2026-11-20 09:00", "2026-11-23 09:00"},
        {"0 9 * * MON,Wed", "2026-11-23 09:00", "2026-11-25 09:00"},
        {"0 9 * * sat-sun", "2026-11-21 09:00", "2026-11-22 09:00"},
        {"0 9 * * 0", "2026-11-21 09:00", "2026-11-22 09:00"},
        {"0 9 * * 7", "2026-11-21 09:00", "2026-11-22 09:00"},
        {"0 9 * * 5-7", "2026-11-21 09:00", "2026-11-22 09:00"},
        {"0 9 * jan,jul *", "2026-11-21 09:00", "2027-01-01 09:00"},
        /* the 13th or a Friday, as neither begins with * */
        {"0 0 13 * 5", "2026-11-13 00:00", "2026-11-20 00:00"},
        {"0 0 13 * 5", "2026-12-11 00:00", "2026-12-13 00:00"},
        /* a Friday on an odd day: one that begins with * is no day of its own */
        {"0 0 */2 * 5", "2026-11-20 00:00", "2026-11-27 00:00"},
        {"0 0 13 * *", "2026-11-13 00:00", "2026-12-13 00:00"},
        {"@hourly", "2026-11-21 17:00", "2026-11-21 18:00"},
        {"@daily", "2026-11-21 17:00", "2026-11-22 00:00"},
        {"@midnight", "2026-11-21 17:00", "2026-11-22 00:00"},
        {"@weekly", "2026-11-21 17:00", "2026-11-22 00:00"},
        {"@monthly", "2026-11-21 17:00", "2026-12-01 00:00"},
        {"@Yearly", "2026-11-21 17:00", "2027-01-01 00:00"},
        {"@annually", "2026-11-21 17:00", "2027-01-01 00:00"},
        {"  0\t3  *  * * ", "2026-11-21 17:00", "2026-11-22 03:00"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cron cron = parsed(cases[i].cron);
        int64_t next = 0;
        assert_true(cron_next(&cron, minute_of(cases[i].after), &next));
        if (next != minute_of(cases[i].next))
            fail_msg("\"%s\" after %s: %lld minutes off", cases[i].cron, cases[i].after,
                     (long long)(next - minute_of(cases[i].next)));
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *cron;
        const char *named;
    } cases[] = {
        {"", "five fields"},
        {"* * * *", "fewer"},
        {"* * * * * *", "more"},
        {"60 * * * *", "minute: goes from 0 to 59"},
        {"-1 * * * *", "minute"},
        {"99999999999999999999 * * * *", "minute"},
        {"* 24 * * *", "hour: goes from 0 to 23"},
        {"* * 0 * *", "day of month: goes from 1 to 31"},
        {"* * 32 * *", "day of month"},
        {"* * * 13 *", "month: goes from 1 to 12"},
        {"* * * foo *", "month: expected"},
        {"* * * * 8", "day of week: goes from 0 to 7"},
        {"* * * * moon", "day of week: expected"},
        {"* * * * monday", "day of week: not understood"},
        {"* * * mon *", "month"},
        {"*/0 * * * *", "minute: the step"},
        {"*/60 * * * *", "minute: the step"},
        {"*/x * * * *", "minute: the step"},
        {"5/10 * * * *", "minute: a step needs a range"},
        {"10-5 * * * *", "minute: the range ends before"},
        {"5- * * * *", "minute: the range has no end"},
        {"1,,2 * * * *", "minute: something is missing"},
        {"1, * * * *", "minute: something is missing"},
        {"1.5 * * * *", "minute: not understood"},
        {"*5 * * * *", "minute: not understood"},
        {"0 0 30 2 *", "no such day ever comes"},
        {"0 0 31 4,6,9,11 *", "no such day ever comes"},
        {"@reboot", "there is no \"@reboot\""},
        {"@hourly *", "fewer"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cron cron;
        struct err err = cron_parse(cases[i].cron, &cron);
        if (err.code != ERR_USAGE || strstr(err_text(&err), cases[i].named) == NULL)
            fail_msg("\"%s\": %s", cases[i].cron, err_failed(&err) ? err_text(&err) : "accepted");
    }
}

/* By the C library's calendar, and Vixie's rule in other words. */
static bool matches(const struct cron *cron, int64_t minute)
{
    time_t time = (time_t)(minute * 60);
    struct tm tm;
    gmtime_r(&time, &tm);
    bool day = (cron->days >> tm.tm_mday & 1) != 0;
    bool weekday = (cron->weekdays >> tm.tm_wday & 1) != 0;
    bool that_day = cron->either_day ? day || weekday : day && weekday;
    return that_day && (cron->minutes >> tm.tm_min & 1) != 0 &&
           (cron->hours >> tm.tm_hour & 1) != 0 && (cron->months >> (tm.tm_mon + 1) & 1) != 0;
}

static void test_minute_by_minute(void **state)
{
    (void)state;
    static const char *const texts[] = {"* * * * *",       "7,9 */5 * * *",   "0 0 13 * 5",
                                        "59 23 28-31 * *", "0 12 1 3,10 sun", "*/7 1-3 */2 2 1-5"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct cron cron = parsed(texts[i]);
        int64_t end = minute_of("2029-01-01 00:00");
        int64_t next = minute_of("2027-12-31 23:59");
        int64_t wanted = next + 1;
        for (int64_t minute = wanted; minute < end; minute++) {
            if (!matches(&cron, minute))
                continue;
            assert_true(cron_next(&cron, next, &next));
            assert_int_equal(next, minute);
        }
    }
}

static void test_bounds(void **state)
{
    (void)state;
    struct cron cron = parsed("* * * * *");
    int64_t next = 0;
    assert_true(cron_next(&cron, INT64_MIN, &next));
    assert_int_equal(next, 0);
    assert_true(cron_next(&cron, minute_of("9999-12-31 23:58"), &next));
    assert_false(cron_next(&cron, next, &next));
    assert_false(cron_next(&cron, INT64_MAX, &next));
    cron = parsed("0 * * * *");
    assert_true(cron_is_hourly(&cron));
    cron = parsed("5 0-23 * * *");
    assert_true(cron_is_hourly(&cron));
    cron = parsed("0 */2 * * *");
    assert_false(cron_is_hourly(&cron));
}

/* All matches from three hours before to three after, and the first beyond with what follows it
 * within three hours. */
static void test_window(void **state)
{
    (void)state;
    static const struct {
        const char *cron;
        size_t count;
        const char *first;
        const char *last;
    } cases[] = {
        {"* * * * *", 542, "2026-11-21 14:00", "2026-11-21 23:01"},
        {"0 * * * *", 11, "2026-11-21 14:00", "2026-11-22 00:00"},
        {"0 3 * * *", 1, "2026-11-22 03:00", "2026-11-22 03:00"},
        {"0 15,3,5 * * *", 3, "2026-11-21 15:00", "2026-11-22 05:00"},
    };
    int64_t window[CRON_WINDOW_MAX];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cron cron = parsed(cases[i].cron);
        size_t count = cron_window(&cron, minute_of("2026-11-21 17:00"), window);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(window[0], minute_of(cases[i].first));
        assert_int_equal(window[count - 1], minute_of(cases[i].last));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_minute_by_minute),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
