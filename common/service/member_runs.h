#ifndef WHOPLINE_MEMBER_RUNS_H
#define WHOPLINE_MEMBER_RUNS_H
/* Whop's list of memberships beside ours: runs of a tenant, a page a job. The rules are SQL
 * (schema/sql/016_member_runs.sql), which also says what an absence from the list is worth.
 *
 * What a page says is noted like any answer of Whop's: an event that came in after the page was
 * asked for stands over it. Whoever joined long ago is backfill, and nobody is written to on his
 * account.
 *
 * Blocking; the connection's thread; errors are those of io/pg and service/tenant_whop. */
#include "base/config.h"
#include "service/members_whop.h"
#include "service/queue.h"

/* Begins a run, in the caller's transaction. kind: recent, open or full; a tenant that has never
 * had a complete one gets that. by: who wants it. *run: 0 if one of its kind is under way. */
MUST_CHECK struct err member_runs_begin(struct pg *pg, int64_t tenant, const char *kind,
                                        const char *by, int64_t *run);

/* By hand: the run with its first page's job and a row of the audit log, in a transaction of its
 * own. *out: the run that has begun, kind in the arena; REFUSED if one is under way. */
struct member_run_wish {
    int64_t tenant;
    const char *kind;
    const char *actor;
    const char *reason;
};
struct member_run_begun {
    int64_t run;
    const char *kind;
};
MUST_CHECK struct err member_runs_order(struct pg *pg, struct arena *arena,
                                        const struct member_run_wish *wish,
                                        struct member_run_begun *out);

struct member_page {
    int64_t tenant;
    int64_t run;
    int64_t number; /* from 0 */
    int attempt;    /* failed ones before this */
};

/* Texts in the arena. */
struct member_page_result {
    bool taken;         /* by another run of the same job; nothing was done */
    const char *failed; /* why the run has ended before its time; "" if it has not */
    bool more;          /* there is a next page */
    bool sweep; /* the list is complete: the next job is the sweep's, with the next number */
    struct member_outcome outcome;
    const char **products; /* that somebody has to read now */
    size_t product_count;
};

/* Reads the page and begins the transaction with all its effects, to which the caller adds what
 * follows. No transaction may be open. */
MUST_CHECK struct err member_runs_take_page(struct pg *pg, struct outside *outside,
                                            struct arena *arena, const struct config *config,
                                            const struct member_page *page,
                                            struct member_page_result *out);

/* Of a complete run: those it has not shown and who have access. In the caller's transaction.
 * *count 0: it is done. */
enum { MEMBER_SWEEP_MAX = 100 };
struct member_absent {
    const char *membership;
    const char *user;
};
MUST_CHECK struct err member_runs_sweep(struct pg *pg, struct arena *arena, int64_t run,
                                        int64_t number, struct member_absent **out, size_t *count);

/* One that was absent has been asked about and is not there. In the caller's transaction, after the
 * members. */
MUST_CHECK struct err member_runs_count_gone(struct pg *pg, int64_t run);
/* Whether it has been read since the run began, so that nobody needs to ask. */
MUST_CHECK struct err member_runs_was_read(struct pg *pg, int64_t tenant, int64_t run,
                                           const char *membership, bool *out);

/* What Whop calls the product, kept. Begins the transaction, which the caller commits. */
MUST_CHECK struct err member_runs_read_product(struct pg *pg, struct outside *outside,
                                               struct arena *arena, int64_t tenant,
                                               const char *product);

#endif
