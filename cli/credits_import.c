/* `whopline credits import`: what another system knew, orders, transactions and balances, from CSV
 * files: all of it or nothing. */
#include "cli/credits.h"
#include "cli/output.h"
#include "cli/sheet.h"
#include "codec/json.h"
#include "service/audit.h"

#include <stdio.h>

enum { FILES_MAX = VERBS_PLAIN_MAX, ROWS_AT_ONCE = 200 };

/* In the order in which they are imported: a balance says what transactions do not explain. */
enum kind { ORDERS, TRANSACTIONS, BALANCES, KINDS };

static const struct {
    const char *name;  /* for the database */
    const char *heads; /* for people */
    const char *mark;  /* the column that tells it from the others */
    const char *columns[16];
    size_t required; /* the first so many */
    const char *numbers[3];
} kinds[KINDS] = {
    [ORDERS] = {"order",
                "orders",
                "state",
                {"id", "user", "credits", "state", "plan", "plan_name", "price", "currency",
                 "payment_method", "payment", "checkout", "created_at", "completed_at",
                 "completed_by", "notes"},
                4,
                {"credits"}},
    [TRANSACTIONS] = {"transaction",
                      "transactions",
                      "credits",
                      {"id", "user", "credits", "kind", "reason", "payment", "price", "currency",
                       "created_at"},
                      3,
                      {"credits"}},
    [BALANCES] = {"balance", "balances", "balance", {"user", "balance", "email"}, 2, {"balance"}},
};

struct file {
    struct sheet sheet;
    enum kind kind;
    int64_t new_rows;
    int64_t same;
};

struct import {
    struct cli *cli;
    struct file *files;
    size_t count;
    int64_t tenant;
    const char *actor;
};

/* --- files ----------------------------------------------------------------------------------- */

static size_t count_of(const char *const *names, size_t room)
{
    size_t count = 0;
    while (count < room && names[count] != NULL)
        count++;
    return count;
}

static void check_numbers(struct sheet *sheet, enum kind kind)
{
    for (size_t row = 0; row < sheet->count; row++) {
        const char *column = kinds[kind].numbers[0];
        const char *text = sheet_get(sheet, row, column);
        int64_t number;
        if (text != NULL &&
            (!cli_parse_number(text, -CREDITS_MOVED_MAX, CREDITS_MOVED_MAX, &number) ||
             strspn(text, "+-0123456789") != strlen(text)))
            sheet_fault(sheet, sheet->rows[row].line,
                        "%s \"%.40s\" is no whole number of at most %lld", column, text,
                        (long long)CREDITS_MOVED_MAX);
    }
}

/* What kind of file it is, by its columns. */
static void check(struct file *file)
{
    struct sheet *sheet = &file->sheet;
    for (file->kind = ORDERS; file->kind < KINDS; file->kind++)
        if (sheet_has(sheet, kinds[file->kind].mark))
            break;
    if (file->kind == KINDS) {
        file->kind = BALANCES;
        sheet_fault(sheet, 1,
                    "its columns are those of no file: orders have state, transactions credits, "
                    "balances balance");
        return;
    }
    sheet_check(sheet, kinds[file->kind].columns,
                count_of(kinds[file->kind].columns, ARRAY_LEN(kinds[0].columns)),
                kinds[file->kind].required);
    check_numbers(sheet, file->kind);
}

static struct err read_files(struct import *import, const struct given *given)
{
    for (size_t i = 0; i < given->plain_count; i++) {
        TRY(sheet_read(&import->files[import->count++].sheet, given->plain[i],
                       import->cli->config.import_max_bytes));
        check(&import->files[i]);
    }
    return ERR_NONE;
}

/* --- rows ------------------------------------------------------------------------------------ */

static void write_row(const struct sheet *sheet, size_t row, struct buf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    for (size_t i = 0; i < sheet->column_count; i++)
        json_put_text(&json, sheet->columns[i], sheet_get(sheet, row, sheet->columns[i]));
    json_end_object(&json);
}

