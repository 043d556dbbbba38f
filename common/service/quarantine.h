#ifndef WHOPLINE_QUARANTINE_H
#define WHOPLINE_QUARANTINE_H
/* Events that came before their tenant did (reason unknown_company). The caller's thread. */
#include "io/pg.h"

struct quarantine_released {
    size_t events; /* looked at: call again while this is not 0 */
    size_t jobs;   /* inserted */
};

/* Some of the company's events, the oldest first, become its tenant's: each is classified as the
 * journal would do it now, and its jobs are inserted (bulk, so that they wait their turn), in one
 * transaction with a row of audit_log. Nothing if the company is no tenant's. */
MUST_CHECK struct err quarantine_release(struct pg *pg, const char *company_id, const char *actor,
                                         struct quarantine_released *out);

/* A company that is a tenant's and has such events: those that were journalled while the tenant was
 * being added. Appended to out; nothing if there is none. */
MUST_CHECK struct err quarantine_find(struct pg *pg, struct buf *out);

#endif
