/* When a process is unhealthy: what happened at which time, and the verdict at another. */
#include "runtime/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { BLOCK_MS = 2000, BEAT_MS = 10000 };

enum what { OPEN, FULL, HELD, READ, BEAT, END };

struct step {
    enum what what;
    int64_t at_ms;
};

static void apply(struct health_watch *watch, const struct step *step)
{
    switch (step->what) {
    case OPEN: health_note(watch, HEALTH_OPEN, step->at_ms); break;
    case FULL: health_note(watch, HEALTH_FULL, step->at_ms); break;
    case HELD: health_note(watch, HEALTH_HELD, step->at_ms); break;
    case READ: health_read(watch, step->at_ms); break;
    case BEAT: health_beat(watch, step->at_ms); break;
    case END: break;
    }
}

static void test_worker(void **state)
{
    static const struct {
        const char *name;
        struct step steps[8]; /* the watch starts at 1000 */
        int64_t at_ms;
        const char *said; /* part of it; "ok": healthy */
    } cases[] = {
        {"just started", {{END, 0}}, 1000, "ok"},
        {"never a read, patience not over", {{END, 0}}, 7000, "ok"},
        {"never a read", {{END, 0}}, 7001, "no read of jobs has succeeded for 6001 ms"},
        {"reads", {{READ, 5000}}, 11000, "ok"},
        {"read, then silence", {{READ, 5000}}, 11001, "no read"},
        {"a read after the silence", {{READ, 5000}, {READ, 60000}}, 60001, "ok"},
        {"held for an hour", {{HELD, 2000}}, 3602000, "ok"},
        {"held, then open again", {{READ, 1500}, {HELD, 2000}, {OPEN, 3602000}}, 3602100, "ok"},
        {"held, then open in vain",
         {{READ, 1500}, {HELD, 2000}, {OPEN, 3602000}},
         3607501,
         "no read of jobs has succeeded for 6001 ms"},
        {"a long job does not count as silence",
         {{READ, 1500}, {FULL, 2000}, {BEAT, 10000}, {BEAT, 20000}, {OPEN, 29000}},
         34000,
         "ok"},
        {"full and beating", {{FULL, 2000}, {BEAT, 30000}}, 60000, "ok"},
        {"full and not beating", {{FULL, 2000}, {BEAT, 30000}}, 60001, "no lease"},
        {"full from the start", {{FULL, 2000}}, 32001, "no lease has been prolonged for 30001 ms"},
        {"full in vain, but now there is room", {{FULL, 2000}, {OPEN, 33000}}, 33001, "ok"},
        {"between open and full, and no read succeeds",
         {{READ, 1000}, {FULL, 3000}, {OPEN, 4000}, {FULL, 6000}, {OPEN, 7000}},
         9001,
         "no read of jobs has succeeded for 6001 ms"},
        {"the same note again and again",
         {{OPEN, 2000}, {OPEN, 3000}, {OPEN, 4000}, {OPEN, 5000}, {OPEN, 6000}},
         7001,
         "no read"},
        {"beats are no reads", {{BEAT, 6000}}, 7001, "no read"},
        {"reads are no beats", {{FULL, 2000}, {READ, 32000}}, 32001, "no lease"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct health_watch watch;
        health_start(&watch, 1000);
        for (size_t s = 0; s < ARRAY_LEN(cases[i].steps) && cases[i].steps[s].at_ms > 0; s++)
            apply(&watch, &cases[i].steps[s]);
        struct health health = health_of_worker(&watch, BLOCK_MS, BEAT_MS, cases[i].at_ms);
        if (strstr(health.text, cases[i].said) == NULL ||
            health.healthy != (strcmp(cases[i].said, "ok") == 0))
            fail_msg("%s: %s", cases[i].name, health.text);
    }
}

static void test_short_intervals_have_a_floor(void **state)
{
    struct health_watch watch;
    (void)state;
    health_start(&watch, 1);
    assert_true(health_of_worker(&watch, 10, 10, 1001).healthy);
    assert_false(health_of_worker(&watch, 10, 10, 1002).healthy);
    health_note(&watch, HEALTH_FULL, 1);
    assert_true(health_of_worker(&watch, 10, 10, 1001).healthy);
    assert_false(health_of_worker(&watch, 10, 10, 1002).healthy);
}

/* A verdict is a look: it changes nothing, and a clock that steps back is no time spent. */
static void test_looking_changes_nothing(void **state)
{
    struct health_watch watch;
    (void)state;
    health_start(&watch, 1000);
    assert_false(health_of_worker(&watch, BLOCK_MS, BEAT_MS, 100000).healthy);
    assert_true(health_of_worker(&watch, BLOCK_MS, BEAT_MS, 2000).healthy);
    health_note(&watch, HEALTH_OPEN, 500);
    assert_int_equal(watch.open_ms, 0);
    assert_int_equal(watch.noted_ms, 1000);
}

static void test_scheduler(void **state)
{
    (void)state;
    assert_true(health_of_scheduler(1000, 1000, 9000).healthy);
    struct health health = health_of_scheduler(1000, 1000, 9001);
    assert_false(health.healthy);
    assert_non_null(strstr(health.text, "no sweep has succeeded for 8001 ms"));
    assert_true(health_of_scheduler(1000, 600000, 1806000).healthy);
    assert_false(health_of_scheduler(1000, 600000, 1806001).healthy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker),
        cmocka_unit_test(test_short_intervals_have_a_floor),
        cmocka_unit_test(test_looking_changes_nothing),
        cmocka_unit_test(test_scheduler),
    };
    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
