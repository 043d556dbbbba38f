/* Covers codec/json: what is JSON and what is not, raw numbers, duplicate keys, depth, writing. */
#include "codec/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* In static tables, where SPAN cannot be used. */
#define BYTES(text) {text, sizeof(text) - 1}

static void test_refused(void **state)
{
    (void)state;
    static const struct span refused[] = {
        BYTES(""),
        BYTES(" "),
        BYTES("{"),
        BYTES("{}x"),
        BYTES("{'a':1}"),
        BYTES("[1,]"),
        BYTES("{\"a\":1,}"),
        BYTES("01"),
        BYTES("1."),
        BYTES(".5"),
        BYTES("+1"),
        BYTES("NaN"),
        BYTES("Infinity"),
        BYTES("\"\xff\""),
        BYTES("\"\\ud800\""),
        BYTES("\"\\udc00\\ud800\""),
        BYTES("\"a\0b\""),
        BYTES("\"a\nb\""),
        BYTES("\"\\x\""),
        BYTES("// c\n1"),
        BYTES("\xef\xbb\xbf{}"),
        BYTES("{a:1}"),
        BYTES("tru"),
        BYTES("\"\xc0\x80\""),
        BYTES("\"\xed\xa0\x80\""),
        BYTES("1 2"),
        BYTES("{}\0"),
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct json_doc *doc = json_parse(refused[i]);
        if (doc != NULL)
            fail_msg("%s was read", refused[i].ptr);
    }
}

static void test_depth(void **state)
{
    (void)state;
    for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        for (int shape = 0; shape < 3; shape++) {
            struct buf text = {0};
            for (int i = 0; i < depth; i++) /* with members before and behind the deep one */
                buf_add_text(&text, shape == 0 ? "[" : shape == 1 ? "[[],0,[1]," : "{\"a\":");
            buf_add_text(&text, "7");
            for (int i = 0; i < depth; i++)
                buf_add_text(&text, shape == 0 ? "]" : shape == 1 ? ",{},[2]]" : "}");
            struct json_doc *doc = json_parse(buf_span(&text));
            /* in shape 1 the deepest container has containers beside its number */
            int real = shape == 1 ? depth + 1 : depth;
            if ((doc != NULL) != (real <= JSON_DEPTH_MAX))
                fail_msg("shape %d, depth %d", shape, depth);
            json_free(doc);
            buf_close(&text);
        }
    }
    struct buf wide = {0}; /* many containers, none deep */
    buf_add_text(&wide, "[");
    for (int i = 0; i < 1000; i++)
        buf_add_text(&wide, "[{}],");
    buf_add_text(&wide, "1]");
    struct json_doc *doc = json_parse(buf_span(&wide));
    assert_non_null(doc);
    json_free(doc);
    buf_close(&wide);
}

static const struct json_value *member(const struct json_doc *doc, const char *name)
{
    const struct json_value *value = NULL;
    assert_true(json_pick(json_root(doc), &name, 1, &value));
    return value;
}

