/* `whopline credits plans`: what each plan sells, in versions. */
#include "cli/credits.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "cli/plan_words.h"
#include "codec/money.h"
#include "service/audit.h"

#include <stdio.h>

/* --- list ------------------------------------------------------------------------------------ */

#define PLANS_FROM                                                                                 \
    " FROM whop_plans p JOIN tenants t ON t.id = p.tenant_id"                                      \
    " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                           \
    " ORDER BY t.slug, p.whop_plan_id, p.valid_from"

struct err credits_cmd_plans_list(struct cli *cli, const struct given *given)
{
    static const char *const heads[] = {"TENANT", "PLAN",    "NAME",      ">CREDITS",    ">PRICE",
                                        "PACK",   "IF FREE", "PRORATION", "SINCE (UTC)", "UNTIL"};
    const struct pg_param params[] = {pg_text(given_text(given, "tenant"))};
    struct table table;
    if (given_flag(given, "json"))
        return cli_print_json(
            cli,
            "SELECT t.slug AS tenant, p.whop_plan_id AS plan, p.plan_name AS name,"
            " p.credits_amount AS credits, p.price_cents AS price_minor,"
            " p.currency, p.pack_id, p.credits_when_free, p.proration_rule,"
            " nullif(p.valid_from, '-infinity') AS valid_from,"
            " nullif(p.valid_to, 'infinity') AS valid_to" PLANS_FROM,
            params, 1);
    TRY(pg_exec(
        cli->pg,
        "SELECT t.slug, p.whop_plan_id, p.plan_name, p.credits_amount, p.price_cents,"
        " p.currency, p.pack_id, p.credits_when_free, coalesce(p.proration_rule, 'ask'),"
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
            char price[MONEY_TEXT_SIZE];
            money_format_minor(pg_get_integer(cli->pg, row, 4), currency, price);
            table_printf(&table, "%s %s", price, currency);
        }
        table_add(&table, pg_get(cli->pg, row, 6));
        table_add(&table, pg_get_flag(cli->pg, row, 7) ? "yes" : "no");
        table_add(&table, pg_get(cli->pg, row, 8));
        table_add(&table, pg_get(cli->pg, row, 9));
        table_add(&table, pg_get(cli->pg, row, 10));
    }
    if (pg_rows(cli->pg) == 0)
        printf("no plans yet; see whopline credits --help\n");
    else
        table_print(&table, "");
    buf_close(&table.text);
    return ERR_NONE;
}

/* --- words ----------------------------------------------------------------------------------- */

struct err plan_words_price(const char *price, const char *currency, struct plan *plan)
{
    plan->price_minor = -1;
    plan->currency = NULL;
    if (price == NULL && currency == NULL)
        return ERR_NONE;
    if (price == NULL || currency == NULL)
        return err_make(ERR_USAGE, "price and currency belong together");
    if (strlen(currency) != 3 || strspn(currency, PLAN_LETTERS) != 3)
        return err_make(ERR_USAGE, "\"%.20s\" is no currency: usd, eur ...", currency);
    if (!money_parse_minor(price, currency, &plan->price_minor))
        return err_make(ERR_USAGE, "\"%.40s\" is not a price in %.8s", price, currency);
    plan->currency = currency;
    return ERR_NONE;
}

struct err plan_words_proration(const char *text, struct plan *plan)
{
    static const char *const known[] = {"none", "difference", "full"};
    plan->proration = text;
    if (text == NULL)
        return ERR_NONE;
    if (strcmp(text, "ask") == 0)
        plan->proration = "";
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(text, known[i]) == 0)
            return ERR_NONE;
    return text_is_empty(plan->proration)
               ? ERR_NONE
               : err_make(ERR_USAGE, "proration is none, difference, full or ask");
}

struct err plan_words_terms(const struct given *given, struct plan *out)
{
    const char *product = out->product;
    *out = (struct plan){.name = given_text(given, "name"),
                         .pack = given_text(given, "pack-id"),
                         .product = product,
                         .credits = -1,
                         .if_free = given_flag(given, "free-too")   ? PLAN_YES
                                    : given_flag(given, "not-free") ? PLAN_NO
                                                                    : PLAN_KEEP};
    TRY(given_number(given, "credits", 0, PLAN_CREDITS_MAX, &out->credits));
    TRY(plan_words_proration(given_text(given, "proration"), out));
    return plan_words_price(given_text(given, "price"), given_text(given, "currency"), out);
}

