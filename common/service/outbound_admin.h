#ifndef WHOPLINE_OUTBOUND_ADMIN_H
#define WHOPLINE_OUTBOUND_ADMIN_H
/* What an operator says of a call that the machinery cannot decide. Blocking; the connection's
 * thread.
 *
 * A compare-and-set on what the operator has seen, in one transaction with its audit row and with a
 * new generation of the jobs that wait for it: asked twice, or by two at once, it happens once. */
#include "io/pg.h"

/* SQL: whether job j waits for the word about call o: its latest run's, or another with the same
 * business key, which was told that an operator has to decide. */
#define OUTBOUND_ADMIN_WAITS                                                                       \
    "j.state IN ('parked', 'dead') AND (j.id = o.job_id OR (j.tenant_id = o.tenant_id"             \
    " AND j.state = 'parked' AND j.error = 'UNDECIDED'"                                            \
    " AND j.reason LIKE 'outbound ' || o.id || ': %'))"

enum outbound_verdict {
    OUTBOUND_VERDICT_DONE,    /* it took effect; what it made may be given */
    OUTBOUND_VERDICT_REFUSED, /* it did not and never will */
    OUTBOUND_VERDICT_RESEND,  /* send it: again with the same key, or after a refusal with a new one
                               */
    OUTBOUND_VERDICT_VERIFY,  /* look for it once more */
};

enum { OUTBOUND_ADMIN_STATE_SIZE = 16, OUTBOUND_ADMIN_JOB_SIZE = 40 };

/* A call as it was seen. */
struct outbound_ref {
    int64_t id;
    int64_t attempts;
    char state[OUTBOUND_ADMIN_STATE_SIZE];
};

/* remote_id: with DONE, "" if it is not known. *changed: it was still as seen, and none of its runs
 * may still be at it. job: the id of a job that was put in again, "" if none was. */
MUST_CHECK struct err outbound_admin_resolve(struct pg *pg, const struct outbound_ref *seen,
                                             enum outbound_verdict verdict, const char *remote_id,
                                             const char *actor, const char *reason, bool *changed,
                                             char job[OUTBOUND_ADMIN_JOB_SIZE]);

/* Why that cannot be said of a call in that state; NULL: it can. busy: its answer may still come.
 */
const char *outbound_admin_why_not(const char *state, const char *policy, bool busy,
                                   enum outbound_verdict verdict);

#endif
