#ifndef WHOPLINE_CREDITS_FIGURES_H
#define WHOPLINE_CREDITS_FIGURES_H
/* What a worker that settles payments counts of it: .figures = &credits_figures in its struct
 * worker, and slot->figures given to credits_settle. */
#include "base/figures.h"

enum credits_figure {
    CREDITS_FIGURE_GRANTED, /* credits */
    CREDITS_FIGURE_GRANTS,  /* payments */
    CREDITS_FIGURE_LATENCY,
    CREDITS_FIGURE_DUPLICATES,
    CREDITS_FIGURE_REVERSED_REFUND, /* credits, by the kind of the ledger's row */
    CREDITS_FIGURE_REVERSED_HOLD,
    CREDITS_FIGURE_REVERSED_LOSS,
    CREDITS_FIGURE_RESTORED_REFUND,
    CREDITS_FIGURE_RESTORED_HOLD,
    CREDITS_FIGURE_RESTORED_LOSS,
    CREDITS_FIGURE_COUNT,
};

extern const struct figures_list credits_figures;

/* A row of the ledger that follows from a refund or a dispute. */
void credits_figures_note(struct figures *figures, const char *kind, int64_t credits);

#endif
