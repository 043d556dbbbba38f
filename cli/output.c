#include "cli/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

/* C0, DEL, and C1 as UTF-8 (c2 80 .. c2 9f): what a terminal would act on. Returns its length. */
static size_t control_at(const unsigned char *text)
{
    if (text[0] < 0x20 || text[0] == 0x7f)
        return 1;
    return text[0] == 0xc2 && text[1] >= 0x80 && text[1] <= 0x9f ? 2 : 0;
}

void output_add_clean(struct buf *out, const char *text)
{
    const unsigned char *byte = (const unsigned char *)text;
    while (*byte != '\0') {
        size_t control = control_at(byte);
        if (control > 0)
            buf_add_text(out, "?");
        else
            buf_add(out, byte, 1);
        byte += control > 0 ? control : 1;
    }
}

/* Characters, not bytes: names and ids may hold any UTF-8. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        if (((unsigned char)*text & 0xc0) != 0x80)
            width++;
    return width;
}

static const char *head_text(const struct table *table, size_t column)
{
    const char *head = table->heads[column];
    return head[0] == '>' ? head + 1 : head;
}

void table_init(struct table *table, const char *const *heads, size_t columns)
{
    REQUIRE(columns > 0 && columns <= TABLE_COLUMNS_MAX);
    *table = (struct table){.heads = heads, .columns = columns};
    for (size_t i = 0; heads != NULL && i < columns; i++)
        table->widths[i] = width_of(head_text(table, i));
}

void table_add(struct table *table, const char *text)
{
    size_t column = table->cells % table->columns;
    size_t begin = table->text.len;
    output_add_clean(&table->text, text == NULL || text[0] == '\0' ? "-" : text);
    size_t width = width_of(buf_text(&table->text) + begin);
    buf_add(&table->text, "", 1);
    if (width > table->widths[column])
        table->widths[column] = width;
    table->cells++;
}

void table_add_short(struct table *table, const char *text)
{
    enum { DIGITS = 64, SHOWN = 12 };
    static const char mark[] = "mac:";
    struct buf shortened = {0};
    const char *found;
    while (text != NULL && (found = strstr(text, mark)) != NULL) {
        const char *digits = found + sizeof mark - 1;
        size_t count = strspn(digits, "0123456789abcdef");
        size_t shown = count == DIGITS ? SHOWN : count;
        buf_add(&shortened, text, (size_t)(digits - text) + shown);
        text = digits + count;
    }
    buf_add_text(&shortened, text != NULL ? text : "");
    table_add(table, buf_text(&shortened));
    buf_close(&shortened);
}

void table_printf(struct table *table, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    table_add(table, text);
}

size_t table_rows(const struct table *table)
{
    return table->cells / table->columns;
}

static void write_cell(const struct table *table, size_t column, const char *text, struct buf *out)
{
    size_t padding = table->widths[column] - width_of(text);
    bool right = table->heads != NULL && table->heads[column][0] == '>';
    bool last = column + 1 == table->columns;
    if (right)
        buf_printf(out, "%*s", (int)padding, "");
    buf_add_text(out, text);
    if (!right && !last)
        buf_printf(out, "%*s", (int)padding, "");
    buf_add_text(out, last ? "\n" : "  ");
}

void table_write(struct table *table, const char *indent, struct buf *out)
{
    REQUIRE(table->cells % table->columns == 0);
    if (table->heads != NULL) {
        buf_printf(out, "%s%s", indent, output_on(OUTPUT_STRONG));
        for (size_t i = 0; i < table->columns; i++)
            write_cell(table, i, head_text(table, i), out);
        buf_add_text(out, output_off());
    }
    const char *cell = buf_text(&table->text);
    for (size_t i = 0; i < table->cells; i++) {
        if (i % table->columns == 0)
            buf_add_text(out, indent);
        write_cell(table, i % table->columns, cell, out);
        cell += strlen(cell) + 1;
    }
    buf_close(&table->text);
    table->cells = 0;
}

void table_print(struct table *table, const char *indent)
{
    struct buf out = {0};
    table_write(table, indent, &out);
    fputs(buf_text(&out), stdout);
    buf_close(&out);
}

/* --- answers of PostgreSQL ------------------------------------------------------------------- */

