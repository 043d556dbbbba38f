#ifndef WHOPLINE_MONEY_H
#define WHOPLINE_MONEY_H
/* Amounts as the sender wrote them: decimal text in major units, never a double.
 *
 * Most decisions need no arithmetic, only whether anything was paid at all; what is not plainly
 * nothing or plainly something is for a person to look at, and is never rounded. */
#include "base/base.h"

enum {
    MONEY_INTEGER_DIGITS = 12,
    MONEY_FRACTION_DIGITS = 6,
};

enum money_sign {
    MONEY_NONE,     /* "" */
    MONEY_ZERO,     /* "0", "0.00" */
    MONEY_POSITIVE, /* digits, and a fraction or none, not all of them 0 */
    MONEY_ODD,      /* a sign, an exponent, too many digits, no number */
};

enum money_sign money_sign(const char *amount);

/* Whether two plain amounts are the same number ("4.5" and "4.50"); false if one is not plain. */
bool money_is_equal(const char *one, const char *other);

/* Decimals a currency has (ISO 4217): 2 but for those that are known to have none or three. */
int money_decimals(const char *currency);

/* "7.50" in usd is 750 minor units. False if it is no such number, or has more decimals than the
 * currency. */
bool money_parse_minor(const char *amount, const char *currency, int64_t *out_minor);

enum { MONEY_TEXT_SIZE = 24 };
void money_format_minor(int64_t minor, const char *currency, char out[MONEY_TEXT_SIZE]);

#endif
