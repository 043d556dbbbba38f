/* Covers codec/money: what is plainly nothing, plainly something, and for a person to look at. */
#include "codec/money.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_sign(void **state)
{
    (void)state;
    static const struct {
        const char *amount;
        enum money_sign sign;
    } cases[] = {
        {"", MONEY_NONE},
        {"0", MONEY_ZERO},
        {"0.00", MONEY_ZERO},
        {"000", MONEY_ZERO},
        {"0.000000", MONEY_ZERO},
        {"49.99", MONEY_POSITIVE},
        {"7500", MONEY_POSITIVE},
        {"0.01", MONEY_POSITIVE},
        {"0.000001", MONEY_POSITIVE},
        {"007", MONEY_POSITIVE},
        {"999999999999", MONEY_POSITIVE},
        {"999999999999.999999", MONEY_POSITIVE},
        {"0.0000001", MONEY_ODD},
        {"0.0000000", MONEY_ODD},
        {"1000000000000", MONEY_ODD},
        {"0000000000001", MONEY_ODD},
        {"123456789012345678901234567890", MONEY_ODD},
        {"-1", MONEY_ODD},
        {"-0", MONEY_ODD},
        {"+1", MONEY_ODD},
        {"1e3", MONEY_ODD},
        {"1E3", MONEY_ODD},
        {"0e0", MONEY_ODD},
        {".5", MONEY_ODD},
        {"5.", MONEY_ODD},
        {"1.2.3", MONEY_ODD},
        {"1,000", MONEY_ODD},
        {" 1", MONEY_ODD},
        {"1 ", MONEY_ODD},
        {"$1", MONEY_ODD},
        {"0x10", MONEY_ODD},
        {"NaN", MONEY_ODD},
        {"true", MONEY_ODD},
        {".", MONEY_ODD},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (money_sign(cases[i].amount) != cases[i].sign)
            fail_msg("\"%s\" is %d", cases[i].amount, money_sign(cases[i].amount));
}

static void test_minor_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *currency;
        int64_t minor; /* -1: refused */
        const char *shown;
    } cases[] = {
        {"7.50", "usd", 750, "7.50"},
        {"7.5", "USD", 750, "7.50"},
        {"7", "eur", 700, "7.00"},
        {"0", "usd", 0, "0.00"},
        {"0.05", "usd", 5, "0.05"},
        {"7500", "jpy", 7500, "7500"},
        {"1.234", "kwd", 1234, "1.234"},
        {"1.2", "jpy", -1, NULL},
        {"1.234", "usd", -1, NULL},
        {"-1", "usd", -1, NULL},
        {"7.", "usd", -1, NULL},
        {"999999999999.99", "usd", 99999999999999, "999999999999.99"},
        {"", "usd", -1, NULL},
        {"1e3", "usd", -1, NULL},
        {"1234567890123456", "usd", -1, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t minor = -1;
        char shown[MONEY_TEXT_SIZE];
        bool good = money_parse_minor(cases[i].text, cases[i].currency, &minor);
        assert_int_equal(good, cases[i].minor >= 0);
        assert_int_equal(minor, cases[i].minor);
        if (!good)
            continue;
        money_format_minor(minor, cases[i].currency, shown);
        assert_string_equal(shown, cases[i].shown);
    }
}

static void test_equal(void **state)
{
    static const struct {
        const char *one;
        const char *other;
        bool same;
    } cases[] = {
        {"4.5", "4.50", true}, {"10", "10.00", true},  {"0", "0.000", true},   {"007", "7", true},
        {"10", "1", false},    {"1.05", "1.5", false}, {"0.1", "1", false},    {"", "", false},
        {"-1", "-1", false},   {"1e2", "100", false},  {"100", "1.00", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (money_is_equal(cases[i].one, cases[i].other) != cases[i].same)
            fail_msg("\"%s\" and \"%s\"", cases[i].one, cases[i].other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal), cmocka_unit_test(test_sign),
                                       cmocka_unit_test(test_minor_units)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
