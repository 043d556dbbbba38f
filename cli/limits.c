#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "codec/json.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { US_PER_MS = 1000, MS_PER_S = 1000, US_PER_MINUTE = 60000000 };

/* A budget as Redis has it; times in us since 1970, 0 where there is none. */
struct budget {
    char *key;
    const char *credential; /* within key */
    const char *operation;
    int64_t interval_us;
    int64_t next_us;
    int64_t bulk_us;
    int64_t line_us; /* the later end of the two lines */
    int64_t frozen_us;
    int64_t last_us;
    int64_t calls;
};

struct listing {
    struct budget *budgets;
    size_t count;
    int64_t now_us;
};

/* --- reading --------------------------------------------------------------------------------- */

static void add(struct span key, void *data)
{
    struct listing *listing = data;
    struct budget budget = {.key = mem_zalloc(key.len + 1)};
    memcpy(budget.key, key.ptr, key.len);
    char *credential = strstr(budget.key, "{b:");
    char *end = credential != NULL ? strstr(credential, "}:") : NULL;
    bool known = end == NULL;
    for (size_t i = 0; i < listing->count && !known; i++)
        known = span_equal(span_of(listing->budgets[i].key), key);
    if (known) {
        free(budget.key);
        return;
    }
    budget.credential = credential + sizeof "{b:" - 1;
    budget.operation = end + sizeof "}:" - 1;
    listing->budgets =
        mem_realloc(listing->budgets, (listing->count + 1) * sizeof *listing->budgets);
    listing->budgets[listing->count++] = budget;
}

static struct err read_budget(struct redis *redis, struct budget *budget)
{
    struct redis_reply *reply = NULL;
    int64_t fields[8];
    TRY(ASK(redis, &reply, "HMGET", budget->key, "i", "t", "b", "f", "w", "v", "c", "n"));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        fields[i] = ask_number(redis_reply_text(redis_reply_at(reply, i)));
    redis_reply_free(reply);
    budget->interval_us = fields[0];
    budget->next_us = fields[1];
    budget->bulk_us = fields[2];
    budget->frozen_us = fields[3];
    budget->line_us = fields[4] > fields[5] ? fields[4] : fields[5];
    budget->last_us = fields[6];
    budget->calls = fields[7];
    return ERR_NONE;
}

static int by_name(const void *left, const void *right)
{
    const struct budget *a = left;
    const struct budget *b = right;
    return strcmp(a->key, b->key);
}

/* Keys with the credential's end cut off from the operation, so that both are texts. */
static void split_keys(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++) {
        struct budget *budget = &listing->budgets[i];
        budget->key[(budget->operation - budget->key) - 2] = '\0';
    }
}

static struct err read_all(struct cli *cli, struct listing *listing)
{
    char pattern[KEY_MAX];
    int64_t now_ms;
    key_budget(cli->config.stream_prefix, "*", "*", pattern);
    TRY(cli_open_redis(cli));
    TRY(ask_scan(cli->redis, "SCAN", NULL, pattern, add, listing));
    for (size_t i = 0; i < listing->count; i++)
        TRY(read_budget(cli->redis, &listing->budgets[i]));
    TRY(ask_time_ms(cli->redis, &now_ms));
    listing->now_us = now_ms * US_PER_MS;
    if (listing->count > 0)
        qsort(listing->budgets, listing->count, sizeof *listing->budgets, by_name);
    split_keys(listing);
    return ERR_NONE;
}

static void forget(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->budgets[i].key);
    free(listing->budgets);
}

/* --- showing --------------------------------------------------------------------------------- */

static int64_t ahead_ms(const struct listing *listing, int64_t us)
{
    return us > listing->now_us ? (us - listing->now_us) / US_PER_MS : 0;
}

static void print_json(const struct listing *listing)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < listing->count; i++) {
        const struct budget *it = &listing->budgets[i];
        json_begin_object(&json, NULL);
        json_put_text(&json, "credential", it->credential);
        json_put_text(&json, "operation", it->operation);
        json_put_integer(&json, "interval_us", it->interval_us);
        json_put_integer(&json, "next_ms", ahead_ms(listing, it->next_us));
        json_put_integer(&json, "bulk_next_ms", ahead_ms(listing, it->bulk_us));
        json_put_integer(&json, "line_ms", ahead_ms(listing, it->line_us));
        json_put_integer(&json, "frozen_ms", ahead_ms(listing, it->frozen_us));
        json_put_integer(&json, "calls", it->calls);
        json_put_integer(&json, "last_call_ms", it->last_us / US_PER_MS);
        json_end_object(&json);
    }
    json_end_array(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* "now" or "1.2 s". */
static void add_ahead(struct table *table, int64_t ms, const char *none)
{
    if (ms <= 0)
        table_add(table, none);
    else
        table_printf(table, "%lld.%lld s", (long long)(ms / MS_PER_S),
                     (long long)(ms % MS_PER_S / 100));
}

static void print_table(const struct listing *listing)
{
    static const char *const heads[] = {"CREDENTIAL", "OPERATION",  ">A MINUTE",
                                        ">NEXT CALL", ">NEXT BULK", ">LINE",
                                        ">FROZEN",    ">CALLS",     ">LAST"};
    struct table table;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t i = 0; i < listing->count; i++) {
        const struct budget *it = &listing->budgets[i];
        char number[OUTPUT_SHORT];
        char age[OUTPUT_SHORT];
        table_add(&table, it->credential);
        table_add(&table, it->operation);
        if (it->interval_us > 0)
            table_printf(&table, "%lld", (long long)(US_PER_MINUTE / it->interval_us));
        else
            table_add(&table, "");
        add_ahead(&table, ahead_ms(listing, it->next_us), "now");
        add_ahead(&table, ahead_ms(listing, it->bulk_us), "now");
        add_ahead(&table, ahead_ms(listing, it->line_us), "");
        add_ahead(&table, ahead_ms(listing, it->frozen_us), "");
        output_number(it->calls, number);
        table_add(&table, number);
        output_age((listing->now_us - it->last_us) / US_PER_MS / MS_PER_S, age);
        table_add(&table, it->last_us > 0 ? age : "");
    }
    table_print(&table, "");
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    struct listing listing = {0};
    bool json = false;
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option != 'j')
            return CLI_USAGE;
        json = true;
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no arguments");
    struct err err = read_all(cli, &listing);
    if (err_failed(&err)) {
        forget(&listing);
        return cli_fail(&err);
    }
    if (json)
        print_json(&listing);
    else if (listing.count == 0)
        printf("nothing was called within the last day\n");
    else
        print_table(&listing);
    forget(&listing);
    return CLI_OK;
}

const struct cli_command command_limits = {
    .name = "limits",
    .usage = "[--json]",
    .purpose = "budgets of calls to the outside: how much is left, what is frozen",
    .help =
        "Of each credential and operation used within the last day: how many calls a minute all\n"
        "processes together make at most, when the next one may go (bulk ones have a share), how\n"
        "long the LINE of those is that were told to come back, for how long the other side has\n"
        "asked to wait (FROZEN, by a 429), and the calls that were given a moment so far.\n",
    .run = run,
};
