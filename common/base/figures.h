#ifndef WHOPLINE_FIGURES_H
#define WHOPLINE_FIGURES_H
/* A program's own figures: a constant list says which there are, a struct figures what they have
 * come to. What belongs to a transaction is counted in one of its own, which is poured into
 * another after COMMIT, and emptied after a rollback.
 *
 *   enum { GREETED, LATE, FIGURE_COUNT };
 *   static const struct figures_series series[FIGURE_COUNT] = {
 *       [GREETED] = {.metric = METRIC_greeted_total, .label = "new"},
 *       [LATE] = {.metric = METRIC_greeting_seconds},
 *   };
 *   static const struct figures_list list = {series, FIGURE_COUNT};
 *
 * One without a list (all zero) counts nothing, and costs nothing. One thread at a time. */
#include "base/metric.h"

/* Those of one metric stand together. */
struct figures_series {
    enum metric metric;
    const char *label;  /* of its first label; NULL for none */
    const char *second; /* of its second one, of counters only; likewise */
};

struct figures_list {
    const struct figures_series *series;
    size_t count;
};

struct figures_value {
    uint64_t count;                /* of a counter */
    struct metric_histogram times; /* of a histogram */
};

struct figures {
    const struct figures_list *list; /* borrowed */
    struct figures_value *values;
    bool touched;
};

void figures_init(struct figures *figures, const struct figures_list *list); /* NULL: no list */
void figures_close(struct figures *figures);
void figures_count(struct figures *figures, size_t series, int64_t more); /* more: not negative */
void figures_observe(struct figures *figures, size_t series, int64_t us);
/* Empties it, into another of its list. */
void figures_pour(struct figures *figures, struct figures *into);
void figures_empty(struct figures *figures);
/* All series, also those that are 0. */
void figures_write(const struct figures *figures, struct metric_page *page);

#endif
