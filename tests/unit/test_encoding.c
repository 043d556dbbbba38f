/* Covers codec/encoding: RFC 4648's vectors, every length both ways, and what is refused. */
#include "codec/encoding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_hex(void **state)
{
    (void)state;
    char text[9];
    uint8_t bytes[4];
    encoding_hex("\x00\x7f\xa5\xff", 4, text);
    assert_string_equal(text, "007fa5ff");
    assert_true(encoding_unhex(span_of(text), bytes, 4));
    assert_memory_equal(bytes, "\x00\x7f\xa5\xff", 4);
    assert_true(encoding_unhex(SPAN(""), bytes, 0));
    static const char *const refused[] = {"007fa5f", "007fa5FF", "007fa5f",  "007fa5ff00",
                                          "007fa5",  "007fa5fg", " 07fa5ff", "0x7fa5ff"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (encoding_unhex(span_of(refused[i]), bytes, 4))
            fail_msg("%s was read", refused[i]);
}

static void test_base64_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *text;
    } vectors[] = {{"", ""},
                   {"f", "Zg=="},
                   {"fo", "Zm8="},
                   {"foo", "Zm9v"},
                   {"foob", "Zm9vYg=="},
                   {"fooba", "Zm9vYmE="},
                   {"foobar", "Zm9vYmFy"},
                   {"\xff\xef\xbf", "/++/"}};
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        char text[16];
        uint8_t bytes[16];
        size_t len = 99;
        size_t plain = strlen(vectors[i].bytes);
        assert_true(ENCODING_BASE64_SIZE(plain) == strlen(vectors[i].text) + 1);
        encoding_base64(vectors[i].bytes, plain, text);
        assert_string_equal(text, vectors[i].text);
        assert_true(encoding_unbase64(span_of(text), bytes, &len));
        assert_int_equal(len, plain);
        assert_memory_equal(bytes, vectors[i].bytes, len);
        struct span unpadded = {text, strcspn(text, "=")};
        assert_true(encoding_unbase64(unpadded, bytes, &len));
        assert_int_equal(len, plain);
    }
}

static void test_base64_lengths(void **state)
{
    (void)state;
    uint8_t bytes[67];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 151 + 7);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        char text[ENCODING_BASE64_SIZE(sizeof bytes)];
        uint8_t again[sizeof bytes + 5];
        size_t len = 0;
        encoding_base64(bytes, n, text);
        assert_int_equal(strlen(text) + 1, ENCODING_BASE64_SIZE(n));
        assert_true(encoding_unbase64(span_of(text), again, &len));
        assert_int_equal(len, n);
        assert_memory_equal(again, bytes, n);
    }
}

static void test_base64_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "Z",        "Zg=",  "Zg===", "=",     "==",    "====",   "Zm9v=",    "Zm9v==",
        "Zm9v====", "Zh==", "Zm9=",  "Zm-_",  "Zm 9v", "Zm9v\n", "Zg==Zg==", "Z===",
        "Zm9vY",    "=Zm9", "Zm=v",  "Zm9v ", "Zh",    "Zm9",
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        uint8_t bytes[16];
        size_t len = 0;
        if (encoding_unbase64(span_of(refused[i]), bytes, &len))
            fail_msg("%s was read", refused[i]);
    }
}

/* In static tables, where SPAN cannot be used. */
#define BYTES(text) {text, sizeof(text) - 1}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        struct span bytes;
        bool text;
    } cases[] = {
        {BYTES(""), true},
        {BYTES("plain\t\x7f"), true},
        {BYTES("\xc2\x80 \xdf\xbf"), true},
        {BYTES("\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"), true},
        {BYTES("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"), true},
        {BYTES("a\0b"), false},
        {BYTES("\x80"), false},
        {BYTES("\xc0\x80"), false},
        {BYTES("\xc1\xbf"), false},
        {BYTES("\xe0\x9f\xbf"), false},
        {BYTES("\xed\xa0\x80"), false},
        {BYTES("\xf0\x8f\xbf\xbf"), false},
        {BYTES("\xf4\x90\x80\x80"), false},
        {BYTES("\xf5\x80\x80\x80"), false},
        {BYTES("\xff"), false},
        {BYTES("\xc2"), false},
        {BYTES("\xe2\x82"), false},
        {BYTES("\xe2\x82x"), false},
        {BYTES("\xf0\x9f\x98"), false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (encoding_is_text(cases[i].bytes) != cases[i].text)
            fail_msg("case %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64_vectors),
        cmocka_unit_test(test_base64_lengths),
        cmocka_unit_test(test_base64_refused),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
