/* What becomes of a job after each class of error, and how long it waits. */
#include "runtime/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { HOUR_MS = 3600000 };

static const struct verdict_limits limits = {.max_attempts = 3,
                                             .max_age_ms = 72LL * HOUR_MS,
                                             .backoff_base_ms = 1000,
                                             .backoff_max_ms = 300000};

static struct verdict decide(enum err_code code, int attempt, int64_t age_ms, uint32_t chance)
{
    struct err err = err_make(code, "why");
    return verdict_decide(&err, attempt, age_ms, &limits, chance);
}

static void test_classes(void **state)
{
    static const struct {
        enum err_code code;
        enum verdict_action action;
        int attempt; /* afterwards, from 0 */
        const char *reason;
    } cases[] = {
        {ERR_OK, VERDICT_DONE, 0, ""},           {ERR_ALREADY_DONE, VERDICT_SKIP, 0, "why"},
        {ERR_MALFORMED, VERDICT_DEAD, 0, "why"}, {ERR_UNKNOWN_KIND, VERDICT_DEAD, 0, "why"},
        {ERR_POISON, VERDICT_DEAD, 0, "why"},    {ERR_EXPIRED, VERDICT_PARK, 0, "why"},
        {ERR_SYSTEM, VERDICT_RETRY, 1, ""},      {ERR_PG_FAILED, VERDICT_RETRY, 1, ""},
        {ERR_PG_DOWN, VERDICT_RETRY, 0, ""},     {ERR_PG_CONFLICT, VERDICT_RETRY, 0, ""},
        {ERR_REDIS_DOWN, VERDICT_RETRY, 0, ""},  {ERR_PG_DATA, VERDICT_DEAD, 0, "why"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct verdict verdict = decide(cases[i].code, 0, 0, 0);
        if (verdict.action != cases[i].action || verdict.attempt != cases[i].attempt)
            fail_msg("%s: action %d, attempt %d", err_name(cases[i].code), (int)verdict.action,
                     verdict.attempt);
        assert_string_equal(verdict.reason, cases[i].reason);
    }
}

static void test_counted_failures_end(void **state)
{
    (void)state;
    assert_int_equal(decide(ERR_PG_FAILED, 1, 0, 0).action, VERDICT_RETRY);
    struct verdict last = decide(ERR_PG_FAILED, 2, 0, 0);
    assert_int_equal(last.action, VERDICT_DEAD);
    assert_int_equal(last.attempt, 3);
    assert_string_equal(last.reason, "exhausted: why");
    /* However old and often: a store that is away is not the job's fault. */
    struct verdict away = decide(ERR_PG_DOWN, 2, 1000LL * HOUR_MS, 0);
    assert_int_equal(away.action, VERDICT_RETRY);
    assert_int_equal(away.attempt, 2);
}

static void test_age_parks(void **state)
{
    (void)state;
    assert_int_equal(decide(ERR_PG_FAILED, 0, 72LL * HOUR_MS, 0).action, VERDICT_RETRY);
    struct verdict old = decide(ERR_PG_FAILED, 0, 72LL * HOUR_MS + 1, 0);
    assert_int_equal(old.action, VERDICT_PARK);
    assert_string_equal(old.reason, "expired: why");
}

static void test_backoff(void **state)
{
    static const struct verdict_limits patient = {.max_attempts = 100,
                                                  .max_age_ms = HOUR_MS,
                                                  .backoff_base_ms = 1000,
                                                  .backoff_max_ms = 300000};
    (void)state;
    struct err err = err_make(ERR_SYSTEM, "why");
    for (int attempt = 0; attempt < 64; attempt++) {
        int64_t full = attempt < 9 ? 1000LL << attempt : 300000;
        if (full > 300000)
            full = 300000;
        assert_int_equal(verdict_decide(&err, attempt, 0, &patient, 0).delay_ms, full / 2);
        assert_int_equal(verdict_decide(&err, attempt, 0, &patient, 65535).delay_ms, full);
    }
    /* Not counted: the first step each time. */
    assert_int_equal(decide(ERR_PG_DOWN, 2, 0, 65535).delay_ms, 1000);
}

/* However the reason is cut, what is left is whole characters. */
static void test_reason_is_cut_between_characters(void **state)
{
    static const char *const parts[] = {"x", "é", "€", "😀"};
    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
        for (size_t shift = 0; shift < 4; shift++) {
            struct err err = {.code = ERR_MALFORMED};
            for (size_t i = 0; i < shift; i++)
                err.text[i] = 'a';
            while (strlen(err.text) + strlen(parts[p]) < sizeof err.text)
                memcpy(err.text + strlen(err.text), parts[p], strlen(parts[p]));
            struct verdict verdict = verdict_decide(&err, 0, 0, &limits, 0);
            size_t len = strlen(verdict.reason);
            assert_true(len < sizeof verdict.reason && len + 6 > sizeof verdict.reason);
            assert_int_equal((len - shift) % strlen(parts[p]), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_counted_failures_end),
        cmocka_unit_test(test_age_parks),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_reason_is_cut_between_characters),
    };
    return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
