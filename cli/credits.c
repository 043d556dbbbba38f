/* whopline credits: balances, the plans that sell credits, and payments waiting for a person. */
#include "cli/credits.h"
#include "cli/body.h"
#include "cli/cli.h"
#include "cli/outcome.h"
#include "cli/output.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { CREDITS_MAX = 2000000000, ROWS_MAX = 1000 };

struct credits_options {
    const char *tenant;
    const char *plan;
    const char *name;
    const char *pack;
    const char *price;
    const char *currency;
    int64_t credits;
    bool free_too;
    bool json;
};

/* --- show ------------------------------------------------------------------------------------ */

#define LEDGER_SQL                                                                                 \
    "SELECT c.created_at, c.kind, c.amount, c.balance_after, c.source_type, c.source_id,"          \
    " p.plan_name AS plan, c.reason, c.flag, c.event_id"                                           \
    " FROM credit_transactions c LEFT JOIN whop_plans p ON p.id = c.plan_id"                       \
    " WHERE c.account_id = a.id ORDER BY c.id DESC LIMIT 1000"

#define SHOW_JSON                                                                                  \
    "SELECT t.slug AS tenant, a.owner_id AS user_id, a.credits_balance AS balance,"                \
    " (SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM (" LEDGER_SQL ") l) AS ledger"         \
    " FROM credit_accounts a JOIN tenants t ON t.id = a.tenant_id"                                 \
    " WHERE a.owner_id = $1 AND ($2::text IS NULL OR t.slug = $2 OR t.whop_company_id = $2)"       \
    " ORDER BY t.slug"

#define SHOW_PEOPLE                                                                                \
    "SELECT t.slug, a.credits_balance, " OUTCOME_UTC(                                              \
        "l.created_at") ", l.kind, l.amount, l.balance_after, l.source_type || ' ' || "            \
                        "l.source_id, l.plan, l.flag"                                              \
                        " FROM credit_accounts a JOIN tenants t ON t.id = a.tenant_id"             \
                        " LEFT JOIN LATERAL (" LEDGER_SQL ") l ON true"                            \
                        " WHERE a.owner_id = $1 AND ($2::text IS NULL OR t.slug = $2 OR "          \
                        "t.whop_company_id = $2)"                                                  \
                        " ORDER BY t.slug, l.created_at DESC"

static void print_account(struct pg *pg, const char *user, size_t from, size_t to)
{
    static const char *const heads[] = {"TIME (UTC)", "KIND", ">CREDITS", ">BALANCE",
                                        "SOURCE",     "PLAN", "FLAG"};
    struct table table;
    char number[OUTPUT_SHORT];
    output_number(pg_get_integer(pg, from, 1), number);
    printf("%s at %s: balance %s%s%s\n", user, pg_get(pg, from, 0), output_on(OUTPUT_STRONG),
           number, output_off());
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = from; row < to && !pg_is_null(pg, row, 2); row++) {
        table_add(&table, pg_get(pg, row, 2));
        table_add(&table, pg_get(pg, row, 3));
        output_number(pg_get_integer(pg, row, 4), number);
        table_printf(&table, "%s%s", pg_get_integer(pg, row, 4) > 0 ? "+" : "", number);
        output_number(pg_get_integer(pg, row, 5), number);
        table_add(&table, number);
        for (size_t column = 6; column < 9; column++)
            table_add(&table, pg_get(pg, row, column));
    }
    table_print(&table, "  ");
}

static struct err show(struct cli *cli, const struct credits_options *options, const char *user)
{
    const struct pg_param params[] = {pg_text(user), pg_text(options->tenant)};
    if (options->json)
        return cli_print_json(cli, SHOW_JSON, params, ARRAY_LEN(params));
    TRY(pg_exec(cli->pg, SHOW_PEOPLE, params, ARRAY_LEN(params)));
    size_t rows = pg_rows(cli->pg);
    if (rows == 0)
        return err_make(
            ERR_NOT_FOUND,
            "%.60s has no credits account; if a payment is missing: whopline trace %.60s", user,
            user);
    for (size_t from = 0, to = 0; from < rows; from = to) {
        while (to < rows && strcmp(pg_get(cli->pg, to, 0), pg_get(cli->pg, from, 0)) == 0)
            to++;
        print_account(cli->pg, user, from, to);
    }
    return ERR_NONE;
}

/* --- plans ----------------------------------------------------------------------------------- */

/* Decimals of a currency that has not two (ISO 4217). */
static int currency_exponent(const char *currency)
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

