/* Bodies of forged events: samples are filled in, single members are set, nothing else changes. */
#include "cli/body.h"
#include "cli/forge.h"
#include "codec/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOW_MS 1786352400123 /* 2026-08-10T09:00:00.123Z */

static void assert_rendered(const char *sample, const struct body_values *values,
                            const char *expected)
{
    struct buf out = {0};
    body_render(span_of(sample), values, &out);
    assert_string_equal(buf_text(&out), expected);
    buf_close(&out);
}

static void test_render_fills_in_what_is_given(void **state)
{
    (void)state;
    const struct body_values values = {.message = "msg_1",
                                       .company = "biz_1",
                                       .payment = "pay_1",
                                       .user = "user_\"1\"",
                                       .amount = "1.20",
                                       .currency = "jpy",
                                       .now_ms = NOW_MS};
    assert_rendered("{ \"id\" : \"@message\", \"c\": \"@company\",\n \"p\": [\"@payment\"] }",
                    &values, "{\"id\":\"msg_1\",\"c\":\"biz_1\",\"p\":[\"pay_1\"]}");
    assert_rendered("[\"@user:user_2\"]", &values, "[\"user_\\\"1\\\"\"]");
    assert_rendered("[\"@amount:49.99\", \"@amount_text:49.99\"]", &values, "[1.20,\"1.20\"]");
    assert_rendered("[\"@currency:usd\"]", &values, "[\"jpy\"]");
}

static void test_render_falls_back_on_the_sample(void **state)
{
    (void)state;
    const struct body_values values = {.message = "m", .user = "", .now_ms = NOW_MS};
    assert_rendered("[\"@user:user_2\", \"@plan:plan_2\", \"@pack:\"]", &values,
                    "[\"user_2\",\"plan_2\",null]");
    assert_rendered("[\"@amount:49.99\", \"@amount_text:49.99\"]", &values, "[49.99,\"49.99\"]");
}

static void test_render_counts_times_from_now(void **state)
{
    (void)state;
    const struct body_values values = {.message = "m", .now_ms = NOW_MS};
    assert_rendered("[\"@iso\", \"@iso-60\", \"@iso+86400\"]", &values,
                    "[\"2026-08-10T09:00:00.123Z\",\"2026-08-10T08:59:00.123Z\","
                    "\"2026-08-11T09:00:00.123Z\"]");
    assert_rendered("[\"@unix\", \"@unix-1\"]", &values, "[1786352400,1786352399]");
}

static void test_render_leaves_other_strings_alone(void **state)
{
    (void)state;
    const struct body_values values = {.message = "m", .now_ms = NOW_MS};
    assert_rendered("[\"@\", \"@nobody\", \"a  @message\", \"\\\"@message\\\"\", \"@iso-x\"]",
                    &values, "[\"@\",\"@nobody\",\"a  @message\",\"\\\"@message\\\"\",\"@iso-x\"]");
    assert_rendered("{\"a\": -1.50e3, \"b\": [ ], \"c\": true}", &values,
                    "{\"a\":-1.50e3,\"b\":[],\"c\":true}");
}

static void test_fresh_ids_differ(void **state)
{
    (void)state;
    char one[BODY_ID_SIZE];
    char other[BODY_ID_SIZE];
    body_fresh_id("rf_", one);
    body_fresh_id("rf_", other);
    assert_int_equal(strlen(one), 3 + 14);
    assert_memory_equal(one, "rf_", 3);
    assert_string_not_equal(one, other);
}

static void assert_set(const char *body, const char *path, const char *value, const char *expected)
{
    struct buf text = {0};
    buf_add_text(&text, body);
    struct err err = body_set(&text, path, value);
    if (expected == NULL) {
        assert_int_equal(err.code, ERR_USAGE);
        assert_string_equal(buf_text(&text), body);
    } else {
        assert_int_equal(err.code, ERR_OK);
        assert_string_equal(buf_text(&text), expected);
    }
    buf_close(&text);
}

