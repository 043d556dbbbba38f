#ifndef WHOPLINE_OUTPUT_H
#define WHOPLINE_OUTPUT_H
/* What the operator reads: aligned tables, ages, numbers, a little colour on a terminal.
 *
 * Texts come from senders we do not know, so control characters never reach the terminal: they are
 * shown as '?'. Everything goes to stdout. One thread. */
#include "cli/cli.h"

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

/* A list of rows, which operators read as a table and programs as JSON. */
struct output_list {
    const char *json;         /* the question with --json, its columns named as they are shown */
    const char *people;       /* the question for a table: a column for each head */
    const char *const *heads; /* as in table_init */
    size_t columns;
    size_t age;       /* which of them, from 1, is an age in seconds; 0: none */
    size_t tenant;    /* which is shown only if the answer's column behind them is true; 0: none */
    bool shortens;    /* events' ids, as table_add_short */
    const char *none; /* a line for no rows; NULL: the heads alone */
    const char *cut;  /* "the newest", said of as many rows as the limit; NULL: nothing is */
};
/* limit: as in params, for list->cut; else 0. */
MUST_CHECK struct err output_list(struct cli *cli, const struct output_list *list, bool json,
                                  const struct pg_param *params, size_t count, int64_t limit);
/* The table alone, of what has been asked already. */
void output_rows(const struct pg *pg, const struct output_list *list, int64_t limit);
/* The columns of the only row, from the first given on, as rows of a table of two: name and value,
 * but for those that have none. */
void output_record(const struct pg *pg, size_t first, struct table *table);

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