bool credits_parse_price(const char *text, const char *currency, int64_t *out_minor)
{
    enum { DIGITS_MAX = 15 };
    int64_t minor = 0;
    int exponent = currency_exponent(currency);
    size_t whole = strspn(text, "0123456789");
    const char *fraction = text[whole] == '.' ? text + whole + 1 : "";
    if (!body_is_amount(text) || whole > DIGITS_MAX || strlen(fraction) > (size_t)exponent)
        return false;
    for (size_t i = 0; i < whole; i++)
        minor = minor * 10 + (text[i] - '0');
    for (int i = 0; i < exponent; i++) {
        int digit = *fraction != '\0' ? *fraction++ - '0' : 0;
        minor = minor * 10 + digit;
    }
    *out_minor = minor;
    return true;
}

#define PLANS_FROM                                                                                 \
    " FROM whop_plans p JOIN tenants t ON t.id = p.tenant_id"                                      \
    " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                           \
    " ORDER BY t.slug, p.credits_amount, p.valid_from"

static struct err plans_list(struct cli *cli, const struct credits_options *options)
{
    static const char *const heads[] = {"TENANT", "PLAN",    "NAME",        ">CREDITS", ">PRICE",
                                        "PACK",   "IF FREE", "SINCE (UTC)", "UNTIL"};
    const struct pg_param params[] = {pg_text(options->tenant)};
    struct table table;
    if (options->json)
        return cli_print_json(
            cli,
            "SELECT t.slug AS tenant, p.whop_plan_id AS plan, p.plan_name AS name,"
            " p.credits_amount AS credits, p.price_cents AS price_minor,"
            " p.currency, p.pack_id, p.credits_when_free,"
            " nullif(p.valid_from, '-infinity') AS valid_from,"
            " nullif(p.valid_to, 'infinity') AS valid_to" PLANS_FROM,
            params, 1);
    TRY(pg_exec(
        cli->pg,
        "SELECT t.slug, p.whop_plan_id, p.plan_name, p.credits_amount, p.price_cents,"
        " p.currency, p.pack_id, p.credits_when_free,"
        " CASE WHEN p.valid_from = '-infinity' THEN 'always' ELSE " OUTCOME_UTC(
            "p.valid_from") " END,"
                            " CASE WHEN p.valid_to = 'infinity' THEN 'on sale' ELSE " OUTCOME_UTC(
                                "p.valid_to") " END" PLANS_FROM,
        params, 1));
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(cli->pg); row++) {
        char number[OUTPUT_SHORT];
        for (size_t column = 0; column < 3; column++)
            table_add(&table, pg_get(cli->pg, row, column));
        output_number(pg_get_integer(cli->pg, row, 3), number);
        table_add(&table, number);
        if (pg_is_null(cli->pg, row, 4)) {
            table_add(&table, "");
        } else {
            const char *currency = pg_get(cli->pg, row, 5);
            char price[OUTPUT_SHORT];
            credits_format_price(pg_get_integer(cli->pg, row, 4), currency, price);
            table_printf(&table, "%s %s", price, currency);
        }
        table_add(&table, pg_get(cli->pg, row, 6));
        table_add(&table, pg_get_flag(cli->pg, row, 7) ? "yes" : "no");
        table_add(&table, pg_get(cli->pg, row, 8));
        table_add(&table, pg_get(cli->pg, row, 9));
    }
    if (pg_rows(cli->pg) == 0)
        printf("no plans yet; see whopline credits --help\n");
    else
        table_print(&table, "");
    buf_close(&table.text);
    return ERR_NONE;
}

void credits_format_price(int64_t minor, const char *currency, char out[OUTPUT_SHORT])
{
    int exponent = currency_exponent(currency);
    int64_t unit = exponent == 0 ? 1 : exponent == 3 ? 1000 : 100;
    if (exponent == 0)
        snprintf(out, OUTPUT_SHORT, "%lld", (long long)minor);
    else
        snprintf(out, OUTPUT_SHORT, "%lld.%0*lld", (long long)(minor / unit), exponent,
                 (long long)(minor % unit));
}

