#include "service/credits_figures.h"

static const struct figures_series series[CREDITS_FIGURE_COUNT] = {
    [CREDITS_FIGURE_GRANTED] = {METRIC_credits_granted_total, NULL},
    [CREDITS_FIGURE_GRANTS] = {METRIC_credit_grants_total, NULL},
    [CREDITS_FIGURE_LATENCY] = {METRIC_credit_latency_seconds, NULL},
    [CREDITS_FIGURE_DUPLICATES] = {METRIC_credit_duplicates_total, NULL},
    [CREDITS_FIGURE_REVERSED_REFUND] = {METRIC_credits_reversed_total, "refund"},
    [CREDITS_FIGURE_REVERSED_HOLD] = {METRIC_credits_reversed_total, "dispute_hold"},
    [CREDITS_FIGURE_REVERSED_LOSS] = {METRIC_credits_reversed_total, "dispute_loss"},
    [CREDITS_FIGURE_RESTORED_REFUND] = {METRIC_credits_restored_total, "refund_reversal"},
    [CREDITS_FIGURE_RESTORED_HOLD] = {METRIC_credits_restored_total, "dispute_release"},
    [CREDITS_FIGURE_RESTORED_LOSS] = {METRIC_credits_restored_total, "dispute_loss"},
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
