/* What the operator reads and types: tables, ages, numbers, prices, targets, near misses. */
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/sender.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_table_aligns(void **state)
{
    (void)state;
    static const char *const heads[] = {"NAME", ">N", "WHAT"};
    struct table table;
    struct buf out = {0};
    table_init(&table, heads, ARRAY_LEN(heads));
    table_add(&table, "Zażółć");
    table_printf(&table, "%d", 7);
    table_add(&table, "last");
    table_add(&table, "a");
    table_add(&table, "1,000");
    table_add(&table, NULL);
    assert_int_equal(table_rows(&table), 2);
    table_write(&table, "  ", &out);
    assert_string_equal(buf_text(&out), "  NAME        N  WHAT\n"
                                        "  Zażółć      7  last\n"
                                        "  a       1,000  -\n");
    assert_int_equal(table_rows(&table), 0);
    buf_close(&out);
}

static void test_table_without_heads(void **state)
{
    (void)state;
    struct table table;
    struct buf out = {0};
    table_init(&table, NULL, 2);
    table_add(&table, "event");
    table_add(&table, "x");
    table_add(&table, "id");
    table_add(&table, "");
    table_write(&table, "", &out);
    assert_string_equal(buf_text(&out), "event  x\nid     -\n");
    buf_close(&out);
}

#define DIGITS "0123456789abcdef"

static void test_long_ids_are_cut(void **state)
{
    (void)state;
    struct table table;
    struct buf out = {0};
    table_init(&table, NULL, 1);
    table_add_short(&table, "x/mac:" DIGITS DIGITS DIGITS DIGITS);
    table_add_short(&table, "for mac:" DIGITS DIGITS DIGITS DIGITS ", mac:" DIGITS " and more");
    table_add_short(&table, "mac:" DIGITS DIGITS DIGITS DIGITS "0");
    table_add_short(&table, "msg_1");
    table_add_short(&table, NULL);
    table_write(&table, "", &out);
    assert_string_equal(buf_text(&out), "x/mac:0123456789ab\n"
                                        "for mac:0123456789ab, mac:" DIGITS " and more\n"
                                        "mac:" DIGITS DIGITS DIGITS DIGITS "0\nmsg_1\n-\n");
    buf_close(&out);
}

static void test_control_characters_are_harmless(void **state)
{
    (void)state;
    struct buf out = {0};
    output_add_clean(&out, "a\033[31mb\nc\x7f"
                           "d\xc2\x9b"
                           "e\xc3\xa9\xc2\xa0");
    assert_string_equal(buf_text(&out), "a?[31mb?c?d?e\xc3\xa9\xc2\xa0");
    buf_close(&out);
}

static void test_ages(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {{-5, "0 s"},      {0, "0 s"},        {119, "119 s"},
                 {120, "2 min"},   {7199, "119 min"}, {7200, "2 h"},
                 {172799, "47 h"}, {172800, "2 d"},   {8640000, "100 d"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[OUTPUT_SHORT];
        output_age(cases[i].seconds, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        int64_t number;
        const char *text;
    } cases[] = {{0, "0"},
                 {999, "999"},
                 {1000, "1,000"},
                 {-100, "-100"},
                 {-1000, "-1,000"},
                 {-123456, "-123,456"},
                 {25000, "25,000"},
                 {INT64_MAX, "9,223,372,036,854,775,807"},
                 {INT64_MIN, "-9,223,372,036,854,775,808"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[OUTPUT_SHORT];
        output_number(cases[i].number, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_targets(void **state)
{
    (void)state;
    static const struct {
        const char *listen;
        const char *host;
        bool loopback;
    } listens[] = {{"0.0.0.0:8080", "127.0.0.1:8080", true},
                   {":8080", "127.0.0.1:8080", true},
                   {"[::]:8080", "[::1]:8080", true},
                   {"127.3.4.5:80", "127.3.4.5:80", true},
                   {"192.0.2.1:80", "192.0.2.1:80", false}};
    struct sender_target target;
    for (size_t i = 0; i < ARRAY_LEN(listens); i++) {
        struct err err = sender_target_of_listen(listens[i].listen, &target);
        assert_int_equal(err.code, ERR_OK);
        assert_string_equal(target.host, listens[i].host);
        assert_string_equal(target.path, "/webhooks/whop");
        assert_int_equal(sender_target_is_loopback(&target), listens[i].loopback);
    }
    struct err err = sender_target_of_url("http://127.0.0.1:81/webhooks/whop/shop", &target);
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(target.path, "/webhooks/whop/shop");
    err = sender_target_of_url("HTTP://[::1]", &target);
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(target.host, "[::1]:80");
    static const char *const bad[] = {"https://127.0.0.1/", "127.0.0.1:80",
                                      "http://127.0.0.1:80/ x", "http://127.0.0.1:none/",
                                      "http:///x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err = sender_target_of_url(bad[i], &target);
        assert_int_equal(err.code, ERR_USAGE);
    }
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"status", "events", "trace", "send"};
    static const struct {
        const char *typed;
        const char *nearest;
    } cases[] = {{"stauts", "status"}, {"event", "events"}, {"tracce", "trace"}, {"sned", "send"},
                 {"zzz", NULL},        {"", NULL},          {"status", "status"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *nearest = cli_nearest(cases[i].typed, names, ARRAY_LEN(names));
        if (cases[i].nearest == NULL)
            assert_null(nearest);
        else
            assert_string_equal(nearest, cases[i].nearest);
    }
    assert_null(
        cli_nearest("a very long word that is not a command at all", names, ARRAY_LEN(names)));
}

static void test_whole_numbers(void **state)
{
    (void)state;
    int64_t number = 0;
    assert_true(cli_parse_number("20", 1, 20, &number));
    assert_int_equal(number, 20);
    static const char *const bad[] = {"", "0", "21", "1x", "x", "99999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(cli_parse_number(bad[i], 1, 20, &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_aligns),
        cmocka_unit_test(test_table_without_heads),
        cmocka_unit_test(test_long_ids_are_cut),
        cmocka_unit_test(test_control_characters_are_harmless),
        cmocka_unit_test(test_ages),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_whole_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