static void test_set_replaces_one_member(void **state)
{
    (void)state;
    const char *body =
        "{\"a\": 1, \"b\": {\"c\": \"x,}]\\\"\", \"d\": [1, {\"e\": 2}]}, \"f\":null}";
    assert_set(body, "a", "2",
               "{\"a\": 2, \"b\": {\"c\": \"x,}]\\\"\", \"d\": [1, {\"e\": 2}]}, \"f\":null}");
    assert_set(body, "b.c", "user_1",
               "{\"a\": 1, \"b\": {\"c\": \"user_1\", \"d\": [1, {\"e\": 2}]}, \"f\":null}");
    assert_set(body, "b.d.1.e", "[]",
               "{\"a\": 1, \"b\": {\"c\": \"x,}]\\\"\", \"d\": [1, {\"e\": []}]}, \"f\":null}");
    assert_set(body, "b", "null", "{\"a\": 1, \"b\": null, \"f\":null}");
}

static void test_set_makes_what_is_missing(void **state)
{
    (void)state;
    assert_set("{}", "a", "1", "{\"a\":1}");
    assert_set("{ }", "a.b.c", "1", "{ \"a\":{\"b\":{\"c\":1}}}");
    assert_set("{\"x\": 1 }", "a.b", "t", "{\"x\": 1 ,\"a\":{\"b\":\"t\"}}");
    assert_set("{\"data\":{\"user\":null}}", "data.user.id", "u",
               "{\"data\":{\"user\":{\"id\":\"u\"}}}");
}

static void test_set_takes_json_or_else_a_string(void **state)
{
    (void)state;
    assert_set("{\"a\":0}", "a", "1.50", "{\"a\":1.50}");
    assert_set("{\"a\":0}", "a", "true", "{\"a\":true}");
    assert_set("{\"a\":0}", "a", "\"1\"", "{\"a\":\"1\"}");
    assert_set("{\"a\":0}", "a", "", "{\"a\":\"\"}");
    assert_set("{\"a\":0}", "a", "say \"hi\"", "{\"a\":\"say \\\"hi\\\"\"}");
}

static void test_set_refuses_what_has_no_members(void **state)
{
    (void)state;
    assert_set("{\"a\":5}", "a.b", "1", NULL);
    assert_set("{\"a\":\"nothing\"}", "a.b", "1", NULL);
    assert_set("{\"a\":[]}", "a.0", "1", NULL);
    assert_set("not json", "a", "1", NULL);
    assert_set("{}", "", "1", NULL);
    assert_set("{}", ".a", "1", NULL);
    assert_set("{}", "a..b", "1", NULL);
    assert_set("{}", "a\"b", "1", NULL);
}

static void test_assign_cuts_at_the_first_equals(void **state)
{
    (void)state;
    struct buf body = {0};
    buf_add_text(&body, "{\"a\":1}");
    struct err err = body_assign(&body, "a=b=c");
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(buf_text(&body), "{\"a\":\"b=c\"}");
    err = body_assign(&body, "a");
    assert_int_equal(err.code, ERR_USAGE);
    buf_close(&body);
}

