#ifndef WHOPLINE_TENANT_H
#define WHOPLINE_TENANT_H
/* Tenants: the Whop companies an installation serves. The caller's thread; pg is borrowed.
 *
 *   active             everything goes on
 *   paused             an operator holds it: none of its jobs begins; they are parked
 *   reauth_required    its credential works no more: what calls Whop for it is parked, the rest
 * goes on permission_missing its credential lacks something that is needed: likewise disconnected
 * it has left: its secrets are erased; new jobs are parked, its books are kept
 *
 * What is parked for its tenant's sake is put in again when that is active again
 * (tenant_release_jobs). Every change by hand has its row of audit_log, in the same transaction. */
#include "io/pg.h"

/* Makes the company a tenant unless it is one; its slug is the company's id.
 * created (may be NULL) tells which. */
MUST_CHECK struct err tenant_bootstrap(struct pg *pg, const char *company_id, bool *created);

/* In the caller's transaction. REFUSED if there is one of that slug or company. */
MUST_CHECK struct err tenant_add(struct pg *pg, const char *slug, const char *company_id,
                                 const char *title, int64_t *out);

/* A change of status. */
struct tenant_change {
    const char *status;
    const char *reason; /* "" with active */
    const char *actor;  /* of audit_log: a person, or the program that has found it out */
    const char *action; /* "tenants.pause" */
    const char *from;   /* statuses it is made from, as a PostgreSQL array: "{active,paused}" */
};
/* In the caller's transaction. *changed: false if its status is none of from. */
MUST_CHECK struct err tenant_change_status(struct pg *pg, int64_t tenant,
                                           const struct tenant_change *change, bool *changed);
/* The same in a transaction of its own, for what a program finds out. */
MUST_CHECK struct err tenant_found(struct pg *pg, int64_t tenant,
                                   const struct tenant_change *change, bool *changed);

/* Puts some of the jobs in again that are parked for their tenant's sake: a new generation, bulk,
 * so that they wait their turn beside what is new. A transaction of its own; call it again while
 * *released is not 0. Nothing while the tenant is paused or disconnected. */
MUST_CHECK struct err tenant_release_jobs(struct pg *pg, int64_t tenant, const char *actor,
                                          size_t *released);

/* Tenants none of whose jobs may begin, in order of their ids: *out belongs to the caller (free).
 */
MUST_CHECK struct err tenant_list_held(struct pg *pg, int64_t **out, size_t *count);

/* A job that is about to begin. */
struct tenant_job {
    const char *id; /* <uuid>.<gen> */
    int64_t tenant;
    bool has_row;
    enum err_code held; /* set: why it may not begin; ERR_OK: it may */
};
/* Looks at the tenants once more, under a lock that a resume waits for, and parks the rows of those
 * that are held: so none is parked behind the back of a resume. A transaction of its own. */
MUST_CHECK struct err tenant_hold_jobs(struct pg *pg, struct tenant_job *jobs, size_t count);

#endif
