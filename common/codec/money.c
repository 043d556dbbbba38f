#include "codec/money.h"

#include <stdio.h>
#include <strings.h>

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

int money_decimals(const char *currency)
{
    static const char *const none[] = {"jpy", "krw", "vnd", "clp", "pyg", "isk", "ugx", "xaf",
                                       "xof", "xpf", "rwf", "kmf", "gnf", "djf", "bif", "vuv"};
    static const char *const three[] = {"kwd", "bhd", "jod", "tnd", "omr", "iqd", "lyd"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        if (strcasecmp(none[i], currency) == 0)
            return 0;
    for (size_t i = 0; i < ARRAY_LEN(three); i++)
        if (strcasecmp(three[i], currency) == 0)
            return 3;
    return 2;
}

bool money_parse_minor(const char *amount, const char *currency, int64_t *out_minor)
{
    enum money_sign sign = money_sign(amount);
    int decimals = money_decimals(currency);
    int64_t minor = 0;
    const char *at = amount;
    if (sign != MONEY_ZERO && sign != MONEY_POSITIVE)
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        minor = minor * 10 + (*at - '0');
    if (*at == '.')
        at++;
    if (strlen(at) > (size_t)decimals)
        return false;
    for (int i = 0; i < decimals; i++)
        minor = minor * 10 + (*at != '\0' ? *at++ - '0' : 0);
    *out_minor = minor;
    return true;
}

void money_format_minor(int64_t minor, const char *currency, char out[MONEY_TEXT_SIZE])
{
    int decimals = money_decimals(currency);
    int64_t unit = decimals == 0 ? 1 : decimals == 3 ? 1000 : 100;
    if (decimals == 0)
        snprintf(out, MONEY_TEXT_SIZE, "%lld", (long long)minor);
    else
        snprintf(out, MONEY_TEXT_SIZE, "%lld.%0*lld", (long long)(minor / unit), decimals,
                 (long long)(minor % unit));
}

/* Without leading zeros, and without those that end a fraction. */
static struct span significant(const char *amount, struct span *fraction)
{
    size_t zeros = strspn(amount, "0");
    const char *from = amount + zeros;
    struct span whole = {from, strcspn(from, ".")};
    const char *rest = from + whole.len;
    if (*rest == '.')
        rest++;
    *fraction = (struct span){rest, strlen(rest)};
    while (fraction->len > 0 && fraction->ptr[fraction->len - 1] == '0')
        fraction->len--;
    return whole;
}

bool money_is_equal(const char *one, const char *other)
{
    struct span fractions[2];
    enum money_sign sign = money_sign(one);
    if (sign != money_sign(other) || (sign != MONEY_POSITIVE && sign != MONEY_ZERO))
        return false;
    struct span first = significant(one, &fractions[0]);
    struct span second = significant(other, &fractions[1]);
    return span_equal(first, second) && span_equal(fractions[0], fractions[1]);
}