static void test_amounts(void **state)
{
    (void)state;
    static const char *const good[] = {"0", "49.99", "1000", "0.001"};
    static const char *const bad[] = {"", "-1", "1.", ".5", "1.2.3", "1e3", "1,5", " 1", "1 "};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(body_is_amount(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(body_is_amount(bad[i]));
}

/* Every sample, filled in, is JSON without a variable left, and its kind is in it. */
static void test_every_sample_renders(void **state)
{
    (void)state;
    struct sender_target target = {.path = "/webhooks/whop", .host = "127.0.0.1:1"};
    struct forge forge;
    struct span kind;
    const char *generation;
    size_t count = 0;
    struct err err = forge_init(&forge, "ws_secret", &target);
    assert_int_equal(err.code, ERR_OK);
    for (; forge_sample_at(count, &kind, &generation); count++) {
        struct forged forged;
        char name[96];
        snprintf(name, sizeof name, "%.*s", (int)kind.len, kind.ptr);
        struct forge_request request = {
            .kind = name, .generation = generation, .values = {.company = "biz_1"}};
        err = forge_make(&forge, &request, &forged);
        assert_int_equal(err.code, ERR_OK);
        const char *body = strstr(buf_text(&forged.bytes), "\r\n\r\n") + 4;
        struct json_doc *doc = json_parse(span_of(body));
        assert_non_null(doc);
        assert_null(strstr(body, "\"@"));
        assert_non_null(strstr(body, name));
        json_free(doc);
        buf_close(&forged.bytes);
    }
    assert_true(count > 50);
    forge_close(&forge);
}

static void test_forged_ids(void **state)
{
    (void)state;
    struct sender_target target = {.path = "/webhooks/whop/shop", .host = "127.0.0.1:1"};
    struct forge forge;
    struct forged forged;
    struct forge_request request = {.kind = "payment.succeeded",
                                    .message = "msg_7",
                                    .values = {.company = "biz_1", .payment = "pay_7"}};
    struct err err = forge_init(&forge, "ws_secret,ws_older", &target);
    assert_int_equal(err.code, ERR_OK);
    err = forge_make(&forge, &request, &forged);
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(forged.event_id, "shop/msg_7");
    assert_string_equal(forged.generation, "v1");
    assert_non_null(strstr(buf_text(&forged.bytes), "webhook-id: msg_7\r\n"));
    assert_non_null(strstr(buf_text(&forged.bytes), "\"id\":\"pay_7\""));
    assert_null(strstr(buf_text(&forged.bytes), "ws_secret"));
    buf_close(&forged.bytes);

    request.generation = "v5";
    err = forge_make(&forge, &request, &forged);
    assert_int_equal(err.code, ERR_OK);
    assert_memory_equal(forged.event_id, "shop/mac:", 9);
    assert_int_equal(strlen(forged.event_id), 9 + 64);
    assert_non_null(strstr(buf_text(&forged.bytes), forged.event_id + 9));
    buf_close(&forged.bytes);

    request.generation = "v9";
    err = forge_make(&forge, &request, &forged);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.text, "but as v1-flat, v1, v2-short, v2, v5"));
    buf_close(&forged.bytes);

    request.generation = NULL;
    request.kind = "payment.suceeded";
    err = forge_make(&forge, &request, &forged);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.text, "did you mean payment.succeeded?"));
    buf_close(&forged.bytes);
    forge_close(&forge);
}

static void test_ids_are_those_of_the_body(void **state)
{
    (void)state;
    struct sender_target target = {.path = "/webhooks/whop", .host = "127.0.0.1:1"};
    struct forge forge;
    struct forged forged;
    const char *sets[] = {"data.user=null"};
    struct forge_request request = {.kind = "membership.activated",
                                    .values = {.company = "biz_1", .membership = "mem_7"},
                                    .sets = sets,
                                    .set_count = 1};
    struct err err = forge_init(&forge, "ws_secret", &target);
    assert_int_equal(err.code, ERR_OK);
    err = forge_make(&forge, &request, &forged);
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(forged.ids[FORGED_MEMBERSHIP], "mem_7");
    assert_string_equal(forged.ids[FORGED_PAYMENT], "");
    assert_string_equal(forged.ids[FORGED_USER], "");
    buf_close(&forged.bytes);

    request.generation = "v5"; /* which calls it membership.went_valid */
    err = forge_make(&forge, &request, &forged);
    assert_int_equal(err.code, ERR_OK);
    assert_non_null(strstr(buf_text(&forged.bytes), "\"membership.went_valid\""));
    assert_string_equal(forged.ids[FORGED_MEMBERSHIP], "mem_7");
    buf_close(&forged.bytes);
    forge_close(&forge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render_fills_in_what_is_given),
        cmocka_unit_test(test_render_falls_back_on_the_sample),
        cmocka_unit_test(test_render_counts_times_from_now),
        cmocka_unit_test(test_render_leaves_other_strings_alone),
        cmocka_unit_test(test_fresh_ids_differ),
        cmocka_unit_test(test_set_replaces_one_member),
        cmocka_unit_test(test_set_makes_what_is_missing),
        cmocka_unit_test(test_set_takes_json_or_else_a_string),
        cmocka_unit_test(test_set_refuses_what_has_no_members),
        cmocka_unit_test(test_assign_cuts_at_the_first_equals),
        cmocka_unit_test(test_amounts),
        cmocka_unit_test(test_every_sample_renders),
        cmocka_unit_test(test_forged_ids),
        cmocka_unit_test(test_ids_are_those_of_the_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