static struct err take(const struct given *given, struct plan *out)
{
    *out = (struct plan){0};
    TRY(plan_words_terms(given, out));
    return given_need(given, "plan", &out->id);
}

/* --- changing -------------------------------------------------------------------------------- */

enum plan_verb { VERB_ADD, VERB_UPDATE, VERB_RETIRE };

static struct err apply(struct pg *pg, enum plan_verb verb, int64_t tenant, const struct plan *plan,
                        enum plan_result *out)
{
    *out = PLAN_CHANGED;
    switch (verb) {
    case VERB_ADD: return plan_add(pg, tenant, plan);
    case VERB_UPDATE: return plan_update(pg, tenant, plan, out);
    case VERB_RETIRE: return plan_retire(pg, tenant, plan->id);
    }
    REQUIRE(false);
    return ERR_NONE;
}

static struct err change(struct cli *cli, const struct given *given, enum plan_verb verb,
                         const struct plan *plan, struct buf *slug, enum plan_result *out)
{
    static const char *const actions[] = {"plans.add", "plans.update", "plans.retire"};
    const char *reason = given_text(given, "reason");
    const struct audit audit = {.actor = given_actor(cli, given),
                                .action = actions[verb],
                                .target = plan->id,
                                .reason = reason != NULL ? reason : ""};
    int64_t tenant = 0;
    TRY(given_tenant(cli, given, &tenant, slug));
    struct err err = pg_begin(cli->pg);
    if (!err_failed(&err))
        err = apply(cli->pg, verb, tenant, plan, out);
    if (!err_failed(&err) && *out != PLAN_SAME)
        err = audit_add(cli->pg, &audit);
    if (!err_failed(&err))
        err = pg_commit(cli->pg);
    pg_rollback(cli->pg);
    return err;
}

struct err credits_cmd_plans_add(struct cli *cli, const struct given *given)
{
    struct plan plan;
    struct buf slug = {0};
    enum plan_result result;
    TRY(take(given, &plan));
    if (plan.name == NULL || text_is_empty(plan.name) || plan.credits < 0)
        return err_make(ERR_USAGE, "plans add needs --plan, --name and --credits");
    struct err err = change(cli, given, VERB_ADD, &plan, &slug, &result);
    if (!err_failed(&err))
        printf("%s: %s sells %lld credits\n", buf_text(&slug), plan.id, (long long)plan.credits);
    buf_close(&slug);
    return err;
}

/* What belongs to a request of Whop is refused where there is none. */
static struct err check_whop_words(const struct given *given)
{
    static const char *const names[] = {"request", "wait"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (given_text(given, names[i]) != NULL)
            return err_make(ERR_USAGE, "--%s belongs to --at-whop", names[i]);
    return given_flag(given, "json") ? err_make(ERR_USAGE, "--json belongs to --at-whop")
                                     : ERR_NONE;
}

static struct err update_here(struct cli *cli, const struct given *given, const struct plan *plan)
{
    enum plan_result result;
    TRY(check_whop_words(given));
    TRY(change(cli, given, VERB_UPDATE, plan, NULL, &result));
    if (result == PLAN_SAME)
        printf("%s is so already: nothing was changed\n", plan->id);
    else
        printf("%s has new terms for what is paid from now on\n", plan->id);
    if (plan->name != NULL || plan->price_minor >= 0)
        printf("name and price at Whop are as they were; --at-whop changes them there too\n");
    return ERR_NONE;
}

struct err credits_cmd_plans_update(struct cli *cli, const struct given *given)
{
    struct plan plan;
    TRY(take(given, &plan));
    if (!given_flag(given, "at-whop"))
        return update_here(cli, given, &plan);
    if (plan.name == NULL && plan.price_minor < 0)
        return err_make(ERR_USAGE,
                        "Whop knows a plan's --name and --price and nothing else of this:"
                        " leave out --at-whop");
    return credits_plans_update_at_whop(cli, given, &plan);
}

struct err credits_cmd_plans_retire(struct cli *cli, const struct given *given)
{
    struct plan plan = {0};
    enum plan_result result;
    TRY(given_need(given, "plan", &plan.id));
    if (given_flag(given, "at-whop"))
        return credits_plans_retire_at_whop(cli, given, plan.id);
    TRY(check_whop_words(given));
    TRY(change(cli, given, VERB_RETIRE, &plan, NULL, &result));
    printf("%s is retired: payments made from now on are not credited by it\n"
           "at Whop it is as it was; --at-whop takes it off sale there\n",
           plan.id);
    return ERR_NONE;
}
