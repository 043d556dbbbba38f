#include "cli/verbs.h"

#include <stdio.h>

/* --- reading words --------------------------------------------------------------------------- */

/* Whether the verb has the option, and whether that takes a value. */
static bool has_option(const struct verb *verb, const char *name, size_t len, bool *takes_value)
{
    for (const char *at = verb->options; *at != '\0';) {
        size_t word = strcspn(at, " =");
        *takes_value = at[word] == '=';
        if (word == len && memcmp(at, name, len) == 0)
            return true;
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    return false;
}

static struct err take_option(struct given *given, const struct verb *verb, char **words, int count,
                              int *at)
{
    char *name = words[*at] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    bool takes_value = false;
    if (!has_option(verb, name, len, &takes_value))
        return err_make(ERR_USAGE, "%s %s has no option --%.*s; see %s --help", given->words0,
                        verb->name, (int)(len < 40 ? len : 40), name, given->words0);
    if (takes_value && value == NULL && *at + 1 < count)
        value = words[++*at];
    if (takes_value != (value != NULL))
        return err_make(ERR_USAGE, takes_value ? "--%.40s needs a value" : "--%.40s takes no value",
                        name);
    if (given->count == VERBS_GIVEN_MAX)
        return err_make(ERR_USAGE, "at most %d options at once", VERBS_GIVEN_MAX);
    name[len] = '\0';
    given->names[given->count] = name;
    given->values[given->count++] = value;
    return ERR_NONE;
}

static struct err read_words(struct given *given, const struct verb *verb, int count, char **words)
{
    bool only_plain = false;
    for (int i = 0; i < count; i++) {
        if (!only_plain && strcmp(words[i], "--") == 0) {
            only_plain = true;
        } else if (!only_plain && strncmp(words[i], "--", 2) == 0) {
            TRY(take_option(given, verb, words, count, &i));
        } else {
            if (given->plain_count == VERBS_PLAIN_MAX)
                return err_make(ERR_USAGE, "at most %d words at once", VERBS_PLAIN_MAX);
            given->plain[given->plain_count++] = words[i];
        }
    }
    if (given->plain_count < verb->plain_min || given->plain_count > verb->plain_max)
        return err_make(ERR_USAGE, "%s %s takes %s; see %s --help", given->words0, verb->name,
                        verb->plain, given->words0);
    return ERR_NONE;
}

/* --- finding the verb ------------------------------------------------------------------------ */

/* How many words the verb's name took, or -1. */
static int match(const char *name, int count, char **words)
{
    int taken = 0;
    while (*name != '\0') {
        size_t len = strcspn(name, " ");
        if (taken == count || strlen(words[taken]) != len || memcmp(words[taken], name, len) != 0)
            return -1;
        taken++;
        name += len;
        name += strspn(name, " ");
    }
    return taken;
}

int verbs_run(struct cli *cli, const struct verb *verbs, size_t verb_count, const char *choices,
              int count, char **words)
{
    struct given given = {.words0 = words[0]};
    const struct verb *found = NULL;
    int taken = -1;
    for (size_t i = 0; i < verb_count; i++) {
        int words_taken = match(verbs[i].name, count - 1, words + 1);
        if (words_taken > taken) {
            found = &verbs[i];
            taken = words_taken;
        }
    }
    bool plain_next = taken >= 0 && taken + 1 < count && words[taken + 1][0] != '-';
    if (found == NULL || (plain_next && found->plain_max == 0))
        return cli_usage(words[0], "%s, please", choices);
    struct err err = read_words(&given, found, count - 1 - taken, words + 1 + taken);
    if (!err_failed(&err))
        err = cli_open_database(cli);
    if (!err_failed(&err))
        err = found->act(cli, &given);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

/* --- what was given -------------------------------------------------------------------------- */

const char *given_text(const struct given *given, const char *name)
{
    for (size_t i = given->count; i-- > 0;)
        if (strcmp(given->names[i], name) == 0)
            return given->values[i];
    return NULL;
}

bool given_flag(const struct given *given, const char *name)
{
    for (size_t i = 0; i < given->count; i++)
        if (strcmp(given->names[i], name) == 0)
            return true;
    return false;
}

struct err given_need(const struct given *given, const char *name, const char **out)
{
    *out = given_text(given, name);
    if (*out == NULL || text_is_empty(*out))
        return err_make(ERR_USAGE, "it needs --%s; see %s --help", name, given->words0);
    return ERR_NONE;
}

struct err given_number(const struct given *given, const char *name, int64_t min, int64_t max,
                        int64_t *out)
{
    const char *text = given_text(given, name);
    int64_t number;
    if (text == NULL)
        return ERR_NONE;
    if (!cli_parse_number(text, min, max, &number))
        return err_make(ERR_USAGE, "--%s takes %lld to %lld", name, (long long)min, (long long)max);
    *out = number;
    return ERR_NONE;
}

struct err given_switch(const struct given *given, const char *name, bool *out)
{
    const char *text = given_text(given, name);
    if (text == NULL)
        return ERR_NONE;
    *out = strcmp(text, "on") == 0;
    return *out || strcmp(text, "off") == 0 ? ERR_NONE
                                            : err_make(ERR_USAGE, "--%s takes on or off", name);
}

struct err given_tenant(struct cli *cli, const struct given *given, int64_t *out, struct buf *slug)
{
    return cli_find_tenant(cli, given_text(given, "tenant"), out, slug);
}

const char *given_actor(const struct cli *cli, const struct given *given)
{
    return cli_actor(cli, given_text(given, "actor"));
}

struct err given_keep_request(struct err err, const char *request)
{
    if (err.code != ERR_PG_DOWN)
        return err;
    return err_make(ERR_PG_DOWN,
                    "%.200s; it may have been done all the same: --request %.200s does it at most"
                    " once",
                    err_text(&err), request);
}

struct err given_credits(const char *text, int64_t min, int64_t *out)
{
    if (!cli_parse_number(text, min, CREDITS_MOVED_MAX, out) || *out == 0 ||
        strspn(text, "+-0123456789") != strlen(text))
        return err_make(ERR_USAGE, "\"%.40s\" is no number of credits: %lld to %lld, and not 0",
                        text, (long long)min, (long long)CREDITS_MOVED_MAX);
    return ERR_NONE;
}
