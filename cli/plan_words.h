#ifndef WHOPLINE_CLI_PLAN_WORDS_H
#define WHOPLINE_CLI_PLAN_WORDS_H
/* A plan's terms as an operator types them, in options or a file. Errors are USAGE. */
#include "cli/verbs.h"
#include "service/plan_whop.h"

#define PLAN_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* All terms that options tell, without the plan's id; of out only the product stays. */
MUST_CHECK struct err plan_words_terms(const struct given *given, struct plan *out);
/* Both or none (NULL). */
MUST_CHECK struct err plan_words_price(const char *price, const char *currency, struct plan *plan);
/* none, difference, full, or ask: a person decides. NULL leaves it as it is. */
MUST_CHECK struct err plan_words_proration(const char *text, struct plan *plan);

/* The same at Whop, and here when it is done there (credits_plans_whop.c). */
MUST_CHECK struct err credits_plans_update_at_whop(struct cli *cli, const struct given *given,
                                                   const struct plan *plan);
MUST_CHECK struct err credits_plans_retire_at_whop(struct cli *cli, const struct given *given,
                                                   const char *plan);

#endif
