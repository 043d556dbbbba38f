#include "service/credits_figures.h"

static const struct figures_series series[CREDITS_FIGURE_COUNT] = {
    [CREDITS_FIGURE_GRANTED] = {.metric = METRIC_credits_granted_total},
    [CREDITS_FIGURE_GRANTS] = {.metric = METRIC_credit_grants_total},
    [CREDITS_FIGURE_LATENCY] = {.metric = METRIC_credit_latency_seconds},
    [CREDITS_FIGURE_DUPLICATES] = {.metric = METRIC_credit_duplicates_total},
    [CREDITS_FIGURE_REVERSED_REFUND] = {.metric = METRIC_credits_reversed_total, .label = "refund"},
    [CREDITS_FIGURE_REVERSED_HOLD] = {.metric = METRIC_credits_reversed_total,
                                      .label = "dispute_hold"},
    [CREDITS_FIGURE_REVERSED_LOSS] = {.metric = METRIC_credits_reversed_total,
                                      .label = "dispute_loss"},
    [CREDITS_FIGURE_RESTORED_REFUND] = {.metric = METRIC_credits_restored_total,
                                        .label = "refund_reversal"},
    [CREDITS_FIGURE_RESTORED_HOLD] = {.metric = METRIC_credits_restored_total,
                                      .label = "dispute_release"},
    [CREDITS_FIGURE_RESTORED_LOSS] = {.metric = METRIC_credits_restored_total,
                                      .label = "dispute_loss"},
};

const struct figures_list credits_figures = {series, CREDITS_FIGURE_COUNT};

void credits_figures_note(struct figures *figures, const char *kind, int64_t credits)
{
    const enum metric metric =
        credits < 0 ? METRIC_credits_reversed_total : METRIC_credits_restored_total;
    for (size_t i = 0; i < CREDITS_FIGURE_COUNT; i++)
        if (series[i].metric == metric && strcmp(series[i].label, kind) == 0)
            figures_count(figures, i, credits < 0 ? -credits : credits);
}
