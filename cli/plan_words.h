#ifndef WHOPLINE_CLI_PLAN_WORDS_H
#define WHOPLINE_CLI_PLAN_WORDS_H
/* A plan's terms as an operator types them, in options or a file. Errors are USAGE. */
#include "service/plans.h"

#define PLAN_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* Both or none (NULL). */
MUST_CHECK struct err plan_words_price(const char *price, const char *currency, struct plan *plan);
/* none, difference, full, or ask: a person decides. NULL leaves it as it is. */
MUST_CHECK struct err plan_words_proration(const char *text, struct plan *plan);

#endif
