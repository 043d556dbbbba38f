#include "codec/money.h"

static size_t count_digits(const char *text, bool *positive)
{
    size_t count = 0;
    for (; text[count] >= '0' && text[count] <= '9'; count++)
        *positive = *positive || text[count] != '0';
    return count;
}

enum money_sign money_sign(const char *amount)
{
    bool positive = false;
    if (text_is_empty(amount))
        return MONEY_NONE;
    size_t digits = count_digits(amount, &positive);
    if (digits == 0 || digits > MONEY_INTEGER_DIGITS)
        return MONEY_ODD;
    const char *rest = amount + digits;
    if (*rest == '.') {
        digits = count_digits(rest + 1, &positive);
        if (digits == 0 || digits > MONEY_FRACTION_DIGITS)
            return MONEY_ODD;
        rest += 1 + digits;
    }
    if (*rest != '\0')
        return MONEY_ODD;
    return positive ? MONEY_POSITIVE : MONEY_ZERO;
}
