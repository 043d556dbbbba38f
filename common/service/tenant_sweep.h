#ifndef WHOPLINE_TENANT_SWEEP_H
#define WHOPLINE_TENANT_SWEEP_H
/* Which tenants something is to be done for, by the clock. The caller's thread. */
#include "base/config.h"
#include "io/pg.h"

enum { TENANT_SWEEP_MAX = 500 };

/* Ids of up to TENANT_SWEEP_MAX tenants; the rest comes next time. */
struct tenant_ids {
    int64_t ids[TENANT_SWEEP_MAX];
    size_t count;
};

/* Those whose token expires within TOKEN_REFRESH_AHEAD_SECONDS, and that are not held. */
MUST_CHECK struct err tenant_sweep_expiring(struct pg *pg, const struct config *config,
                                            struct tenant_ids *out);
/* Those that lack a permission: somebody may have granted it. */
MUST_CHECK struct err tenant_sweep_lacking(struct pg *pg, const struct config *config,
                                           struct tenant_ids *out);

/* Those that sell credits and whose books at Whop can be read; those first whose latest look of
 * that kind (reconcile_runs.kind) is longest ago. */
MUST_CHECK struct err tenant_sweep_selling(struct pg *pg, const struct config *config,
                                           const char *kind, struct tenant_ids *out);

/* Those whose members at Whop can be read and are due to be: kind is of member_runs. First those
 * whose latest look is longest ago. None while WHOP_SYNC_ENABLED is off. */
MUST_CHECK struct err tenant_sweep_members(struct pg *pg, const struct config *config,
                                           const char *kind, struct tenant_ids *out);

/* What was left behind: events journalled while their tenant was being added, jobs parked for a
 * tenant that is active, because whoever put the others in again was interrupted. *moved: how many
 * of both. Transactions of its own. An error is one
 * tenant's, of whom there may be more; the others were seen to. */
MUST_CHECK struct err tenant_sweep_stranded(struct pg *pg, const char *actor, size_t *moved);

#endif
