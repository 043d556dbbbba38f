#include "base/figures.h"

#include <stdlib.h>

void figures_init(struct figures *figures, const struct figures_list *list)
{
    *figures = (struct figures){.list = list};
    if (list != NULL)
        figures->values = mem_zalloc(list->count * sizeof *figures->values);
}

void figures_close(struct figures *figures)
{
    free(figures->values);
    *figures = (struct figures){0};
}

static struct figures_value *touch(struct figures *figures, size_t series)
{
    REQUIRE(series < figures->list->count);
    figures->touched = true;
    return &figures->values[series];
}

void figures_count(struct figures *figures, size_t series, int64_t more)
{
    REQUIRE(more >= 0);
    if (figures->list != NULL && more > 0)
        touch(figures, series)->count += (uint64_t)more;
}

void figures_observe(struct figures *figures, size_t series, int64_t us)
{
    if (figures->list != NULL)
        metric_observe(figures->list->series[series].metric, &touch(figures, series)->times, us);
}

void figures_empty(struct figures *figures)
{
    if (figures->touched)
        memset(figures->values, 0, figures->list->count * sizeof *figures->values);
    figures->touched = false;
}

void figures_pour(struct figures *figures, struct figures *into)
{
    REQUIRE(figures->list == into->list);
    for (size_t i = 0; figures->touched && i < figures->list->count; i++) {
        struct figures_value *to = touch(into, i);
        to->count += figures->values[i].count;
        to->times.sum_us += figures->values[i].times.sum_us;
        for (size_t k = 0; k <= METRIC_BOUNDS; k++)
            to->times.counts[k] += figures->values[i].times.counts[k];
    }
    figures_empty(figures);
}

void figures_write(const struct figures *figures, struct metric_page *page)
{
    for (size_t i = 0; figures->list != NULL && i < figures->list->count; i++) {
        const struct figures_series *series = &figures->list->series[i];
        if (metric_is_histogram(series->metric))
            metric_put_histogram(page, series->metric, &figures->values[i].times, series->label);
        else
            metric_put(page, series->metric, (int64_t)figures->values[i].count, series->label,
                       series->second);
    }
}