static void test_values(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    struct json_doc *doc = json_parse(
        SPAN("{\"n\":49.990,\"big\":18446744073709551616,\"exp\":1e400,\"min\":"
             "-9223372036854775808,\"max\":9223372036854775807,\"over\":9223372036854775808,"
             "\"under\":-9223372036854775809,\"s\":\"42\",\"minus\":\"-\",\"t\":true,\"f\":false,"
             "\"z\":null,\"o\":{},\"a\":[],\"one\":[5],\"u\":\"\\u00e9\\ud83d\\ude00\","
             "\"nul\":\"a\\u0000b\",\"e\":\"\",\"\":\"empty\",\"half\":0.5}"));
    assert_non_null(doc);
    bool odd = false;
    assert_string_equal(json_text(member(doc, "n"), &arena, &odd), "49.990");
    assert_string_equal(json_text(member(doc, "big"), &arena, &odd), "18446744073709551616");
    assert_string_equal(json_text(member(doc, "exp"), &arena, &odd), "1e400");
    assert_string_equal(json_text(member(doc, "u"), &arena, &odd), "\xc3\xa9\xf0\x9f\x98\x80");
    assert_string_equal(json_text(member(doc, "t"), &arena, &odd), "true");
    assert_string_equal(json_text(member(doc, "f"), &arena, &odd), "false");
    assert_string_equal(json_text(member(doc, ""), &arena, &odd), "empty");
    static const char *const empty[] = {"z", "o", "a", "e", "absent"};
    for (size_t i = 0; i < ARRAY_LEN(empty); i++)
        assert_string_equal(json_text(member(doc, empty[i]), &arena, &odd), "");
    assert_false(odd);
    assert_string_equal(json_text(member(doc, "nul"), &arena, &odd), "");
    assert_true(odd);
    assert_string_equal(json_text(member(doc, "nul"), &arena, NULL), "");

    int64_t number = 7;
    assert_true(json_integer(member(doc, "s"), &number) && number == 42);
    assert_true(json_integer(member(doc, "min"), &number) && number == INT64_MIN);
    assert_true(json_integer(member(doc, "max"), &number) && number == INT64_MAX);
    static const char *const no_integers[] = {"n", "big", "exp", "over", "under",  "minus", "t",
                                              "z", "o",   "a",   "e",    "absent", "half"};
    for (size_t i = 0; i < ARRAY_LEN(no_integers); i++)
        if (json_integer(member(doc, no_integers[i]), &number))
            fail_msg("%s is an integer", no_integers[i]);
    assert_true(number == INT64_MAX); /* untouched by failures */

    assert_true(json_flag(member(doc, "t"), false));
    assert_false(json_flag(member(doc, "f"), true));
    assert_true(json_flag(member(doc, "s"), true));
    assert_false(json_flag(NULL, false));
    assert_true(json_is_null(NULL) && json_is_null(member(doc, "z")));
    assert_false(json_is_null(member(doc, "o")));
    assert_true(json_is_empty(member(doc, "o")) && json_is_empty(member(doc, "a")));
    assert_false(json_is_empty(member(doc, "one")) || json_is_empty(member(doc, "e")));
    assert_false(json_is_empty(NULL));
    assert_true(json_is_array(member(doc, "one")) && !json_is_array(member(doc, "o")));
    assert_true(json_is_object(member(doc, "o")) && !json_is_object(NULL));
    assert_true(json_integer(json_first(member(doc, "one")), &number) && number == 5);
    assert_null(json_first(member(doc, "a")));
    assert_null(json_first(member(doc, "o")));
    assert_null(json_first(NULL));
    json_free(doc);
    json_free(NULL);
    arena_close(&arena);
}

static void test_pick(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "id", "absent", "ab", ""};
    const struct json_value *out[ARRAY_LEN(names)];
    struct json_doc *doc =
        json_parse(SPAN("{\"id\":1,\"ID\":2,\"a\":3,\"x\":4,\"x\":5,\"\":6,\"i\\u0064x\":7}"));
    int64_t number = 0;
    assert_true(json_pick(json_root(doc), names, ARRAY_LEN(names), out));
    assert_true(json_integer(out[0], &number) && number == 3);
    assert_true(json_integer(out[1], &number) && number == 1);
    assert_null(out[2]);
    assert_null(out[3]);
    assert_true(json_integer(out[4], &number) && number == 6);
    assert_true(json_pick(NULL, names, ARRAY_LEN(names), out));
    assert_null(out[1]);
    json_free(doc);

    static const struct {
        struct span text;
        bool unique;
    } cases[] = {
        {BYTES("{\"id\":1,\"id\":1}"), false},
        {BYTES("{\"id\":1,\"\\u0069d\":2}"), false},
        {BYTES("{\"\":1,\"\":2}"), false},
        {BYTES("{\"id\":null,\"a\":1,\"b\":1,\"id\":null}"), false},
        {BYTES("{\"id\":1,\"id\\u0000\":2}"), true},
        {BYTES("{\"b\":1,\"b\":2}"), true},
        {BYTES("[1,1]"), true},
        {BYTES("{}"), true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        doc = json_parse(cases[i].text);
        assert_non_null(doc);
        if (json_pick(json_root(doc), names, ARRAY_LEN(names), out) != cases[i].unique)
            fail_msg("%s", cases[i].text.ptr);
        json_free(doc);
    }
}

