/* What follows for a call to the outside: state × policy × outcome, as tables. */
#include "service/outbound_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < OUTBOUND_STATE_COUNT; i++) {
        enum outbound_state found;
        assert_true(outbound_state_find(outbound_state_name((enum outbound_state)i), &found));
        assert_int_equal(found, i);
    }
    enum outbound_state untouched = OUTBOUND_DONE;
    assert_false(outbound_state_find("sent", &untouched));
    assert_string_equal(outbound_policy_name(OUTBOUND_VERIFY), "verify");
}

static void test_what_comes_first(void **state)
{
    static const struct {
        struct outbound_view view;
        enum outbound_step step;
    } cases[] = {
        {{.state = OUTBOUND_PENDING}, OUTBOUND_STEP_SEND},
        {{.state = OUTBOUND_PENDING, .parked = true}, OUTBOUND_STEP_SEND},
        {{.state = OUTBOUND_PENDING, .policy = OUTBOUND_PARK}, OUTBOUND_STEP_SEND},
        {{.state = OUTBOUND_DONE}, OUTBOUND_STEP_ANSWER},
        {{.state = OUTBOUND_REFUSED, .policy = OUTBOUND_VERIFY}, OUTBOUND_STEP_REFUSAL},
        {{.state = OUTBOUND_SENDING, .answer_ms = 1}, OUTBOUND_STEP_BUSY},
        {{.state = OUTBOUND_SENDING, .answer_ms = 0}, OUTBOUND_STEP_LOST},
        {{.state = OUTBOUND_SENDING, .answer_ms = -5000, .policy = OUTBOUND_PARK},
         OUTBOUND_STEP_LOST},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_RESEND}, OUTBOUND_STEP_SEND},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_RESEND, .look_ms = 900},
         OUTBOUND_STEP_SEND},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_VERIFY}, OUTBOUND_STEP_LOOK},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_VERIFY, .look_ms = 1}, OUTBOUND_STEP_LATER},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_PARK}, OUTBOUND_STEP_PARK},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_RESEND, .parked = true},
         OUTBOUND_STEP_PARKED},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_VERIFY, .parked = true},
         OUTBOUND_STEP_PARKED},
        {{.state = OUTBOUND_UNKNOWN, .policy = OUTBOUND_PARK, .parked = true},
         OUTBOUND_STEP_PARKED},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (outbound_next(&cases[i].view, 0) != cases[i].step)
            fail_msg("case %zu: step %d", i, (int)outbound_next(&cases[i].view, 0));
}

/* A resend is harmless only as long as the receiver knows its key. */
static void test_old_keys(void **state)
{
    enum { KEY_MS = 1000 };
    static const struct {
        struct outbound_view view;
        enum outbound_step step;
    } cases[] = {
        {{.policy = OUTBOUND_RESEND, .sent_ago_ms = KEY_MS}, OUTBOUND_STEP_SEND},
        {{.policy = OUTBOUND_RESEND, .sent_ago_ms = KEY_MS + 1}, OUTBOUND_STEP_PARK},
        {{.policy = OUTBOUND_RESEND, .sent_ago_ms = KEY_MS + 1, .can_look = true},
         OUTBOUND_STEP_LOOK},
        {{.policy = OUTBOUND_RESEND, .sent_ago_ms = KEY_MS + 1, .can_look = true, .look_ms = 1},
         OUTBOUND_STEP_LATER},
        {{.policy = OUTBOUND_VERIFY, .sent_ago_ms = KEY_MS + 1, .can_look = true},
         OUTBOUND_STEP_LOOK},
        {{.policy = OUTBOUND_PARK, .sent_ago_ms = KEY_MS + 1}, OUTBOUND_STEP_PARK},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct outbound_view view = cases[i].view;
        view.state = OUTBOUND_UNKNOWN;
        if (outbound_next(&view, KEY_MS) != cases[i].step)
            fail_msg("case %zu: step %d", i, (int)outbound_next(&view, KEY_MS));
        view.state = OUTBOUND_PENDING; /* nothing can have happened with it */
        assert_int_equal(outbound_next(&view, KEY_MS), OUTBOUND_STEP_SEND);
    }
}

/* No wait is longer than the settings allow: then the clock has been put back meanwhile. */
static void test_a_clock_put_back(void **state)
{
    enum { LONGEST_MS = 21 * 60000 };
    struct outbound_view view = {.state = OUTBOUND_SENDING, .answer_ms = LONGEST_MS};
    (void)state;
    assert_int_equal(outbound_next(&view, 0), OUTBOUND_STEP_BUSY);
    view.answer_ms++;
    assert_int_equal(outbound_next(&view, 0), OUTBOUND_STEP_RETIME);
    view.state = OUTBOUND_UNKNOWN;
    assert_int_equal(outbound_next(&view, 0), OUTBOUND_STEP_RETIME);
    view.answer_ms = 0;
    view.look_ms = LONGEST_MS + 1;
    assert_int_equal(outbound_next(&view, 0), OUTBOUND_STEP_RETIME);
    view.state = OUTBOUND_DONE;
    assert_int_equal(outbound_next(&view, 0), OUTBOUND_STEP_ANSWER);
}

