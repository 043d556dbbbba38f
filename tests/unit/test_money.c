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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sign)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