/* Refuses what would sell two things under one id. */
static struct err check_free(struct pg *pg, int64_t tenant, const struct credits_options *options)
{
    TRY(PG_EXEC(pg,
                "SELECT whop_plan_id = $2, whop_plan_id, plan_name FROM whop_plans"
                " WHERE tenant_id = $1 AND valid_to = 'infinity'"
                " AND (whop_plan_id = $2 OR pack_id = $3) LIMIT 1",
                pg_integer(tenant), pg_text(options->plan), pg_text_or_null(options->pack)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    if (pg_get_flag(pg, 0, 0))
        return err_make(
            ERR_REFUSED,
            "%.60s is on sale already as \"%.40s\": retire it first, then its new terms "
            "hold from now on",
            options->plan, pg_get(pg, 0, 2));
    return err_make(ERR_REFUSED, "pack %.60s belongs to plan %.60s", options->pack,
                    pg_get(pg, 0, 1));
}

/* A plan's first row holds for all of the past, later ones from now on: an old payment keeps the
 * terms it was paid under. */
static struct err insert_plan(struct pg *pg, int64_t tenant, const struct credits_options *options,
                              const int64_t *price_minor)
{
    char price[24] = "";
    if (price_minor != NULL)
        snprintf(price, sizeof price, "%lld", (long long)*price_minor);
    return PG_EXEC(pg,
                   "INSERT INTO whop_plans (tenant_id, whop_plan_id, pack_id, plan_name,"
                   " credits_amount, price_cents, currency, credits_when_free, valid_from)"
                   " SELECT $1, $2, $3, $4, $5, $6, lower($7), $8,"
                   " CASE WHEN EXISTS (SELECT 1 FROM whop_plans WHERE tenant_id = $1"
                   "  AND (whop_plan_id = $2 OR pack_id = $3))"
                   " THEN whopline_now() ELSE '-infinity' END",
                   pg_integer(tenant), pg_text(options->plan), pg_text_or_null(options->pack),
                   pg_text(options->name), pg_integer(options->credits), pg_text_or_null(price),
                   pg_text_or_null(options->currency), pg_flag(options->free_too));
}

static struct err plans_add(struct cli *cli, const struct credits_options *options)
{
    struct buf slug = {0};
    int64_t tenant = 0;
    int64_t price_minor = 0;
    const int64_t *price = options->price != NULL ? &price_minor : NULL;
    if (options->plan == NULL || options->name == NULL || options->credits < 0)
        return err_make(ERR_USAGE, "plans add needs --plan, --name and --credits");
    if ((options->price == NULL) != (options->currency == NULL))
        return err_make(ERR_USAGE, "--price and --currency belong together");
    if (price != NULL && !credits_parse_price(options->price, options->currency, &price_minor))
        return err_make(ERR_USAGE, "\"%.40s\" is not a price in %.8s", options->price,
                        options->currency);
    struct err err = cli_find_tenant(cli, options->tenant, &tenant, &slug);
    if (!err_failed(&err))
        err = pg_begin(cli->pg);
    if (!err_failed(&err))
        err = check_free(cli->pg, tenant, options);
    if (!err_failed(&err))
        err = insert_plan(cli->pg, tenant, options, price);
    if (!err_failed(&err))
        err = pg_commit(cli->pg);
    pg_rollback(cli->pg);
    if (!err_failed(&err))
        printf("%s: %s sells %lld credits\n", buf_text(&slug), options->plan,
               (long long)options->credits);
    buf_close(&slug);
    return err;
}

static struct err plans_retire(struct cli *cli, const struct credits_options *options)
{
    int64_t tenant = 0;
    if (options->plan == NULL)
        return err_make(ERR_USAGE, "plans retire needs --plan");
    TRY(cli_find_tenant(cli, options->tenant, &tenant, NULL));
    TRY(PG_EXEC(cli->pg,
                "UPDATE whop_plans SET valid_to = whopline_now(), updated_at = whopline_now()"
                " WHERE tenant_id = $1 AND whop_plan_id = $2 AND valid_to = 'infinity'",
                pg_integer(tenant), pg_text(options->plan)));
    if (pg_affected(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "no plan %.60s is on sale", options->plan);
    printf("%s is retired: payments made from now on are not credited by it\n", options->plan);
    return ERR_NONE;
}

/* --- review ---------------------------------------------------------------------------------- */

#define REVIEW_FROM                                                                                \
    " FROM credit_review r JOIN tenants t ON t.id = r.tenant_id"                                   \
    " LEFT JOIN payments p ON p.tenant_id = r.tenant_id"                                           \
    "  AND p.whop_payment_id = r.whop_payment_id"                                                  \
    " WHERE r.state = 'open' AND ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"      \
    " ORDER BY r.created_at, r.id LIMIT 1000"

static struct err review_list(struct cli *cli, const struct credits_options *options)
{
    static const char *const heads[] = {">AGE", "PAYMENT", "REASON", "USER",
                                        "PLAN", "PACK",    "AMOUNT", "EVENT"};
    const struct pg_param params[] = {pg_text(options->tenant)};
    struct table table;
    if (options->json)
        return cli_print_json(cli,
                              "SELECT t.slug AS tenant, r.whop_payment_id AS payment_id, r.reason,"
                              " r.created_at, r.event_id, p.whop_user_id AS user_id,"
                              " p.whop_plan_id AS plan_id, p.pack_id, p.amount_text AS amount,"
                              " p.currency, p.status" REVIEW_FROM,
                              params, 1);
    TRY(pg_exec(cli->pg,
                "SELECT extract(epoch FROM whopline_now() - r.created_at)::bigint,"
                " r.whop_payment_id, r.reason, p.whop_user_id, p.whop_plan_id, p.pack_id,"
                " p.amount_text || ' ' || p.currency, r.event_id" REVIEW_FROM,
                params, 1));
    if (pg_rows(cli->pg) == 0) {
        printf("no payment is waiting for a person\n");
        return ERR_NONE;
    }
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(cli->pg); row++) {
        char age[OUTPUT_SHORT];
        output_age(pg_get_integer(cli->pg, row, 0), age);
        table_add(&table, age);
        for (size_t column = 1; column < ARRAY_LEN(heads); column++)
            table_add_short(&table, pg_get(cli->pg, row, column));
    }
    table_print(&table, "");
    return ERR_NONE;
}

/* --- words ----------------------------------------------------------------------------------- */

static int parse(struct credits_options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"tenant", required_argument, NULL, 't'},   {"plan", required_argument, NULL, 'p'},
        {"name", required_argument, NULL, 'n'},     {"credits", required_argument, NULL, 'c'},
        {"pack-id", required_argument, NULL, 'k'},  {"price", required_argument, NULL, 'r'},
        {"currency", required_argument, NULL, 'u'}, {"free-too", no_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},           {NULL, 0, NULL, 0},
    };
    int option;
    *options = (struct credits_options){.credits = -1};
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 't': options->tenant = optarg; break;
        case 'p': options->plan = optarg; break;
        case 'n': options->name = optarg; break;
        case 'k': options->pack = optarg; break;
        case 'r': options->price = optarg; break;
        case 'u': options->currency = optarg; break;
        case 'f': options->free_too = true; break;
        case 'j': options->json = true; break;
        case 'c':
            if (!cli_parse_number(optarg, 0, CREDITS_MAX, &options->credits))
                return cli_usage(words[0], "--credits takes 0 to %d", CREDITS_MAX);
            break;
        default: return CLI_USAGE;
        }
    }
    return CLI_OK;
}

