/* `whopline credits show`: an account's balance and ledger. */
#include "cli/credits.h"
#include "cli/outcome.h"
#include "cli/output.h"

#include <stdio.h>

#define LEDGER_SQL                                                                                 \
    "SELECT c.id, c.created_at, c.kind, c.credits, c.amount, c.balance_after, c.source_type,"      \
    " c.source_id, p.plan_name AS plan, c.order_id, c.actor, c.reason, c.flag, c.event_id"         \
    " FROM credit_transactions c LEFT JOIN whop_plans p ON p.id = c.plan_id"                       \
    " WHERE c.account_id = a.id ORDER BY c.id DESC LIMIT 1000"

#define SHOW_FROM " FROM credit_accounts a JOIN tenants t ON t.id = a.tenant_id"
#define SHOW_WHERE                                                                                 \
    " WHERE a.owner_id = $1 AND ($2::text IS NULL OR t.slug = $2 OR t.whop_company_id = $2)"       \
    " ORDER BY t.slug"

#define SHOW_JSON                                                                                  \
    "SELECT t.slug AS tenant, a.owner_id AS user_id, a.credits_balance AS balance, a.held, "       \
    "a.debt,"                                                                                      \
    " a.credits_balance - a.held AS available,"                                                    \
    " (SELECT coalesce(json_agg(row_to_json(l)), '[]') FROM (" LEDGER_SQL                          \
    ") l) AS ledger" SHOW_FROM SHOW_WHERE

#define SHOW_PEOPLE                                                                                \
    "SELECT t.slug, a.credits_balance, a.held, a.debt, " OUTCOME_UTC(                              \
        "l.created_at") ", l.kind,"                                                                \
                        " l.amount, l.balance_after, l.source_type || ' ' || l.source_id, "        \
                        "l.actor, l.reason, l.plan,"                                               \
                        " l.flag" SHOW_FROM " LEFT JOIN LATERAL (" LEDGER_SQL                      \
                        ") l ON true" SHOW_WHERE ", l.id DESC"

enum { COLUMN_TIME = 4, COLUMN_AMOUNT = 6, COLUMN_BALANCE = 7, COLUMNS_END = 13 };

static void print_head(struct pg *pg, const char *user, size_t row)
{
    char number[OUTPUT_SHORT];
    struct buf who = {0};
    output_add_clean(&who, user);
    output_number(pg_get_integer(pg, row, 1), number);
    printf("%s at %s: balance %s%s%s", buf_text(&who), pg_get(pg, row, 0), output_on(OUTPUT_STRONG),
           number, output_off());
    buf_close(&who);
    if (pg_get_integer(pg, row, 2) > 0) {
        output_number(pg_get_integer(pg, row, 2), number);
        printf(", of which %s are held by applications", number);
    }
    if (pg_get_integer(pg, row, 3) > 0) {
        output_number(pg_get_integer(pg, row, 3), number);
        printf(", and a debt of %s", number);
    }
    printf("\n");
}

static void print_account(struct pg *pg, const char *user, size_t from, size_t to)
{
    static const char *const heads[] = {"TIME (UTC)", "KIND",   ">CREDITS", ">BALANCE", "SOURCE",
                                        "ACTOR",      "REASON", "PLAN",     "FLAG"};
    struct table table;
    char number[OUTPUT_SHORT];
    print_head(pg, user, from);
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = from; row < to && !pg_is_null(pg, row, COLUMN_TIME); row++) {
        for (size_t column = COLUMN_TIME; column < COLUMNS_END; column++) {
            if (column != COLUMN_AMOUNT && column != COLUMN_BALANCE) {
                table_add_short(&table, pg_get(pg, row, column));
                continue;
            }
            int64_t credits = pg_get_integer(pg, row, column);
            output_number(credits, number);
            table_printf(&table, "%s%s", column == COLUMN_AMOUNT && credits > 0 ? "+" : "", number);
        }
    }
    table_print(&table, "  ");
}

struct err credits_cmd_show(struct cli *cli, const struct given *given)
{
    const char *user = given->plain[0];
    const struct pg_param params[] = {pg_text(user), pg_text(given_text(given, "tenant"))};
    if (given_flag(given, "json"))
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
