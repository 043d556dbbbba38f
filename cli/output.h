#ifndef WHOPLINE_OUTPUT_H
#define WHOPLINE_OUTPUT_H
/* What the operator reads: aligned tables, ages, numbers, a little colour on a terminal.
 *
 * Texts come from senders we do not know, so control characters never reach the terminal: they are
 * shown as '?'. Everything goes to stdout. One thread. */
#include "base/buf.h"

#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16 };

/* Cells are collected row by row and written when all widths are known. */
struct table {
    const char *const *heads;
    size_t columns;
    size_t cells;
    size_t widths[TABLE_COLUMNS_MAX];
    struct buf text; /* the cells, each ended by a NUL */
};

/* heads: borrowed; a leading '>' aligns the column to the right. No head at all (NULL) for lists
 * that explain themselves. */
void table_init(struct table *table, const char *const *heads, size_t columns);
/* The next cell; "" and NULL are shown as "-". */
void table_add(struct table *table, const char *text);
/* The same for a text with an event's id in it: of a MAC's 64 digits the first 12 are shown, which
 * `events show` and `trace` take for the whole. */
void table_add_short(struct table *table, const char *text);
void table_printf(struct table *table, const char *format, ...) PRINTF_LIKE(2, 3);
size_t table_rows(const struct table *table);
/* Appends the lines, each behind the indent, and empties the table. */
void table_write(struct table *table, const char *indent, struct buf *out);
void table_print(struct table *table, const char *indent);

/* Appends the text with control characters made harmless. */
void output_add_clean(struct buf *out, const char *text);

/* "4 s", "12 min", "5 h", "3 d"; a negative age (a sender's clock ahead of ours) is "0 s". */
enum { OUTPUT_SHORT = 32 };
void output_age(int64_t seconds, char out[OUTPUT_SHORT]);
void output_number(int64_t number, char out[OUTPUT_SHORT]); /* "25,000" */

enum output_tone { OUTPUT_PLAIN, OUTPUT_GOOD, OUTPUT_WARNING, OUTPUT_BAD, OUTPUT_STRONG };
/* Escape sequences, or "" where stdout is no terminal or NO_COLOR is set (https://no-color.org). */
const char *output_on(enum output_tone tone);
const char *output_off(void);

#endif
