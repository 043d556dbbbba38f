/* Breakers, as a table of moments: what is asked or told, and what follows. */
#include "service/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { FAILURES = 3, WINDOW_MS = 1000, OPEN_MS = 5000 };

enum step_kind { END, LOOK, BEGIN, WELL, FAIL, CANCELLED };

struct step {
    enum step_kind kind;
    int64_t at_ms;
    int64_t expected; /* LOOK, BEGIN: the wait; the others: whether it opens */
};

static void follow(const char *name, const struct step *steps)
{
    const struct breaker_options options = {
        .failures = FAILURES, .window_ms = WINDOW_MS, .open_ms = OPEN_MS};
    static const enum breaker_outcome outcomes[] = {
        [WELL] = BREAKER_WENT_WELL, [FAIL] = BREAKER_FAILED, [CANCELLED] = BREAKER_CANNOT_TELL};
    struct breakers breakers;
    breakers_init(&breakers, &options);
    for (size_t i = 0; steps[i].kind != END; i++) {
        const struct step *step = &steps[i];
        int64_t got;
        if (step->kind == LOOK)
            got = breaker_look(&breakers, "c1", "host", step->at_ms);
        else if (step->kind == BEGIN)
            got = breaker_begin(&breakers, "c1", "host", step->at_ms);
        else
            got = breaker_tell(&breakers, "c1", "host", outcomes[step->kind], step->at_ms) ? 1 : 0;
        if (got != step->expected)
            fail_msg("%s, step %zu: %lld instead of %lld", name, i, (long long)got,
                     (long long)step->expected);
    }
    breakers_close(&breakers);
}

#define FOLLOW(name, ...) follow(name, (const struct step[]){__VA_ARGS__, {END, 0, 0}})

static void test_table(void **state)
{
    (void)state;
    FOLLOW("nothing known", {LOOK, 0, 0}, {BEGIN, 1, 0}, {WELL, 2, 0}, {LOOK, 3, 0});
    FOLLOW("opens at the third failure", {FAIL, 0, 0}, {FAIL, 500, 0}, {BEGIN, 600, 0},
           {FAIL, 999, 1}, {LOOK, 1000, 4999}, {BEGIN, 5998, 1});
    FOLLOW("a failure is forgotten", {FAIL, 0, 0}, {FAIL, 500, 0}, {FAIL, 1000, 0}, {LOOK, 1000, 0},
           {FAIL, 1499, 1});
    FOLLOW("what goes well does not undo it", {FAIL, 0, 0}, {WELL, 1, 0}, {FAIL, 2, 0},
           {WELL, 3, 0}, {FAIL, 4, 1});
    FOLLOW("cancelled ones do not count", {FAIL, 0, 0}, {FAIL, 1, 0}, {CANCELLED, 2, 0},
           {CANCELLED, 3, 0}, {LOOK, 4, 0});
    FOLLOW("one tries and it is over", {FAIL, 0, 0}, {FAIL, 0, 0}, {FAIL, 0, 1}, {LOOK, 5000, 0},
           {BEGIN, 5000, 0}, {BEGIN, 5001, 4999}, {LOOK, 5001, 4999}, {WELL, 5100, 0},
           {BEGIN, 5101, 0}, {BEGIN, 5102, 0}, {FAIL, 5103, 0}, {LOOK, 5104, 0});
    FOLLOW("one tries and it is not over", {FAIL, 0, 0}, {FAIL, 0, 0}, {FAIL, 0, 1},
           {BEGIN, 5000, 0}, {FAIL, 5100, 0}, {LOOK, 5101, 4999}, {BEGIN, 10100, 0},
           {WELL, 10101, 0}, {LOOK, 10102, 0});
    FOLLOW("the try was cancelled: the next may", {FAIL, 0, 0}, {FAIL, 0, 0}, {FAIL, 0, 1},
           {BEGIN, 5000, 0}, {CANCELLED, 5100, 0}, {BEGIN, 5101, 0}, {BEGIN, 5102, 4999});
    FOLLOW("nobody told of the try", {FAIL, 0, 0}, {FAIL, 0, 0}, {FAIL, 0, 1}, {BEGIN, 5000, 0},
           {BEGIN, 9999, 1}, {BEGIN, 10000, 0});
    FOLLOW("begun before it opened", {FAIL, 0, 0}, {FAIL, 0, 0}, {FAIL, 0, 1}, {WELL, 100, 0},
           {FAIL, 200, 0}, {CANCELLED, 300, 0}, {LOOK, 400, 4600});
}

/* Each credential with each host has its own, and what is over takes no memory. */
static void test_many(void **state)
{
    const struct breaker_options options = {.failures = 2, .window_ms = 1000, .open_ms = 1000};
    static const char *const credentials[] = {"a", "b", "c"};
    static const char *const hosts[] = {"x", "y", "z"};
    struct breakers breakers;
    (void)state;
    breakers_init(&breakers, &options);
    for (size_t i = 0; i < 9; i++)
        for (size_t times = 0; times <= i % 2; times++)
            breaker_tell(&breakers, credentials[i / 3], hosts[i % 3], BREAKER_FAILED, 0);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(breaker_look(&breakers, credentials[i / 3], hosts[i % 3], 1),
                         i % 2 == 1 ? 999 : 0);
    assert_int_equal(breakers_open_count(&breakers), 4);
    for (size_t i = 1; i < 9; i += 2) {
        assert_int_equal(breaker_begin(&breakers, credentials[i / 3], hosts[i % 3], 2000), 0);
        breaker_tell(&breakers, credentials[i / 3], hosts[i % 3], BREAKER_WENT_WELL, 2001);
    }
    assert_int_equal(breakers_open_count(&breakers), 0);
    assert_int_equal(breakers.count, 0);
    breakers_close(&breakers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
