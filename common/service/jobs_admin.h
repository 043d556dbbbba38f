#ifndef WHOPLINE_JOBS_ADMIN_H
#define WHOPLINE_JOBS_ADMIN_H
/* What an operator does to jobs that have ended badly: put in again, or set aside for good. And to
 * rows whose place in Redis is lost. Blocking; the connection's thread.
 *
 * Every change is a compare-and-set on the generation and state the caller has seen, in one
 * transaction with an audit row for each job: asked twice, or by two at once, it happens once. */
#include "base/random.h"
#include "io/pg.h"

enum { JOBS_ADMIN_STATE_SIZE = 16, JOBS_ADMIN_TIME_SIZE = 48 };

/* A job as it was seen. */
struct job_ref {
    char id[UUID_TEXT_SIZE];
    int64_t gen;
    char state[JOBS_ADMIN_STATE_SIZE];
    char relayed[JOBS_ADMIN_TIME_SIZE]; /* relayed_at as PostgreSQL writes it; "" where not asked */
};

/* A new generation, due now; its age counts from now on. *changed: how many were still as seen. */
MUST_CHECK struct err jobs_admin_requeue(struct pg *pg, const struct job_ref *refs, size_t count,
                                         const char *actor, const char *reason, size_t *changed);
/* State skipped, reason "dropped: ...". The row and its bytes stay. */
MUST_CHECK struct err jobs_admin_drop(struct pg *pg, const struct job_ref *refs, size_t count,
                                      const char *actor, const char *reason, size_t *changed);
/* Queued rows are marked unrelayed, so that the scheduler offers them again; a duplicate where
 * Redis has them after all. Compares relayed_at too. No audit rows of its own. */
MUST_CHECK struct err jobs_admin_unrelay(struct pg *pg, const struct job_ref *refs, size_t count,
                                         size_t *changed);
/* The same for every row relayed until then (a timestamptz), a portion at a time: call again while
 * *changed is not 0. */
MUST_CHECK struct err jobs_admin_unrelay_all(struct pg *pg, const char *until, size_t *changed);

/* "<uuid>" or "<uuid>.<generation>": out gets the uuid, in lower case. */
bool jobs_admin_parse_id(const char *text, char out[UUID_TEXT_SIZE]);

#endif