static void take_answers(struct pg *pg, struct file *file, size_t from)
{
    static const char wrong[] = "wrong: ";
    for (size_t i = 0; i < pg_rows(pg); i++) {
        const char *answer = pg_get(pg, i, 0);
        if (strncmp(answer, wrong, sizeof wrong - 1) == 0)
            sheet_fault(&file->sheet, file->sheet.rows[from + i].line, "%s",
                        answer + sizeof wrong - 1);
        else if (strcmp(answer, "new") == 0)
            file->new_rows++;
        else
            file->same++;
    }
}

static struct err put_rows(struct import *import, struct file *file, size_t from, size_t to)
{
    struct pg *pg = import->cli->pg;
    struct pg_array rows;
    struct buf row = {0};
    pg_array_init(&rows, PG_ELEMENT_TEXT);
    for (size_t i = from; i < to; i++) {
        buf_clear(&row);
        write_row(&file->sheet, i, &row);
        pg_array_add_text(&rows, buf_text(&row));
    }
    struct err err = PG_EXEC(pg,
                             "SELECT credits_import($1, $2, r::jsonb, $3)"
                             " FROM unnest($4::text[]) WITH ORDINALITY AS given(r, n) ORDER BY n",
                             pg_integer(import->tenant), pg_text(kinds[file->kind].name),
                             pg_text(import->actor), pg_array_param(&rows));
    if (!err_failed(&err))
        take_answers(pg, file, from);
    pg_array_close(&rows);
    buf_close(&row);
    return err;
}

/* Makes and locks accounts, and locks payments, in the order in which the workers do, so that they
 * wait for each other and nothing else. */
static struct err lock(struct import *import)
{
    static const char *const statements[] = {
        "SELECT FROM payments WHERE tenant_id = $1 AND whop_payment_id = ANY ($2)"
        " ORDER BY whop_payment_id COLLATE \"C\" FOR NO KEY UPDATE",
        "INSERT INTO credit_accounts (tenant_id, owner_id)"
        " SELECT DISTINCT $1::bigint, u FROM unnest($2::text[]) u ORDER BY 1, 2"
        " ON CONFLICT DO NOTHING",
        "SELECT FROM credit_accounts WHERE tenant_id = $1 AND owner_type = 'whop_user'"
        " AND owner_id = ANY ($2) ORDER BY id FOR NO KEY UPDATE"};
    static const char *const columns[] = {"payment", "user", "user"};
    struct err err = ERR_NONE;
    for (size_t what = 0; what < ARRAY_LEN(statements) && !err_failed(&err); what++) {
        struct pg_array ids;
        pg_array_init(&ids, PG_ELEMENT_TEXT);
        for (size_t i = 0; i < import->count; i++) {
            const struct sheet *sheet = &import->files[i].sheet;
            for (size_t row = 0; row < sheet->count; row++)
                if (sheet_get(sheet, row, columns[what]) != NULL)
                    pg_array_add_text(&ids, sheet_get(sheet, row, columns[what]));
        }
        err = PG_EXEC(import->cli->pg, statements[what], pg_integer(import->tenant),
                      pg_array_param(&ids));
        pg_array_close(&ids);
    }
    return err;
}

static struct err put_all(struct import *import)
{
    TRY(lock(import));
    for (int kind = ORDERS; kind < KINDS; kind++) {
        for (size_t i = 0; i < import->count; i++) {
            struct file *file = &import->files[i];
            size_t count = file->kind == (enum kind)kind ? file->sheet.count : 0;
            for (size_t from = 0; from < count; from += ROWS_AT_ONCE) {
                size_t to = from + ROWS_AT_ONCE < count ? from + ROWS_AT_ONCE : count;
                TRY(put_rows(import, file, from, to));
            }
        }
    }
    return ERR_NONE;
}

