/* `whopline credits plans import-file`: all plans of a tenant from a CSV file, as often as one
 * likes. */
#include "cli/credits.h"
#include "cli/output.h"
#include "cli/plan_words.h"
#include "cli/sheet.h"
#include "codec/json.h"
#include "service/audit.h"

#include <stdio.h>
#include <strings.h>

static const char *const columns[] = {"plan",  "name",     "credits",  "pack_id",
                                      "price", "currency", "free_too", "proration"};
enum { REQUIRED = 3 };

static void fault_err(struct sheet *sheet, size_t row, const struct err *err)
{
    sheet_fault(sheet, sheet->rows[row].line, "%s", err_text(err));
}

/* What a row says; what a column leaves empty is none. */
static struct err take(const struct sheet *sheet, size_t row, struct plan *out)
{
    const char *pack = sheet_get(sheet, row, "pack_id");
    const char *free_too = sheet_get(sheet, row, "free_too");
    const char *proration = sheet_get(sheet, row, "proration");
    bool yes = free_too != NULL && strcasecmp(free_too, "yes") == 0;
    *out = (struct plan){.id = sheet_get(sheet, row, "plan"),
                         .name = sheet_get(sheet, row, "name"),
                         .pack = pack != NULL ? pack : "",
                         .if_free = yes ? PLAN_YES : PLAN_NO};
    if (free_too != NULL && !yes && strcasecmp(free_too, "no") != 0)
        return err_make(ERR_USAGE, "free_too is yes or no");
    if (!cli_parse_number(sheet_get(sheet, row, "credits"), 0, PLAN_CREDITS_MAX, &out->credits))
        return err_make(ERR_USAGE, "credits are a number from 0 to %d", PLAN_CREDITS_MAX);
    TRY(plan_words_proration(proration != NULL ? proration : "ask", out));
    return plan_words_price(sheet_get(sheet, row, "price"), sheet_get(sheet, row, "currency"), out);
}

static void check_once(struct sheet *sheet, size_t row)
{
    const char *plan = sheet_get(sheet, row, "plan");
    for (size_t before = 0; plan != NULL && before < row; before++) {
        const char *other = sheet_get(sheet, before, "plan");
        if (other != NULL && strcmp(plan, other) == 0)
            sheet_fault(sheet, sheet->rows[row].line, "the plan is in line %zu too",
                        sheet->rows[before].line);
    }
}

static void check(struct sheet *sheet)
{
    struct plan plan;
    sheet_check(sheet, columns, ARRAY_LEN(columns), REQUIRED);
    for (size_t row = 0; row < sheet->count; row++)
        check_once(sheet, row);
    for (size_t row = 0; row < sheet->count && sheet_has(sheet, "credits"); row++) {
        struct err err =
            sheet_get(sheet, row, "credits") == NULL ? ERR_NONE : take(sheet, row, &plan);
        if (err_failed(&err))
            fault_err(sheet, row, &err);
    }
}

/* A row that is refused is a fault; the others go on. */
static struct err put(struct pg *pg, int64_t tenant, struct sheet *sheet, size_t row,
                      const struct audit *by, enum plan_result *out)
{
    struct plan plan;
    TRY(take(sheet, row, &plan));
    TRY(pg_exec(pg, "SAVEPOINT plan", NULL, 0));
    struct err err = plan_put(pg, tenant, &plan, out);
    const struct audit audit = {.actor = by->actor,
                                .action = *out == PLAN_ADDED ? "plans.add" : "plans.update",
                                .target = plan.id,
                                .reason = by->reason};
    if (!err_failed(&err) && *out != PLAN_SAME)
        err = audit_add(pg, &audit);
    if (!err_failed(&err))
        return pg_exec(pg, "RELEASE SAVEPOINT plan", NULL, 0);
    enum err_class class = err_class_of(err.code);
    if (class != ERR_CLASS_PERMANENT)
        return err;
    fault_err(sheet, row, &err);
    return pg_exec(pg, "ROLLBACK TO SAVEPOINT plan", NULL, 0);
}

static struct err put_all(struct pg *pg, int64_t tenant, struct sheet *sheet,
                          const struct audit *by, bool yes, enum plan_result *results)
{
    struct err err = pg_begin(pg);
    for (size_t row = 0; row < sheet->count && !err_failed(&err); row++)
        err = put(pg, tenant, sheet, row, by, &results[row]);
    if (!err_failed(&err) && sheet->faults == 0 && yes)
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

static void print_plan(const struct sheet *sheet, const enum plan_result *results, bool yes)
{
    static const char *const heads[] = {"PLAN", "NAME", ">CREDITS", "PRICE", "BECOMES"};
    static const char *const words[] = {"new", "new terms from now on", "as it is"};
    struct table table;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < sheet->count; row++) {
        const char *price = sheet_get(sheet, row, "price");
        table_add(&table, sheet_get(sheet, row, "plan"));
        table_add(&table, sheet_get(sheet, row, "name"));
        table_add(&table, sheet_get(sheet, row, "credits"));
        table_printf(&table, "%s %s", price != NULL ? price : "",
                     price != NULL ? sheet_get(sheet, row, "currency") : "");
        table_add(&table, words[results[row]]);
    }
    table_print(&table, "");
    printf(yes ? "done\n" : "nothing has been changed; --yes does it\n");
}

static void print_json(const struct sheet *sheet, const enum plan_result *results, bool yes)
{
    static const char *const words[] = {"new", "changed", "same"};
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_object(&json, NULL);
    json_begin_array(&json, "plans");
    for (size_t row = 0; row < sheet->count; row++) {
        json_begin_object(&json, NULL);
        json_put_text(&json, "plan", sheet_get(sheet, row, "plan"));
        json_put_text(&json, "becomes", words[results[row]]);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_put_flag(&json, "done", yes);
    json_end_object(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

static struct err import(struct cli *cli, const struct given *given, struct sheet *sheet)
{
    int64_t tenant;
    const char *reason = given_text(given, "reason");
    const struct audit by = {.actor = given_actor(cli, given),
                             .reason = reason != NULL ? reason : sheet->path};
    check(sheet);
    struct err err = given_tenant(cli, given, &tenant, NULL);
    if (err_failed(&err))
        return err;
    enum plan_result *results = arena_zalloc(&sheet->arena, (sheet->count + 1) * sizeof *results);
    if (sheet->faults == 0)
        err = put_all(cli->pg, tenant, sheet, &by, given_flag(given, "yes"), results);
    if (err_failed(&err))
        return err;
    sheet_print_faults(sheet);
    if (sheet->faults > 0)
        return err_make(ERR_REFUSED, "nothing was done: %zu wrong", sheet->faults);
    if (given_flag(given, "json"))
        print_json(sheet, results, given_flag(given, "yes"));
    else
        print_plan(sheet, results, given_flag(given, "yes"));
    return ERR_NONE;
}

struct err credits_cmd_plans_import_file(struct cli *cli, const struct given *given)
{
    struct sheet sheet;
    struct err err = sheet_read(&sheet, given->plain[0], cli->config.import_max_bytes);
    if (!err_failed(&err))
        err = import(cli, given, &sheet);
    sheet_close(&sheet);
    return err;
}
