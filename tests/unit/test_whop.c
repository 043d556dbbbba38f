/* Covers codec/whop: both shapes of each object, numbers and texts, pages and their ends, what
 * error answers say in every generation's form (and what they must not repeat), and the addresses
 * and bodies that are sent. */
#include "codec/whop_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static void must(struct err err)
{
    if (err_failed(&err))
        fail_msg("%s: %s", err_name(err.code), err_text(&err));
}

static const char nested_membership[] =
    "{\"id\":\"mem_1\",\"status\":\"active\",\"unheard_of\":[{}],"
    "\"user\":{\"id\":\"user_1\",\"username\":\"ada\",\"name\":null,\"email\":\"ada@example.test\"}"
    ","
    "\"plan\":{\"id\":\"plan_1\",\"metadata\":null},\"product\":{\"id\":\"prod_1\",\"title\":\"x\"}"
    ","
    "\"company\":{\"id\":\"biz_1\",\"title\":\"y\"},\"member\":{\"id\":\"mber_1\"},"
    "\"promo_code\":null,\"metadata\":{\"n\":1.50,\"t\":\"\\u00e9\"},\"currency\":\"usd\","
    "\"cancel_at_period_end\":true,\"renewal_period_end\":\"2026-08-10T09:00:03.250Z\","
    "\"joined_at\":1786352403,\"created_at\":\"1786352403\"}";
static const char flat_membership[] =
    "{\"id\":\"mem_1\",\"account\":{\"id\":\"biz_1\",\"title\":\"y\"},\"status\":\"active\","
    "\"user_id\":\"user_1\",\"plan_id\":\"plan_1\",\"product_id\":\"prod_1\","
    "\"member\":{\"access_level\":\"customer\"},\"metadata\":{},"
    "\"current_period_end\":\"2026-08-10T09:00:03.250Z\",\"created_at\":\"2026-08-10T09:00:03Z\"}";

static void test_membership(void **state)
{
    (void)state;
    struct whop_membership it;
    must(whop_read(WHOP_OBJECT_membership, SPAN(nested_membership), &arena, &it));
    assert_string_equal(it.user, "user_1");
    assert_string_equal(it.username, "ada");
    assert_string_equal(it.email, "ada@example.test");
    assert_string_equal(it.plan, "plan_1");
    assert_string_equal(it.product, "prod_1");
    assert_string_equal(it.company, "biz_1");
    assert_string_equal(it.member, "mber_1");
    assert_string_equal(it.promo_code, "");
    assert_string_equal(it.license_key, "");
    assert_string_equal(it.metadata, "{\"n\":1.50,\"t\":\"\xc3\xa9\"}");
    assert_true(it.cancel_at_period_end);
    assert_int_equal(it.period_end_ms, 1786352403250);
    assert_int_equal(it.joined_ms, 1786352403000);
    assert_int_equal(it.created_ms, 1786352403000);
    assert_int_equal(it.updated_ms, 0);

    must(whop_read(WHOP_OBJECT_membership, SPAN(flat_membership), &arena, &it));
    assert_string_equal(it.user, "user_1");
    assert_string_equal(it.plan, "plan_1");
    assert_string_equal(it.product, "prod_1");
    assert_string_equal(it.company, "biz_1");
    assert_string_equal(it.member, "");
    assert_string_equal(it.email, "");
    assert_string_equal(it.metadata, "{}");
    assert_false(it.cancel_at_period_end);
    assert_int_equal(it.period_end_ms, 1786352403250);
    assert_int_equal(it.created_ms, 1786352403000);
}

