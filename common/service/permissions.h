#ifndef WHOPLINE_PERMISSIONS_H
#define WHOPLINE_PERMISSIONS_H
/* What a tenant's credential may do, found out by asking: one reading call for each feature of
 * WHOP_FEATURES. Blocking; no transaction may be open. */
#include "base/arena.h"
#include "service/credentials.h"
#include "service/outside.h"

/* Adds a line to problems for each unknown name in WHOP_FEATURES. */
void permissions_check_setting(const char *features, struct buf *problems);

struct permissions_found {
    struct buf missing; /* names, one per line; empty: none. The caller closes it */
    struct buf
        lacking; /* likewise: for disputes in reconciliation, which a tenant can do without */
    bool active; /* the tenant is (again) */
};

/* Asks, and writes what has come of it to the tenant: permission_missing with the list, or active
 * again if it was that or reauth_required (a paused one stays paused). TENANT_REAUTH: the
 * credential is refused. Others: nothing is known and nothing was changed. */
MUST_CHECK struct err permissions_check(struct pg *pg, struct outside *outside, struct arena *arena,
                                        int64_t tenant, const char *actor,
                                        struct permissions_found *out);

#endif
