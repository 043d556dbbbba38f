/* `whopline credits plans import`: the tenant's plans as Whop lists them, as often as one likes. */
#include "cli/credits.h"
#include "cli/output.h"
#include "codec/json.h"
#include "codec/money.h"
#include "service/plan_books.h"
#include "service/tenant_whop.h"

#include <stdio.h>

/* --- telling --------------------------------------------------------------------------------- */

static void add_price(struct buf *out, int64_t minor, const char *currency)
{
    char price[MONEY_TEXT_SIZE];
    if (minor < 0)
        return;
    money_format_minor(minor, currency, price);
    buf_printf(out, "%s %s", price, currency);
}

/* "7.50 usd -> 9.00 usd", or the one that is there */
static void add_change(struct table *table, const char *was, const char *is, bool changed)
{
    if (changed && strcmp(was, is) != 0)
        table_printf(table, "%s -> %s", text_is_empty(was) ? "(none)" : was, is);
    else
        table_add(table, text_is_empty(is) ? was : is);
}

static void add_row(struct table *table, const struct plan_line *line)
{
    static const char *const words[] = {"new",      "new terms from now on", "as it is", "no sense",
                                        "left out", "missing at Whop"};
    struct buf was = {0};
    struct buf is = {0};
    bool changed = line->finding == PLAN_FOUND_CHANGED;
    add_price(&was, line->old_price_minor, line->old_currency);
    add_price(&is, line->price_minor, line->currency);
    table_add(table, line->id);
    add_change(table, line->old_name, line->name, changed && !text_is_empty(line->name));
    add_change(table, buf_text(&was), buf_text(&is), changed);
    if (line->finding == PLAN_FOUND_NEW)
        table_printf(table, "%lld", (long long)line->credits);
    else
        table_add(table, "");
    table_add(table, words[line->finding]);
    table_printf(table, "%s%s%s", line->why,
                 line->first_too && !text_is_empty(line->why) ? "; " : "",
                 line->first_too ? "the first payment costs more, which is not kept" : "");
    buf_close(&was);
    buf_close(&is);
}

/* Those that are as they are need no line each. */
static void print_table(const struct plan_books *books, bool yes)
{
    static const char *const heads[] = {"PLAN", "NAME", "PRICE", ">CREDITS", "BECOMES", "NOTE"};
    struct table table;
    size_t same = 0;
    size_t due = 0;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t i = 0; i < books->count; i++) {
        const struct plan_line *line = &books->lines[i];
        bool quiet = line->finding == PLAN_FOUND_SAME && !line->archived;
        same += quiet;
        due += line->finding == PLAN_FOUND_NEW || line->finding == PLAN_FOUND_CHANGED;
        if (!quiet)
            add_row(&table, line);
    }
    if (table_rows(&table) > 0)
        table_print(&table, "");
    buf_close(&table.text);
    printf("%zu as %s\n", same, same == 1 ? "it is" : "they are");
    if (due > 0)
        printf(yes ? "done\n" : "nothing has been changed; --yes does it\n");
}

static void put_price(struct json_writer *json, const char *key, int64_t minor)
{
    if (minor < 0)
        json_put_raw(json, key, NULL);
    else
        json_put_integer(json, key, minor);
}

static void put_line(struct json_writer *json, const struct plan_line *line)
{
    json_begin_object(json, NULL);
    json_put_text(json, "plan", line->id);
    json_put_text(json, "becomes", plan_finding_name(line->finding));
    json_put_text(json, "why", line->why);
    json_put_text(json, "name", line->name);
    put_price(json, "price_minor", line->price_minor);
    json_put_text(json, "currency", line->currency);
    json_put_text(json, "name_here", line->old_name);
    put_price(json, "price_minor_here", line->old_price_minor);
    json_put_text(json, "currency_here", line->old_currency);
    json_put_flag(json, "first_price_too", line->first_too);
    json_put_flag(json, "archived", line->archived);
    if (line->finding == PLAN_FOUND_NEW)
        json_put_integer(json, "credits", line->credits);
    json_end_object(json);
}

static void print_json(const struct plan_books *books, bool yes)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_object(&json, NULL);
    json_begin_array(&json, "plans");
    for (size_t i = 0; i < books->count; i++)
        put_line(&json, &books->lines[i]);
    json_end_array(&json);
    json_put_flag(&json, "done", yes);
    json_end_object(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* --- doing ----------------------------------------------------------------------------------- */

static struct err fetch(struct cli *cli, int64_t tenant, struct plan_books *books)
{
    struct outside *outside;
    struct tenant_whop client;
    TRY(cli_open_outside(cli, &outside));
    TRY(tenant_whop_open(&client, cli->pg, outside, books->arena, tenant, CREDENTIAL_FOR_WORK));
    return tenant_whop_close(&client, plan_books_read(books, &client.whop));
}

static struct err settle(struct cli *cli, const struct given *given, int64_t tenant,
                         struct plan_books *books)
{
    const char *reason = given_text(given, "reason");
    bool yes = given_flag(given, "yes");
    struct err err = pg_begin(cli->pg);
    if (!err_failed(&err))
        err = plan_books_compare(books, cli->pg, tenant);
    if (!err_failed(&err) && yes)
        err = plan_books_apply(books, cli->pg, tenant, given_actor(cli, given),
                               reason != NULL ? reason : "Whop's list");
    if (!err_failed(&err) && yes)
        err = pg_commit(cli->pg);
    pg_rollback(cli->pg);
    return err;
}

static struct err import(struct cli *cli, const struct given *given, struct plan_books *books)
{
    int64_t tenant;
    TRY(given_tenant(cli, given, &tenant, NULL));
    TRY(fetch(cli, tenant, books));
    TRY(settle(cli, given, tenant, books));
    if (given_flag(given, "json"))
        print_json(books, given_flag(given, "yes"));
    else
        print_table(books, given_flag(given, "yes"));
    return ERR_NONE;
}

struct err credits_cmd_plans_import(struct cli *cli, const struct given *given)
{
    struct arena arena;
    struct plan_books books = {.arena = &arena,
                               .product = given_text(given, "product"),
                               .names = given->plain,
                               .name_count = given->plain_count,
                               .most = cli->config.whop_plans_max};
    arena_init(&arena);
    struct err err = import(cli, given, &books);
    arena_close(&arena);
    return err;
}