/* Amounts stay the text they were sent as, whichever form they come in. */
static void test_payment(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"id\":\"pay_1\",\"total\":49.90,\"refunded_amount\":0,\"currency\":\"usd\","
        "\"user\":{\"id\":\"user_1\"},\"membership\":{\"id\":\"mem_1\",\"status\":\"active\"},"
        "\"company\":{\"id\":\"biz_1\"}}",
        "{\"id\":\"pay_1\",\"total\":\"49.90\",\"refunded_amount\":\"0\",\"currency\":\"usd\","
        "\"user\":\"user_1\",\"membership\":\"mem_1\",\"company_id\":\"biz_1\"}",
        "{\"id\":\"pay_1\",\"total\":{\"amount\":\"49.90\",\"currency\":\"usd\"},"
        "\"refunded_amount\":{\"amount\":0,\"currency\":\"usd\"},\"user_id\":\"user_1\","
        "\"user\":null,\"membership_id\":\"mem_1\",\"account_id\":\"biz_1\"}",
        "{\"id\":\"pay_1\",\"final_amount\":49.90,\"refunded_amount\":0,\"currency\":\"usd\","
        "\"user_id\":\"user_1\",\"membership_id\":\"mem_1\",\"company_id\":\"biz_1\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct whop_payment it;
        must(whop_read(WHOP_OBJECT_payment, span_of(bodies[i]), &arena, &it));
        assert_string_equal(it.total, "49.90");
        assert_string_equal(it.refunded, "0");
        assert_string_equal(it.currency, "usd");
        assert_string_equal(it.user, "user_1");
        assert_string_equal(it.membership, "mem_1");
        assert_string_equal(it.company, "biz_1");
        assert_string_equal(it.subtotal, "");
    }
}

static void test_plan_numbers(void **state)
{
    (void)state;
    struct whop_plan it;
    must(whop_read(WHOP_OBJECT_plan,
                   SPAN("{\"id\":\"plan_1\",\"initial_price\":\"0.0\",\"renewal_price\":7500,"
                        "\"billing_period\":30,\"trial_period_days\":null,\"stock\":\"12\","
                        "\"unlimited_stock\":false,\"currency\":\"jpy\"}"),
                   &arena, &it));
    assert_string_equal(it.initial_price, "0.0");
    assert_string_equal(it.renewal_price, "7500");
    assert_string_equal(it.currency, "jpy");
    assert_int_equal(it.billing_period_days, 30);
    assert_true(it.trial_days == WHOP_NO_NUMBER && it.expiration_days == WHOP_NO_NUMBER);
    assert_int_equal(it.stock, 12);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "<html>",
        "[]",
        "null",
        "\"x\"",
        "{}",
        "{\"id\":null}",
        "{\"id\":\"\"}",
        "{\"id\":\"pay_1\",\"id\":\"pay_2\"}",
        "{\"id\":\"pay\\u00001\"}",
        "{\"id\":\"pay_1\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct whop_payment it;
        struct err err = whop_read(WHOP_OBJECT_payment, span_of(bodies[i]), &arena, &it);
        if (err.code != ERR_WHOP_ANSWER)
            fail_msg("%s: %s", bodies[i], err_name(err.code));
    }
}

static void test_pages(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        size_t count;
        bool more;
    } cases[] = {
        {"{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}],\"page_info\":{\"end_cursor\":\"c\","
         "\"has_next_page\":true}}",
         2, true},
        {"{\"data\":[{\"id\":\"a\"}],\"page_info\":{\"end_cursor\":\"c\",\"has_next_page\":false}}",
         1, false},
        {"{\"data\":[{\"id\":\"a\"}],\"page_info\":{\"end_cursor\":null,\"has_next_page\":true}}",
         1, false},
        {"{\"data\":[{\"id\":\"a\"}],\"page_info\":{\"end_cursor\":\"c\"}}", 1, true},
        {"{\"data\":[{\"id\":\"a\"}]}", 1, false},
        {"{\"data\":[],\"page_info\":{\"end_cursor\":\"c\",\"has_next_page\":true}}", 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct whop_page page;
        must(whop_read_page(WHOP_OBJECT_user, span_of(cases[i].body), &arena, &page));
        assert_int_equal(page.count, cases[i].count);
        assert_int_equal(page.more, cases[i].more);
    }
    struct whop_page page;
    must(whop_read_page(WHOP_OBJECT_user, span_of(cases[0].body), &arena, &page));
    const struct whop_user *users = page.items;
    assert_string_equal(users[0].id, "a");
    assert_string_equal(users[1].id, "b");
    assert_string_equal(page.next, "c");
    static const char *const bad[] = {
        "", "[]", "{}", "{\"data\":{}}", "{\"data\":[1]}", "{\"data\":[{\"id\":\"a\"},{}]}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = whop_read_page(WHOP_OBJECT_user, span_of(bad[i]), &arena, &page);
        assert_int_equal(err.code, ERR_WHOP_ANSWER);
    }
}

