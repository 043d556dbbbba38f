#ifndef WHOPLINE_CLI_CREDITS_H
#define WHOPLINE_CLI_CREDITS_H
/* Prices as the operator types and reads them: decimal text in major units, kept in minor ones (by
 * the currency's number of decimals, ISO 4217). Pure; any thread. */
#include "cli/output.h"

/* "7.50" in usd is 750. False if it is no such number or has more decimals than the currency. */
bool credits_parse_price(const char *text, const char *currency, int64_t *out_minor);
void credits_format_price(int64_t minor, const char *currency, char out[OUTPUT_SHORT]);

#endif
