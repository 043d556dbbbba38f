#include "cli/sheet.h"

#include "cli/output.h"
#include "codec/csv.h"
#include "codec/encoding.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

/* --- reading --------------------------------------------------------------------------------- */

static void read_all(FILE *file, int64_t max_bytes, struct buf *out)
{
    char piece[16384];
    while (feof(file) == 0 && ferror(file) == 0 && (int64_t)out->len <= max_bytes)
        buf_add(out, piece, fread(piece, 1, sizeof piece, file));
}

static struct err read_file(const char *path, int64_t max_bytes, struct buf *out)
{
    bool opened = strcmp(path, "-") != 0;
    FILE *file = opened ? fopen(path, "re") : stdin;
    if (file == NULL)
        return err_make(ERR_USAGE, "cannot read %.100s: %s", path, strerror(errno));
    errno = 0;
    read_all(file, max_bytes, out);
    struct err err = ERR_NONE;
    if (ferror(file) != 0)
        err = err_make(ERR_USAGE, "cannot read %.100s: %s", path, strerror(errno));
    else if ((int64_t)out->len > max_bytes)
        err = err_make(ERR_USAGE, "%.80s is larger than IMPORT_MAX_BYTES (%lld): split it", path,
                       (long long)max_bytes);
    else if (!encoding_is_text(buf_span(out)))
        err = err_make(ERR_USAGE, "%.100s is not UTF-8: save it as CSV UTF-8", path);
    if (opened)
        fclose(file);
    return err;
}

static void take_columns(struct sheet *sheet, const struct csv_row *row)
{
    sheet->columns = arena_alloc(&sheet->arena, row->count * sizeof *sheet->columns);
    sheet->column_count = row->count;
    for (size_t i = 0; i < row->count; i++) {
        char *name = arena_strdup(&sheet->arena, row->cells[i]);
        for (char *at = name; *at != '\0'; at++)
            *at = (char)tolower((unsigned char)*at);
        sheet->columns[i] = name;
    }
}

static void take_row(struct sheet *sheet, const struct csv_row *row, size_t *room)
{
    if (row->count != sheet->column_count) {
        sheet_fault(sheet, row->line, "%zu cells, where the first line names %zu columns",
                    row->count, sheet->column_count);
        return;
    }
    if (sheet->count == *room) {
        *room = *room == 0 ? 64 : *room * 2;
        struct sheet_row *grown = mem_zalloc(*room * sizeof *grown);
        if (sheet->count > 0)
            memcpy(grown, sheet->rows, sheet->count * sizeof *grown);
        free(sheet->rows);
        sheet->rows = grown;
    }
    struct sheet_row *kept = &sheet->rows[sheet->count++];
    kept->line = row->line;
    kept->cells = arena_alloc(&sheet->arena, row->count * sizeof *kept->cells);
    memcpy(kept->cells, row->cells, row->count * sizeof *kept->cells);
}

struct err sheet_read(struct sheet *sheet, const char *path, int64_t max_bytes)
{
    struct buf text = {0};
    struct csv csv;
    struct csv_row row;
    size_t room = 0;
    *sheet = (struct sheet){.path = path};
    arena_init(&sheet->arena);
    struct err err = read_file(path, max_bytes, &text);
    csv_init(&csv, buf_span(&text));
    while (!err_failed(&err) && csv_read(&csv, &sheet->arena, &row)) {
        if (csv.problem != NULL)
            sheet_fault(sheet, row.line, "%s", csv.problem);
        else if (sheet->columns == NULL)
            take_columns(sheet, &row);
        else
            take_row(sheet, &row, &room);
    }
    buf_close(&text);
    if (!err_failed(&err) && sheet->columns == NULL)
        err = err_make(ERR_USAGE, "%.100s is empty: its first line names the columns", path);
    return err;
}

void sheet_close(struct sheet *sheet)
{
    free(sheet->rows);
    buf_close(&sheet->said);
    arena_close(&sheet->arena);
    *sheet = (struct sheet){0};
}

/* --- faults ---------------------------------------------------------------------------------- */

void sheet_fault(struct sheet *sheet, size_t line, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct buf shown = {0};
    buf_printf(&shown, "%s:%zu: %s", sheet->path, line, text);
    output_add_clean(&sheet->said, buf_text(&shown));
    buf_add_text(&sheet->said, "\n");
    buf_close(&shown);
    sheet->faults++;
}

void sheet_print_faults(struct sheet *sheet)
{
    fputs(buf_text(&sheet->said), stderr);
}

/* --- cells ----------------------------------------------------------------------------------- */

bool sheet_has(const struct sheet *sheet, const char *column)
{
    for (size_t i = 0; i < sheet->column_count; i++)
        if (strcmp(sheet->columns[i], column) == 0)
            return true;
    return false;
}

const char *sheet_get(const struct sheet *sheet, size_t row, const char *column)
{
    for (size_t i = 0; i < sheet->column_count; i++)
        if (strcmp(sheet->columns[i], column) == 0)
            return text_is_empty(sheet->rows[row].cells[i]) ? NULL : sheet->rows[row].cells[i];
    return NULL;
}

static bool is_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

void sheet_check(struct sheet *sheet, const char *const *known, size_t known_count, size_t required)
{
    for (size_t i = 0; i < sheet->column_count; i++) {
        if (!is_among(sheet->columns[i], known, known_count))
            sheet_fault(sheet, 1, "nobody knows the column \"%.40s\"", sheet->columns[i]);
        else if (is_among(sheet->columns[i], sheet->columns, i))
            sheet_fault(sheet, 1, "the column \"%.40s\" comes twice", sheet->columns[i]);
    }
    for (size_t i = 0; i < required; i++) {
        if (!sheet_has(sheet, known[i])) {
            sheet_fault(sheet, 1, "the column \"%s\" is missing", known[i]);
            continue;
        }
        for (size_t row = 0; row < sheet->count; row++)
            if (sheet_get(sheet, row, known[i]) == NULL)
                sheet_fault(sheet, sheet->rows[row].line, "%s is missing", known[i]);
    }
}
