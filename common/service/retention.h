#ifndef WHOPLINE_RETENTION_H
#define WHOPLINE_RETENTION_H
/* What is old and refers to nothing that is still needed is deleted. Blocking; the connection's
 * thread; the clock is whopline_now().
 *
 *   events             RETENTION_EVENTS_DAYS after they came, once no job of theirs and no open
 *                      review is left; quarantined ones RETENTION_DEAD_DAYS: somebody may yet want
 *                      them. The row goes as a whole: Whop repeats a webhook for 71 hours at most
 *   jobs done, skipped RETENTION_JOBS_DAYS after they ended
 *   jobs dead          RETENTION_DEAD_DAYS after they ended
 *   firings, timers    RETENTION_EVENTS_DAYS after they ended
 *   calls with effect  done or refused: RETENTION_OUTBOUND_MARGIN_DAYS beyond the longest of the
 *                      others, and as long as a job is left that could make them again. Those that
 *                      are not at their end: never
 *   mails              those that have ended: likewise; whatever could ask for one again is gone
 *
 * Queued and parked jobs, the ledger, payments, reviews and the audit log stay for good. */
#include "base/config.h"
#include "io/pg.h"

enum retention_table {
    RETENTION_EVENTS,
    RETENTION_JOBS,
    RETENTION_FIRINGS,
    RETENTION_TIMERS,
    RETENTION_OUTBOUND,
    RETENTION_MAILS,
    RETENTION_TABLE_COUNT,
};
const char *retention_table_name(enum retention_table table);

/* One portion of each table, of RETENTION_BATCH_ROWS at most, each in a transaction of its own,
 * rows that are locked left out. deleted: added to. *more: a portion was full. */
MUST_CHECK struct err retention_sweep(struct pg *pg, const struct config *config,
                                      uint64_t deleted[RETENTION_TABLE_COUNT], bool *more);

#endif
