#ifndef WHOPLINE_CLI_VERBS_H
#define WHOPLINE_CLI_VERBS_H
/* Commands that are families of verbs ("credits plans add"): each verb says which words and options
 * it takes, and anything else is refused, so that no option is silently without effect.
 *
 * Unlike getopt's, plain words may be negative numbers ("credits adjust USER -50"). Everything is
 * borrowed from argv. */
#include "cli/cli.h"

enum { VERBS_PLAIN_MAX = 32, VERBS_GIVEN_MAX = 64 };

/* What was typed behind the verb. */
struct given {
    const char *words0;
    const char *plain[VERBS_PLAIN_MAX];
    size_t plain_count;
    const char *names[VERBS_GIVEN_MAX];
    const char *values[VERBS_GIVEN_MAX]; /* NULL: a flag */
    size_t count;
};

struct verb {
    const char *name;    /* one or two words; "" where the family's name alone will do */
    const char *options; /* "tenant= json": with = it takes a value */
    const char *plain;   /* its plain words, for messages: "USER ±N" */
    size_t plain_min;
    size_t plain_max;
    struct err (*act)(struct cli *cli, const struct given *given);
};

/* Finds the verb, reads its words, opens the database and acts; returns the exit status.
 * choices: what to say if there is no such verb. */
int verbs_run(struct cli *cli, const struct verb *verbs, size_t verb_count, const char *choices,
              int count, char **words);

const char *given_text(const struct given *given, const char *name); /* NULL: not given */
bool given_flag(const struct given *given, const char *name);
/* Given and not empty, or a USAGE error that names it. */
MUST_CHECK struct err given_need(const struct given *given, const char *name, const char **out);
/* Leaves *out alone if the option is not given. */
MUST_CHECK struct err given_number(const struct given *given, const char *name, int64_t min,
                                   int64_t max, int64_t *out);
/* "on" or "off". */
MUST_CHECK struct err given_switch(const struct given *given, const char *name, bool *out);
/* --tenant, else the only one. */
MUST_CHECK struct err given_tenant(struct cli *cli, const struct given *given, int64_t *out,
                                   struct buf *slug);
const char *given_actor(const struct cli *cli, const struct given *given);

/* Adds to the error of a lost connection how to ask again: COMMIT may have been done all the same,
 * and only with the same request's id a repeated command does nothing. */
MUST_CHECK struct err given_keep_request(struct err err, const char *request);

/* A signed number of credits, not 0: "500", "+500", "-500"; at most CREDITS_MOVED_MAX. */
#define CREDITS_MOVED_MAX INT64_C(1000000000000)
MUST_CHECK struct err given_credits(const char *text, int64_t min, int64_t *out);

#endif