static void test_problem(void **state)
{
    (void)state;
    static const struct {
        const char *body, *code, *message;
        int64_t wait_ms;
    } cases[] = {
        {"{\"error\":{\"type\":\"rate_limit_exceeded\",\"message\":\"Try again in 12 seconds.\"}}",
         "rate_limit_exceeded", "Try again in 12 seconds.", 12000},
        {"{\"error\":{\"code\":\"forbidden\",\"message\":\"missing member:email:read\"}}",
         "forbidden", "missing member:email:read", -1},
        {"{\"error\":{\"status\":401,\"message\":\"no\"}}", "", "no", -1},
        {"{\"message\":\"You are being rate limited\"}", "", "You are being rate limited", -1},
        {"{\"error\":\"invalid_grant\",\"error_description\":\"used before\"}", "invalid_grant",
         "used before", -1},
        {"{\"errors\":[{\"message\":\"one\"},{\"message\":\"two\"}]}", "", "one", -1},
        {"{\"error\":{\"message\":7,\"type\":null}}", "", "7", -1},
        {"{\"error\":null}", "", "", -1},
        {"[1,2]", "", "", -1},
        {"Service Unavailable, try again in 1 minute", "",
         "Service Unavailable, try again in 1 minute", 60000},
        {"<html>502</html>", "", "", -1},
        {"", "", "", -1},
        {"{\"message\":\"key apik_abc, mail ada@example.test, id pay_T3st0000000001\"}", "",
         "key (hidden), mail (hidden), id pay_T3st0000000001", -1},
        {"{\"message\":\"eyJhbGciOi.x aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", "", "(hidden) (hidden)",
         -1},
        {"{\"message\":\"key=apik_abc xapik_abc secret/ws_1 views_2\"}", "",
         "(hidden) (hidden) (hidden) views_2", -1},
        {"{\"message\":\"a\\nb\\u0001c\"}", "", "a b c", -1},
        {"{\"message\":\"in 1 minute.\"}", "", "in 1 minute.", 60000},
        {"{\"message\":\"500 items, wait 2.5 secs\"}", "", "500 items, wait 2.5 secs", 3000},
        {"{\"message\":\"in 250ms\"}", "", "in 250ms", 250},
        {"{\"message\":\"in 99999999999999999999 hours\"}", "", "in 99999999999999999999 hours",
         3600000},
        {"{\"message\":\"in 12 sections\"}", "", "in 12 sections", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct whop_problem problem;
        whop_read_problem(span_of(cases[i].body), &problem);
        assert_string_equal(problem.code, cases[i].code);
        assert_string_equal(problem.message, cases[i].message);
        if (problem.wait_ms != cases[i].wait_ms)
            fail_msg("%s: %lld", cases[i].body, (long long)problem.wait_ms);
    }
}

static void test_a_long_problem_is_cut_between_characters(void **state)
{
    (void)state;
    struct buf body = {0};
    struct whop_problem problem;
    buf_add_text(&body, "{\"message\":\"x");
    for (int i = 0; i < 200; i++)
        buf_add_text(&body, "\xc3\xa9");
    buf_add_text(&body, "\"}");
    whop_read_problem(buf_span(&body), &problem);
    size_t len = strlen(problem.message);
    assert_true(len >= sizeof problem.message - 2 && len % 2 == 1);
    buf_close(&body);
}

static void check_url(const char *wanted, enum whop_operation operation, const char *const *ids,
                      const struct whop_filter *filters, size_t count)
{
    struct buf url = {0};
    must(whop_build_url(operation, "https://api.whop.com/api/v1/", ids, filters, count, &url));
    assert_string_equal(buf_text(&url), wanted);
    buf_close(&url);
}

static void test_urls(void **state)
{
    (void)state;
    const struct whop_filter filters[] = {{"company_id", "biz_1"}, {"statuses[]", "a&b c"}};
    check_url("https://api.whop.com/api/v1/memberships?company_id=biz_1&statuses%5B%5D=a%26b%20c",
              WHOP_OPERATION_memberships_list, NULL, filters, 2);
    check_url("https://api.whop.com/api/v1/users/a%2F..%3F/access/prod_1",
              WHOP_OPERATION_users_access, (const char *const[]){"a/..?", "prod_1"}, NULL, 0);
    static const char *const bad[] = {"", ".", ".."};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf url = {0};
        struct err err =
            whop_build_url(WHOP_OPERATION_payments_refund, "x", &bad[i], NULL, 0, &url);
        assert_int_equal(err.code, ERR_MALFORMED);
        buf_close(&url);
    }
}