static void test_writer(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "a\"", "x\\\"\n\x01\x7f\xc3\xa9");
    json_put_text(&writer, "none", NULL);
    json_put_integer(&writer, "min", INT64_MIN);
    json_put_flag(&writer, "t", true);
    json_put_flag(&writer, "f", false);
    json_put_raw(&writer, "raw", "[1, 2]");
    json_put_raw(&writer, "noraw", NULL);
    json_begin_array(&writer, "list");
    json_put_integer(&writer, NULL, 1);
    json_begin_object(&writer, NULL);
    json_end_object(&writer);
    json_begin_array(&writer, NULL);
    json_end_array(&writer);
    json_put_text(&writer, NULL, "");
    json_end_array(&writer);
    json_put_integer(&writer, "last", 0);
    json_end_object(&writer);
    assert_string_equal(buf_text(&out),
                        "{\"a\\\"\":\"x\\\\\\\"\\u000a\\u0001\x7f\xc3\xa9\",\"none\":null,"
                        "\"min\":-9223372036854775808,\"t\":true,\"f\":false,\"raw\":[1, 2],"
                        "\"noraw\":null,\"list\":[1,{},[],\"\"],\"last\":0}");
    struct json_doc *doc = json_parse(buf_span(&out));
    assert_non_null(doc);
    struct arena arena;
    arena_init(&arena);
    assert_string_equal(json_text(member(doc, "a\""), &arena, NULL), "x\\\"\n\x01\x7f\xc3\xa9");
    arena_close(&arena);
    json_free(doc);
    buf_close(&out);
}

static void test_items(void **state)
{
    (void)state;
    struct arena arena;
    struct json_doc *doc = json_parse(SPAN("{\"list\":[1,[2,[3]],{\"a\":[4]},null,\"five\"],"
                                           "\"none\":[],\"odd\":{\"x\":1}}"));
    static const char *const wanted[] = {"1", "[2,[3]]", "{\"a\":[4]}", "null", "\"five\""};
    struct json_items items = json_items_of(member(doc, "list"));
    arena_init(&arena);
    assert_int_equal(items.left, ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_string_equal(json_copy(json_items_next(&items), &arena), wanted[i]);
    assert_null(json_items_next(&items));
    static const char *const empty[] = {"none", "odd", "absent"};
    for (size_t i = 0; i < ARRAY_LEN(empty); i++) {
        items = json_items_of(member(doc, empty[i]));
        assert_null(json_items_next(&items));
    }
    arena_close(&arena);
    json_free(doc);
}

/* A number is copied with the digits it was sent with. */
static void test_copy(void **state)
{
    (void)state;
    struct arena arena;
    struct json_doc *doc =
        json_parse(SPAN("{\"m\" : {\"n\": 1.50, \"e\": 1e400, \"t\": \"\\u00e9\\n\"}}"));
    arena_init(&arena);
    assert_string_equal(json_copy(member(doc, "m"), &arena),
                        "{\"n\":1.50,\"e\":1e400,\"t\":\"\xc3\xa9\\n\"}");
    assert_string_equal(json_copy(NULL, &arena), "");
    assert_true(!json_is_number(member(doc, "m")) && !json_is_number(NULL));
    arena_close(&arena);
    json_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_values),  cmocka_unit_test(test_pick),
        cmocka_unit_test(test_writer),  cmocka_unit_test(test_items),
        cmocka_unit_test(test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
