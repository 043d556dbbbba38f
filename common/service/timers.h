#ifndef WHOPLINE_TIMERS_H
#define WHOPLINE_TIMERS_H
/* Timers: a job at a time of its own, unless it is cancelled before. Blocking; the connection's
 * thread; the clock is whopline_now().
 *
 * A timer's key is tenant, kind, entity and sequence: one that is set twice is one, and one that
 * has fired or was cancelled is not set again. Its handler looks again, under its lock, whether it
 * still has something to do: cancelling may come a moment too late. Timers of a tenant who is not
 * active wait. */
#include "codec/job.h"
#include "io/pg.h"

struct timer {
    enum job_kind kind;
    int64_t tenant;
    const char *entity;  /* whose it is; the job's key */
    int64_t sequence;    /* which of them */
    int64_t at_ms;       /* Unix; 0: now by the database's clock */
    int64_t delay_ms;    /* after that */
    struct span payload; /* packed, of the kind's current version */
};

/* In the caller's transaction. *is_new (may be NULL): false if there was one of that key. */
MUST_CHECK struct err timers_set(struct pg *pg, const struct timer *timer, bool *is_new);
/* All pending ones of that kind and entity; in the caller's transaction. pg_affected: how many. */
MUST_CHECK struct err timers_cancel(struct pg *pg, int64_t tenant, enum job_kind kind,
                                    const char *entity);

/* Makes jobs of timers that are due, oldest first, up to TIMERS_MAX, in a transaction. *fired: how
 * many; with TIMERS_MAX there may be more. */
enum { TIMERS_MAX = 200 };
MUST_CHECK struct err timers_fire(struct pg *pg, size_t *fired);

#endif
