#ifndef WHOPLINE_CLI_SHEET_H
#define WHOPLINE_CLI_SHEET_H
/* A CSV file an operator hands us: its first row names the columns. What is wrong is collected by
 * line, so that all of it can be mended at once, and printed as FILE:LINE: what. One thread. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdio.h>

struct sheet_row {
    size_t line;
    const char **cells; /* one for each column */
};

struct sheet {
    const char *path;
    const char **columns; /* in lower case */
    size_t column_count;
    struct sheet_row *rows;
    size_t count;
    size_t faults;   /* so far */
    struct buf said; /* of them, one per line */
    struct arena arena;
};

/* Reads the file; "-" is standard input. USAGE if it cannot be read, holds more than max_bytes or
 * is no text; rows that are no CSV are faults. sheet_close in any case. */
MUST_CHECK struct err sheet_read(struct sheet *sheet, const char *path, int64_t max_bytes);
void sheet_close(struct sheet *sheet);

void sheet_fault(struct sheet *sheet, size_t line, const char *format, ...) PRINTF_LIKE(3, 4);

/* Whether the file has the column. */
bool sheet_has(const struct sheet *sheet, const char *column);
/* A row's cell; NULL if it is empty or there is no such column. */
const char *sheet_get(const struct sheet *sheet, size_t row, const char *column);
/* Faults for columns that nobody knows, for those that are missing, and for rows that lack a value
 * in these. required: the first so many of the known ones. */
void sheet_check(struct sheet *sheet, const char *const *known, size_t known_count,
                 size_t required);
/* Prints the faults to stderr. */
void sheet_print_faults(struct sheet *sheet);

#endif
