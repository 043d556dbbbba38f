#ifndef WHOPLINE_STORE_H
#define WHOPLINE_STORE_H
/* Events and jobs in PostgreSQL. Blocking; the connection's thread; errors are those of io/pg.
 *
 * What is said to happen in a transaction needs one begun by the caller. */
#include "io/pg.h"
#include "service/queue.h"

enum job_state {
    JOB_STATE_QUEUED,
    JOB_STATE_DONE,
    JOB_STATE_SKIPPED,
    JOB_STATE_PARKED,
    JOB_STATE_DEAD
};
const char *job_state_name(enum job_state state);

/* One event to journal. */
struct store_event {
    const struct event *event; /* borrowed */
    struct span payload;       /* the same, packed */
    int version;               /* of the payload */
    struct span body;
    int64_t tenant;     /* 0: unknown */
    const char *status; /* routed, ignored, quarantined */
    const char *reason; /* "" with routed */
    bool is_new;        /* set: this call inserted it */
};

/* The tenant of each company, 0 where there is none. */
MUST_CHECK struct err store_find_tenants(struct pg *pg, const char *const *companies, size_t count,
                                         int64_t *out);
/* Inserts those that are not there yet and sets is_new. In a transaction. */
MUST_CHECK struct err store_insert_events(struct pg *pg, struct store_event *events, size_t count);
/* Inserts rows in state queued, not relayed. In a transaction. rebuilds: how often Redis has been
 * filled anew so far, for store_mark_relayed. */
MUST_CHECK struct err store_insert_jobs(struct pg *pg, const struct outgoing *jobs, size_t count,
                                        int64_t *rebuilds);
/* After Redis has said so, for each of these generations. rebuilds: as known before Redis was told;
 * if there has been one since, nobody knows whether it still has them, and nothing is marked. Nor
 * is a row that somebody has locked, most likely to end it. pg_affected: how many were. */
MUST_CHECK struct err store_mark_relayed(struct pg *pg, const struct outgoing *jobs, size_t count,
                                         int64_t rebuilds);

/* How a job ended. */
struct store_ending {
    enum job_state state;
    const char *reason; /* "" for none */
    const char *error;  /* the name of an error, "" for none */
    int attempts;       /* failed ones */
};

/* Ends the generation of a job. id: "<uuid>.<gen>", MALFORMED if it is not.
 * ALREADY_DONE if it is not queued (any more): then roll back. */
MUST_CHECK struct err store_finish_job(struct pg *pg, const char *id,
                                       const struct store_ending *ending);

/* Ends many as done, before their effects in the same transaction: whoever comes with the same jobs
 * waits, and then finds them done. ids as above; mine: whether each was queued and now is ours. */
MUST_CHECK struct err store_claim_jobs(struct pg *pg, const char *const *ids, size_t count,
                                       bool *mine);
/* Of a job claimed in this transaction: it did not end as done. */
MUST_CHECK struct err store_amend_job(struct pg *pg, const char *id,
                                      const struct store_ending *ending);

/* Parks those of these generations that are queued. In a transaction. */
MUST_CHECK struct err store_park_jobs(struct pg *pg, const char *const *ids, size_t count,
                                      const char *reason, const char *error);

/* Keeps the number of failed attempts of a job that is still queued. */
MUST_CHECK struct err store_note_attempts(struct pg *pg, const char *id, int attempts);

#endif