static void test_after_a_look(void **state)
{
    enum { LOOKS_MAX = 3 };
    static const struct {
        enum outbound_finding finding;
        int64_t answer_ms;
        int resends;
        int verifications;
        int status;
        enum outbound_step step;
    } cases[] = {
        {OUTBOUND_FOUND, 900, 0, 0, 0, OUTBOUND_STEP_ANSWER},
        {OUTBOUND_FOUND, -9000, 1, 9, 409, OUTBOUND_STEP_ANSWER},
        {OUTBOUND_CANNOT_TELL, 900, 0, 0, 0, OUTBOUND_STEP_PARK},
        {OUTBOUND_CANNOT_TELL, -9000, 1, 0, 0, OUTBOUND_STEP_PARK},
        /* Not found: it may yet show; then once more; then a few looks; then a person. */
        {OUTBOUND_NOT_FOUND, 1, 0, 0, 0, OUTBOUND_STEP_LATER},
        {OUTBOUND_NOT_FOUND, 0, 0, 0, 0, OUTBOUND_STEP_SEND},
        {OUTBOUND_NOT_FOUND, 1, 1, 2, 0, OUTBOUND_STEP_LATER},
        {OUTBOUND_NOT_FOUND, 0, 1, 0, 0, OUTBOUND_STEP_LATER},
        {OUTBOUND_NOT_FOUND, 0, 1, 1, 0, OUTBOUND_STEP_LATER},
        {OUTBOUND_NOT_FOUND, 0, 1, 2, 0, OUTBOUND_STEP_PARK},
        /* A conflict is never sent again. */
        {OUTBOUND_NOT_FOUND, 0, 0, 0, 409, OUTBOUND_STEP_LATER},
        {OUTBOUND_NOT_FOUND, 0, 0, 2, 409, OUTBOUND_STEP_PARK},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct outbound_view view = {.state = OUTBOUND_UNKNOWN,
                                           .policy = OUTBOUND_VERIFY,
                                           .answer_ms = cases[i].answer_ms,
                                           .resends = cases[i].resends,
                                           .verifications = cases[i].verifications,
                                           .status = cases[i].status};
        enum outbound_step step = outbound_after_look(&view, cases[i].finding, LOOKS_MAX);
        if (step != cases[i].step)
            fail_msg("case %zu: step %d", i, (int)step);
    }
}

/* Outcomes that say for certain what happened are the same whatever the policy, for a call that was
 * not unknown before. */
static void test_certain_outcomes(void **state)
{
    static const struct {
        enum http_outcome outcome;
        int status;
        enum outbound_state to;
        bool nothing_happened;
        enum err_code error;
    } cases[] = {
        {HTTP_NOT_BEGUN, 0, OUTBOUND_PENDING, true, ERR_HTTP_NOT_SENT},
        {HTTP_ANSWERED, 200, OUTBOUND_DONE, false, ERR_OK},
        {HTTP_ANSWERED, 201, OUTBOUND_DONE, false, ERR_OK},
        {HTTP_ANSWERED, 204, OUTBOUND_DONE, false, ERR_OK},
        {HTTP_ANSWERED, 400, OUTBOUND_REFUSED, false, ERR_CALL_REFUSED},
        {HTTP_ANSWERED, 401, OUTBOUND_PENDING, true, ERR_UNAUTHORISED},
        {HTTP_ANSWERED, 402, OUTBOUND_REFUSED, false, ERR_CALL_REFUSED},
        {HTTP_ANSWERED, 403, OUTBOUND_PENDING, true, ERR_FORBIDDEN},
        {HTTP_ANSWERED, 404, OUTBOUND_REFUSED, false, ERR_CALL_REFUSED},
        {HTTP_ANSWERED, 410, OUTBOUND_REFUSED, false, ERR_CALL_REFUSED},
        {HTTP_ANSWERED, 422, OUTBOUND_REFUSED, false, ERR_CALL_REFUSED},
        {HTTP_ANSWERED, 429, OUTBOUND_PENDING, true, ERR_LIMITED},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int policy = 0; policy < OUTBOUND_POLICY_COUNT; policy++) {
            const struct outbound_view from = {.state = OUTBOUND_PENDING,
                                               .policy = (enum outbound_policy)policy};
            struct outbound_ending ending =
                outbound_after_call(&from, cases[i].outcome, cases[i].status);
            if (ending.state != cases[i].to || ending.error != cases[i].error ||
                ending.nothing_happened != cases[i].nothing_happened)
                fail_msg("case %zu, policy %d: state %d, %s", i, policy, (int)ending.state,
                         err_name(ending.error));
            if ((ending.parked != NULL) != (cases[i].status == 403))
                fail_msg("case %zu, policy %d: parked", i, policy);
        }
    }
}