static void add_cell(const struct pg *pg, const struct output_list *list, size_t row, size_t column,
                     struct table *table)
{
    if (column + 1 == list->age) {
        char age[OUTPUT_SHORT];
        output_age(pg_get_integer(pg, row, column), age);
        table_add(table, age);
    } else if (list->shortens) {
        table_add_short(table, pg_get(pg, row, column));
    } else {
        table_add(table, pg_get(pg, row, column));
    }
}

void output_rows(const struct pg *pg, const struct output_list *list, int64_t limit)
{
    const char *heads[TABLE_COLUMNS_MAX];
    size_t shown[TABLE_COLUMNS_MAX];
    size_t columns = 0;
    struct table table;
    size_t rows = pg_rows(pg);
    if (rows == 0 && list->none != NULL) {
        printf("%s\n", list->none);
        return;
    }
    bool several = list->tenant > 0 && rows > 0 && pg_get_flag(pg, 0, list->columns);
    REQUIRE(list->columns <= TABLE_COLUMNS_MAX);
    for (size_t column = 0; column < list->columns; column++) {
        if (column + 1 == list->tenant && !several)
            continue;
        heads[columns] = list->heads[column];
        shown[columns++] = column;
    }
    table_init(&table, heads, columns);
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < columns; i++)
            add_cell(pg, list, row, shown[i], &table);
    table_print(&table, "");
    if (list->cut != NULL && (int64_t)rows == limit)
        printf("%s %lld; more with --limit\n", list->cut, (long long)limit);
}

struct err output_list(struct cli *cli, const struct output_list *list, bool json,
                       const struct pg_param *params, size_t count, int64_t limit)
{
    if (json)
        return cli_print_json(cli, list->json, params, count);
    TRY(pg_exec(cli->pg, list->people, params, count));
    output_rows(cli->pg, list, limit);
    return ERR_NONE;
}

void output_record(const struct pg *pg, size_t first, struct table *table)
{
    for (size_t column = first; column < pg_columns(pg); column++) {
        if (pg_get(pg, 0, column)[0] == '\0')
            continue;
        table_add(table, pg_column_name(pg, column));
        table_add(table, pg_get(pg, 0, column));
    }
}

/* --- ages, numbers, colour ------------------------------------------------------------------- */

void output_age(int64_t seconds, char out[OUTPUT_SHORT])
{
    const int64_t minute = 60;
    const int64_t hour = 60 * minute;
    const int64_t day = 24 * hour;
    if (seconds < 0)
        seconds = 0;
    if (seconds < 2 * minute)
        snprintf(out, OUTPUT_SHORT, "%lld s", (long long)seconds);
    else if (seconds < 2 * hour)
        snprintf(out, OUTPUT_SHORT, "%lld min", (long long)(seconds / minute));
    else if (seconds < 2 * day)
        snprintf(out, OUTPUT_SHORT, "%lld h", (long long)(seconds / hour));
    else
        snprintf(out, OUTPUT_SHORT, "%lld d", (long long)(seconds / day));
}

void output_number(int64_t number, char out[OUTPUT_SHORT])
{
    char digits[OUTPUT_SHORT];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)number);
    size_t used = 0;
    for (int i = 0; i < len; i++) {
        out[used++] = digits[i];
        int left = len - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            out[used++] = ',';
    }
    out[used] = '\0';
}

static bool has_colour(void)
{
    const char *no_colour = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) == 1 && (no_colour == NULL || no_colour[0] == '\0');
}

const char *output_on(enum output_tone tone)
{
    static const char *const sequences[] = {"", "\033[32m", "\033[33m", "\033[31m", "\033[1m"};
    return has_colour() ? sequences[tone] : "";
}

const char *output_off(void)
{
    return has_colour() ? "\033[0m" : "";
}
