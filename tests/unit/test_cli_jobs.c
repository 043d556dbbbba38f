/* What the commands for jobs understand and show, without a store: times, ids, sets, payloads. */
#include "cli/cli.h"
#include "cli/fsck.h"
#include "cli/payload.h"
#include "cli/when.h"
#include "service/controls.h"
#include "service/jobs_admin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_when_understands(void **state)
{
    (void)state;
    static const struct {
        const char *typed;
        const char *expected;
        bool relative;
    } cases[] = {
        {"90s", "90 seconds", true},
        {"15m", "15 minutes", true},
        {"2h", "2 hours", true},
        {"3d", "3 days", true},
        {"1w", "1 weeks", true},
        {"0s", "0 seconds", true},
        {"2026-11-21", "2026-11-21 00:00+00", false},
        {"2026-11-21T14:30", "2026-11-21T14:30+00", false},
        {"2026-11-21 14:30:59", "2026-11-21 14:30:59+00", false},
        {"2026-11-21T14:30:59.123", "2026-11-21T14:30:59.123+00", false},
        {"2026-11-21T14:30Z", "2026-11-21T14:30Z", false},
        {"2026-11-21T14:30+01:00", "2026-11-21T14:30+01:00", false},
        {"2026-11-21T14:30-0530", "2026-11-21T14:30-0530", false},
        {"2026-11-21T14:30+02", "2026-11-21T14:30+02", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        bool relative = !cases[i].relative;
        assert_true(when_parse(cases[i].typed, &relative, &out));
        assert_int_equal(relative, cases[i].relative);
        assert_string_equal(buf_text(&out), cases[i].expected);
        buf_close(&out);
    }
}

static void test_when_refuses(void **state)
{
    (void)state;
    static const char *const typed[] = {
        "",
        "2",
        "h",
        "2y",
        "-2h",
        "2 h",
        "2hh",
        "1234567s",
        "yesterday",
        "infinity",
        "2026",
        "2026-11",
        "2026-11-2",
        "2026-11-21T",
        "2026-11-21T14",
        "2026-11-21X14:30",
        "2026-11-21T14:30+",
        "2026-11-21T14:30+1",
        "2026-11-21T14:30+01:",
        "2026-11-21T14:30+01:0",
        "2026-11-21T14:30 Europe/Berlin",
        "2026-11-21T14:30'; --",
    };
    for (size_t i = 0; i < ARRAY_LEN(typed); i++) {
        struct buf out = {0};
        bool relative;
        assert_false(when_parse(typed[i], &relative, &out));
        assert_int_equal(out.len, 0);
        buf_close(&out);
    }
}

static void test_ids(void **state)
{
    (void)state;
    static const char whole[] = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    static const char *const good[] = {whole, "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B",
                                       "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.12"};
    static const char *const bad[] = {"",
                                      "0190a1b2",
                                      "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5",
                                      "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5bb",
                                      "0190a1b2xc3d4-7e5f-8a9b-0c1d2e3f4a5b",
                                      "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5g",
                                      "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.",
                                      "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.1x"};
    char out[UUID_TEXT_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(jobs_admin_parse_id(good[i], out));
        assert_string_equal(out, whole);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(jobs_admin_parse_id(bad[i], out));
}

static void test_sets_of_ids(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct fsck_ids ids = {0};
    char text[16];
    assert_false(fsck_ids_have(&ids, "0"));
    fsck_ids_sort(&ids);
    for (int i = COUNT - 1; i >= 0; i--) {
        int len = snprintf(text, sizeof text, "%d", 2 * i);
        fsck_ids_add(&ids, (struct span){text, (size_t)len});
        if (i % 3 == 0) /* scans tell some twice */
            fsck_ids_add(&ids, (struct span){text, (size_t)len});
    }
    fsck_ids_sort(&ids);
    assert_int_equal(ids.count, COUNT);
    for (int i = 0; i < 2 * COUNT; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(fsck_ids_have(&ids, text), i % 2 == 0);
    }
    fsck_ids_close(&ids);
    assert_int_equal(ids.count, 0);
}

static void test_payload_is_shown(void **state)
{
    (void)state;
    struct event event;
    struct buf packed = {0};
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    struct table table;
    payload_init(PAYLOAD_event, &event);
    event.id = "default/m\"sg";
    event.paid_ms = 1700000000123;
    event.occurred_known = true;
    struct err err = payload_encode(PAYLOAD_event, &event, &packed);
    assert_false(err_failed(&err));
    json_begin_object(&json, NULL);
    payload_put_json(&json, "journal.event", 1, buf_span(&packed));
    json_end_object(&json);
    assert_non_null(strstr(buf_text(&out), "{\"payload\":{\"id\":\"default/m\\\"sg\","));
    assert_non_null(strstr(buf_text(&out), "\"paid_ms\":1700000000123"));
    assert_non_null(strstr(buf_text(&out), "\"occurred_known\":true"));
    buf_clear(&out);
    table_init(&table, NULL, 2);
    payload_add_rows(&table, "journal.event", 1, buf_span(&packed));
    table_write(&table, "", &out);
    assert_string_equal(buf_text(&out), "payload.id              default/m\"sg\n"
                                        "payload.occurred_known  true\n"
                                        "payload.paid_ms         1700000000123 "
                                        "(2023-11-14 22:13:20 UTC)\n");
    buf_close(&out);
    buf_close(&packed);
}

static void test_payload_that_cannot_be_read(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        int version;
        struct span bytes;
    } cases[] = {{"nobody.knows", 1, {"\x80", 1}},
                 {"journal.event", 1, {"\x81\xff", 2}},
                 {"journal.event", 1, {"", 0}},
                 {"journal.event", 99, {"\x80", 1}}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        struct json_writer json = {.out = &out};
        struct table table;
        json_begin_object(&json, NULL);
        payload_put_json(&json, cases[i].kind, cases[i].version, cases[i].bytes);
        json_end_object(&json);
        assert_non_null(strstr(buf_text(&out), "\"payload_error\":"));
        assert_non_null(strstr(buf_text(&out), "\"payload_base64\":"));
        buf_clear(&out);
        table_init(&table, NULL, 2);
        payload_add_rows(&table, cases[i].kind, cases[i].version, cases[i].bytes);
        table_write(&table, "", &out);
        assert_non_null(strstr(buf_text(&out), "bytes that cannot be read"));
        buf_close(&out);
    }
}

static void test_queue_names(void **state)
{
    (void)state;
    for (int i = 0; i < QUEUE_COUNT; i++) {
        enum queue_name queue = QUEUE_COUNT;
        assert_true(queue_name_find(queue_text((enum queue_name)i), &queue));
        assert_int_equal(queue, i);
    }
    enum queue_name queue;
    assert_false(queue_name_find("", &queue));
    assert_false(queue_name_find("credit", &queue));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_understands),
        cmocka_unit_test(test_when_refuses),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_sets_of_ids),
        cmocka_unit_test(test_payload_is_shown),
        cmocka_unit_test(test_payload_that_cannot_be_read),
        cmocka_unit_test(test_queue_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