static int run(struct cli *cli, int count, char **words)
{
    struct credits_options options;
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    /* getopt has moved the options in front of the plain words. */
    const char *family = optind < count ? words[optind] : "";
    const char *verb = optind + 1 < count ? words[optind + 1] : "";
    bool plans = strcmp(family, "plans") == 0;
    bool shows = strcmp(family, "show") == 0 && verb[0] != '\0';
    struct err (*action)(struct cli *, const struct credits_options *) = NULL;
    if (plans && (verb[0] == '\0' || strcmp(verb, "list") == 0))
        action = plans_list;
    else if (plans && strcmp(verb, "add") == 0)
        action = plans_add;
    else if (plans && strcmp(verb, "retire") == 0)
        action = plans_retire;
    else if (strcmp(family, "review") == 0 && (verb[0] == '\0' || strcmp(verb, "list") == 0))
        action = review_list;
    if ((action == NULL && !shows) || optind + 2 < count)
        return cli_usage(words[0], "show USER, plans list|add|retire or review list, please");
    struct err err = cli_open_database(cli);
    if (!err_failed(&err))
        err = shows ? show(cli, &options, verb) : action(cli, &options);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_credits = {
    .name = "credits",
    .usage = "show USER | plans list|add|retire [options] | review list",
    .purpose = "balances, the plans that sell credits, payments in review",
    .help =
        "  show USER          balance and ledger, newest first\n"
        "  plans list         what each plan sells, since when and until when\n"
        "  plans add          --plan plan_x --name Starter --credits 5000 [--pack-id PACK]\n"
        "                     [--price 7.50 --currency usd] [--free-too]\n"
        "                     --pack-id also finds it by metadata.packId; --free-too grants for\n"
        "                     a payment of 0 as well\n"
        "  plans retire       --plan plan_x; earlier payments keep its terms\n"
        "  review list        payments nobody could be credited for\n\n"
        "  --tenant T         slug or company id, where there are several\n"
        "  --json             for show and the lists\n",
    .run = run,
};
