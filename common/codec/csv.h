#ifndef WHOPLINE_CSV_H
#define WHOPLINE_CSV_H
/* Comma-separated values as RFC 4180 has them and as spreadsheets write them: lines end in LF or
 * CRLF, a byte order mark at the beginning is skipped, empty lines are too. Blanks around a cell
 * that is not quoted are no part of it. The text is borrowed until the end; one thread. */
#include "base/arena.h"

enum { CSV_CELLS_MAX = 64 };

struct csv {
    const char *at;
    const char *end;
    size_t line;
    const char *problem; /* what is wrong with the last row; NULL: nothing */
};

struct csv_row {
    size_t line;                      /* its first; the file's first is 1 */
    const char *cells[CSV_CELLS_MAX]; /* in the arena */
    size_t count;
};

void csv_init(struct csv *csv, struct span text);
/* The next row; false at the end. A row with csv->problem is read over to the end of its line, its
 * cells are not to be used. */
bool csv_read(struct csv *csv, struct arena *arena, struct csv_row *out);

#endif
