#ifndef WHOPLINE_AUDIT_H
#define WHOPLINE_AUDIT_H
/* Who did what by hand: rows of audit_log. Blocking; the connection's thread.
 *
 * A row is written in the transaction of what it tells of. Where the deed is in Redis the row is
 * committed first: then a deed may be missing that the log has, but no deed is missing in the log.
 */
#include "io/pg.h"

struct audit {
    const char *actor;
    const char *action; /* "queue.pause" */
    const char *target; /* a queue's name, a job's or an event's id */
    const char *reason; /* "" for none */
    const char *detail; /* a JSON object; NULL for none */
};

/* In the caller's transaction, if there is one. */
MUST_CHECK struct err audit_add(struct pg *pg, const struct audit *audit);

#endif