static void test_owner_and_time(void **state)
{
    (void)state;
    char text[WHOP_TIME_SIZE];
    assert_string_equal(whop_owner_name(WHOP_OPERATION_plans_list, "2026-07-08-1"), "company_id");
    assert_string_equal(whop_owner_name(WHOP_OPERATION_plans_list, "2026-07-20"), "account_id");
    assert_string_equal(whop_owner_name(WHOP_OPERATION_members_list, "2026-07-20"), "company_id");
    assert_string_equal(whop_owner_name(WHOP_OPERATION_memberships_list, "2026-07-23"),
                        "account_id");
    assert_string_equal(whop_owner_name(WHOP_OPERATION_payments_list, "2026-07-23"), "company_id");
    assert_string_equal(whop_time_text(1786352403250, text), "2026-08-10T09:00:03.250Z");
}

static void test_bodies(void **state)
{
    (void)state;
    const struct whop_plan_input plan = {.product = "prod_1",
                                         .plan_type = "renewal",
                                         .renewal_price = "049.90",
                                         .initial_price = "0",
                                         .billing_period_days = 30,
                                         .title = "A \"b\"",
                                         .metadata = "{\"order\":\"7\"}"};
    const struct whop_checkout_input checkout = {
        .inline_plan = &plan, .new_plan = true, .redirect_url = "https://x.test/"};
    struct buf out = {0};
    must(whop_body_plan(&plan, "biz_1", "2026-07-20", &out));
    assert_string_equal(buf_text(&out),
                        "{\"account_id\":\"biz_1\",\"product_id\":\"prod_1\","
                        "\"plan_type\":\"renewal\",\"initial_price\":0,\"renewal_price\":49.90,"
                        "\"billing_period\":30,\"title\":\"A \\\"b\\\"\","
                        "\"metadata\":{\"order\":\"7\"}}");
    buf_clear(&out);
    must(whop_body_checkout(&checkout, "biz_1", "2026-07-01", &out));
    assert_non_null(strstr(buf_text(&out), "{\"plan\":{\"company_id\":\"biz_1\","));
    assert_non_null(strstr(buf_text(&out), "\"force_create_new_plan\":true},\"redirect_url\""));
    buf_clear(&out);
    must(whop_body_refund(NULL, &out));
    must(whop_body_refund("4.50", &out));
    assert_string_equal(buf_text(&out), "{}{\"partial_amount\":4.50}");
    buf_clear(&out);
    whop_body_refresh("app_1", NULL, "rt", &out);
    assert_string_equal(buf_text(&out),
                        "{\"grant_type\":\"refresh_token\",\"refresh_token\":\"rt\","
                        "\"client_id\":\"app_1\"}");
    buf_close(&out);
}

static void test_bodies_refused(void **state)
{
    (void)state;
    const struct whop_plan_input price = {.initial_price = "1e3"};
    const struct whop_plan_input list = {.metadata = "[1]"};
    const struct whop_checkout_input neither = {0};
    const struct whop_checkout_input both = {.plan = "plan_1", .inline_plan = &price};
    const struct whop_checkout_input plain = {.plan = "plan_1", .redirect_url = "http://x.test"};
    struct buf out = {0};
    const struct err errs[] = {
        whop_body_plan(&price, "biz_1", "2026-07-20", &out),
        whop_body_plan(&list, "biz_1", "2026-07-20", &out),
        whop_body_checkout(&neither, "biz_1", "2026-07-20", &out),
        whop_body_checkout(&both, "biz_1", "2026-07-20", &out),
        whop_body_checkout(&plain, "biz_1", "2026-07-20", &out),
        whop_body_refund("0.00", &out),
        whop_body_refund("-1", &out),
    };
    for (size_t i = 0; i < ARRAY_LEN(errs); i++)
        assert_int_equal(errs[i].code, ERR_MALFORMED);
    buf_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_membership, setup, teardown),
        cmocka_unit_test_setup_teardown(test_payment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
        cmocka_unit_test(test_problem),
        cmocka_unit_test(test_a_long_problem_is_cut_between_characters),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_owner_and_time),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_bodies_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