static size_t count_faults(const struct import *import)
{
    size_t faults = 0;
    for (size_t i = 0; i < import->count; i++)
        faults += import->files[i].sheet.faults;
    return faults;
}

/* --- the plan, which is the deed taken back -------------------------------------------------- */

static struct err note(struct import *import, const char *reason)
{
    struct buf detail = {0};
    struct json_writer json = {.out = &detail};
    json_begin_object(&json, NULL);
    for (size_t i = 0; i < import->count; i++)
        json_put_integer(&json, import->files[i].sheet.path, import->files[i].new_rows);
    json_end_object(&json);
    const struct audit audit = {.actor = import->actor,
                                .action = "credits.import",
                                .target = import->files[0].sheet.path,
                                .reason = reason != NULL ? reason : "",
                                .detail = buf_text(&detail)};
    struct err err = audit_add(import->cli->pg, &audit);
    buf_close(&detail);
    return err;
}

static void print_totals(const struct import *import, bool yes)
{
    static const char *const heads[] = {"FILE", "HOLDS", ">ROWS", ">NEW", ">THERE ALREADY"};
    struct table table;
    int64_t all = 0;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t i = 0; i < import->count; i++) {
        const struct file *file = &import->files[i];
        table_add(&table, file->sheet.path);
        table_add(&table, kinds[file->kind].heads);
        table_printf(&table, "%zu", file->sheet.count);
        table_printf(&table, "%lld", (long long)file->new_rows);
        table_printf(&table, "%lld", (long long)file->same);
        all += file->new_rows;
    }
    table_print(&table, "");
    printf(all == 0 ? "there is nothing to do\n"
           : yes    ? "done\n"
                    : "nothing has been changed; --yes does it\n");
}

static void print_json(const struct import *import, bool yes)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_object(&json, NULL);
    json_begin_array(&json, "files");
    for (size_t i = 0; i < import->count; i++) {
        const struct file *file = &import->files[i];
        json_begin_object(&json, NULL);
        json_put_text(&json, "file", file->sheet.path);
        json_put_text(&json, "holds", kinds[file->kind].heads);
        json_put_integer(&json, "rows", (int64_t)file->sheet.count);
        json_put_integer(&json, "new", file->new_rows);
        json_put_integer(&json, "there_already", file->same);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_put_flag(&json, "done", yes);
    json_end_object(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

static struct err run(struct import *import, const struct given *given)
{
    bool yes = given_flag(given, "yes");
    TRY(read_files(import, given));
    TRY(given_tenant(import->cli, given, &import->tenant, NULL));
    struct err err = ERR_NONE;
    if (count_faults(import) == 0)
        err = pg_begin(import->cli->pg);
    if (!err_failed(&err) && count_faults(import) == 0)
        err = put_all(import);
    if (err.code == ERR_PG_CONFLICT)
        err = err_make(ERR_PG_CONFLICT,
                       "nothing was done, others were changing the same: run it again");
    if (!err_failed(&err) && count_faults(import) == 0 && yes)
        err = note(import, given_text(given, "reason"));
    if (!err_failed(&err) && count_faults(import) == 0 && yes)
        err = pg_commit(import->cli->pg);
    pg_rollback(import->cli->pg);
    if (err_failed(&err))
        return err;
    for (size_t i = 0; i < import->count; i++)
        sheet_print_faults(&import->files[i].sheet);
    if (count_faults(import) > 0)
        return err_make(ERR_REFUSED, "nothing was done: %zu rows are wrong", count_faults(import));
    if (given_flag(given, "json"))
        print_json(import, yes);
    else
        print_totals(import, yes);
    return ERR_NONE;
}

struct err credits_cmd_import(struct cli *cli, const struct given *given)
{
    struct file files[FILES_MAX] = {0};
    struct import import = {.cli = cli, .files = files, .actor = given_actor(cli, given)};
    struct err err = run(&import, given);
    for (size_t i = 0; i < import.count; i++)
        sheet_close(&files[i].sheet);
    return err;
}