static void test_uncertain_outcomes(void **state)
{
    static const struct {
        enum http_outcome outcome;
        int status;
    } outcomes[] = {{HTTP_LOST, 0},       {HTTP_ANSWERED, 408}, {HTTP_ANSWERED, 425},
                    {HTTP_ANSWERED, 500}, {HTTP_ANSWERED, 502}, {HTTP_ANSWERED, 503},
                    {HTTP_ANSWERED, 504}, {HTTP_ANSWERED, 302}, {HTTP_ANSWERED, 303},
                    {HTTP_ANSWERED, 600}};
    static const enum err_code errors[OUTBOUND_POLICY_COUNT] = {
        [OUTBOUND_RESEND] = ERR_CALL_UNANSWERED,
        [OUTBOUND_VERIFY] = ERR_UNCERTAIN,
        [OUTBOUND_PARK] = ERR_UNDECIDED,
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        for (int policy = 0; policy < OUTBOUND_POLICY_COUNT; policy++) {
            const struct outbound_view from = {.state = OUTBOUND_PENDING,
                                               .policy = (enum outbound_policy)policy};
            struct outbound_ending ending =
                outbound_after_call(&from, outcomes[i].outcome, outcomes[i].status);
            assert_int_equal(ending.state, OUTBOUND_UNKNOWN);
            assert_false(ending.nothing_happened);
            assert_int_equal(ending.error, errors[policy]);
            assert_true((ending.parked != NULL) == (policy == OUTBOUND_PARK));
        }
    }
}

/* 409: VERIFY looks, the others ask a person at once. */
static void test_conflict(void **state)
{
    (void)state;
    for (int policy = 0; policy < OUTBOUND_POLICY_COUNT; policy++) {
        const struct outbound_view from = {.state = OUTBOUND_PENDING,
                                           .policy = (enum outbound_policy)policy};
        struct outbound_ending ending = outbound_after_call(&from, HTTP_ANSWERED, 409);
        assert_int_equal(ending.state, OUTBOUND_UNKNOWN);
        assert_int_equal(ending.error, policy == OUTBOUND_VERIFY ? ERR_UNCERTAIN : ERR_UNDECIDED);
        assert_true((ending.parked != NULL) == (policy != OUTBOUND_VERIFY));
    }
}

/* A second sending of what is unknown: if it comes to nothing, the first one is unknown still. */
static void test_sent_again(void **state)
{
    static const struct {
        enum outbound_policy policy;
        enum http_outcome outcome;
        int status;
        enum outbound_state to;
        bool nothing_happened;
        bool parked;
    } cases[] = {
        {OUTBOUND_RESEND, HTTP_NOT_BEGUN, 0, OUTBOUND_UNKNOWN, true, false},
        {OUTBOUND_VERIFY, HTTP_NOT_BEGUN, 0, OUTBOUND_UNKNOWN, true, false},
        {OUTBOUND_VERIFY, HTTP_ANSWERED, 401, OUTBOUND_UNKNOWN, true, false},
        {OUTBOUND_VERIFY, HTTP_ANSWERED, 403, OUTBOUND_UNKNOWN, true, false},
        {OUTBOUND_VERIFY, HTTP_ANSWERED, 429, OUTBOUND_UNKNOWN, true, false},
        {OUTBOUND_VERIFY, HTTP_ANSWERED, 200, OUTBOUND_DONE, false, false},
        {OUTBOUND_VERIFY, HTTP_LOST, 0, OUTBOUND_UNKNOWN, false, false},
        {OUTBOUND_VERIFY, HTTP_ANSWERED, 422, OUTBOUND_UNKNOWN, false, true},
        {OUTBOUND_RESEND, HTTP_ANSWERED, 422, OUTBOUND_REFUSED, false, false},
        {OUTBOUND_RESEND, HTTP_ANSWERED, 200, OUTBOUND_DONE, false, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct outbound_view from = {.state = OUTBOUND_UNKNOWN, .policy = cases[i].policy};
        struct outbound_ending ending =
            outbound_after_call(&from, cases[i].outcome, cases[i].status);
        if (ending.state != cases[i].to || ending.nothing_happened != cases[i].nothing_happened ||
            (ending.parked != NULL) != cases[i].parked)
            fail_msg("case %zu: state %d, %s", i, (int)ending.state, err_name(ending.error));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_what_comes_first),
        cmocka_unit_test(test_old_keys),
        cmocka_unit_test(test_a_clock_put_back),
        cmocka_unit_test(test_after_a_look),
        cmocka_unit_test(test_certain_outcomes),
        cmocka_unit_test(test_uncertain_outcomes),
        cmocka_unit_test(test_conflict),
        cmocka_unit_test(test_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
