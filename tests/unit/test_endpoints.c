/* Covers codec/endpoints: what is written is read again, and what is wrong with a file is said by
 * the endpoint's number, without its secrets. */
#include "codec/endpoints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECRET_TEXT "ws_secret,with \"all\" kinds of bytes"

static void test_round_trip(void **state)
{
    (void)state;
    const struct endpoint_entry entries[] = {
        {.name = "zeta",
         .company = "biz_Z",
         .schemes = "standard",
         .secrets = {{SECRET_TEXT, 5, INT64_MAX}, {"ws_old", 0, 1700000000000}},
         .secret_count = 2},
        {.name = "app-1", .company = "", .schemes = "legacy, standard"},
    };
    struct buf text = {0};
    struct arena arena;
    struct endpoint_list list;
    arena_init(&arena);
    endpoints_write(entries, ARRAY_LEN(entries), &text);
    struct err err = endpoints_parse(buf_span(&text), &arena, &list);
    if (err_failed(&err))
        fail_msg("%s\n%s", err_text(&err), buf_text(&text));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.entries[0].name, "app-1"); /* by name, for a binary search */
    assert_string_equal(list.entries[0].company, "");
    assert_int_equal(list.entries[0].secret_count, 0);
    const struct endpoint_entry *zeta = &list.entries[1];
    assert_string_equal(zeta->name, "zeta");
    assert_string_equal(zeta->company, "biz_Z");
    assert_string_equal(zeta->schemes, "standard");
    assert_int_equal(zeta->secret_count, 2);
    assert_string_equal(zeta->secrets[0].secret, SECRET_TEXT);
    assert_int_equal(zeta->secrets[0].from_ms, 5);
    assert_true(zeta->secrets[0].until_ms == INT64_MAX);
    assert_string_equal(zeta->secrets[1].secret, "ws_old");
    assert_true(zeta->secrets[1].until_ms == 1700000000000);
    buf_close(&text);
    arena_close(&arena);
}

#define FILE_OF(endpoints) "{\"version\":1,\"endpoints\":[" endpoints "]}"
#define ENDPOINT(name, secrets)                                                                    \
    "{\"name\":\"" name "\",\"company\":\"biz_1\",\"schemes\":\"standard\",\"secrets\":[" secrets  \
    "]}"
#define SECRET_OF(more) "{\"secret\":\"ws_topmost\"" more "}"

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", "not JSON"},
        {"{", "not JSON"},
        {"[]", "not an endpoints file"},
        {"{\"version\":1}", "not an endpoints file"},
        {"{\"version\":2,\"endpoints\":[]}", "another version"},
        {"{\"version\":1,\"version\":1,\"endpoints\":[]}", "not an endpoints file"},
        {FILE_OF("7"), "endpoint 1: not an object"},
        {FILE_OF(ENDPOINT("a", "") "," ENDPOINT("A", "")), "endpoint 2: its name"},
        {FILE_OF(ENDPOINT("", "")), "endpoint 1: its name"},
        {FILE_OF(ENDPOINT("-a", "")), "endpoint 1: its name"},
        {FILE_OF(ENDPOINT("a/b", "")), "endpoint 1: its name"},
        {FILE_OF(ENDPOINT("a", "") "," ENDPOINT("a", "")), "two endpoints"},
        {FILE_OF(ENDPOINT("a", "\"ws_topmost\"")), "a secret must be an object"},
        {FILE_OF(ENDPOINT("a", "{}")), "a secret is missing"},
        {FILE_OF(ENDPOINT("a", "{\"secret\":\"\"}")), "a secret is missing"},
        {FILE_OF(ENDPOINT("a", SECRET_OF(",\"from_ms\":\"soon\""))), "from_ms"},
        {FILE_OF(ENDPOINT("a", SECRET_OF(",\"until_ms\":[]"))), "until_ms"},
        {FILE_OF(ENDPOINT("a", SECRET_OF("") "," SECRET_OF("") "," SECRET_OF("") "," SECRET_OF(
                                   "") "," SECRET_OF(""))),
         "at most 4 secrets"},
        {FILE_OF("{\"name\":\"a\",\"schemes\":\"standard\",\"secrets\":[]}"), "company"},
        {FILE_OF("{\"name\":\"a\",\"company\":\"\",\"schemes\":\"md5\",\"secrets\":[]}"), "md5"},
        {FILE_OF("{\"name\":\"a\",\"company\":\"\",\"schemes\":\"\",\"secrets\":[]}"), "schemes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena;
        struct endpoint_list list;
        arena_init(&arena);
        struct err err = endpoints_parse(span_of(cases[i].text), &arena, &list);
        if (err.code != ERR_MALFORMED || strstr(err_text(&err), cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].text, err_text(&err));
        assert_null(strstr(err_text(&err), "ws_topmost"));
        assert_int_equal(list.count, 0);
        arena_close(&arena);
    }
}

static void test_schemes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned schemes;
        const char *unknown;
    } cases[] = {
        {"standard", SIGNATURE_STANDARD, ""},
        {" legacy,bare_hex ", SIGNATURE_LEGACY | SIGNATURE_BARE_HEX, ""},
        {"", 0, ""},
        {", ,", 0, ""},
        {"standard,md5", 0, "md5"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span unknown;
        assert_int_equal(endpoint_schemes(cases[i].text, &unknown), cases[i].schemes);
        assert_true(span_equal(unknown, span_of(cases[i].unknown)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_schemes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
