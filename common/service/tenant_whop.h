#ifndef WHOPLINE_TENANT_WHOP_H
#define WHOPLINE_TENANT_WHOP_H
/* Whop's API in a tenant's name: its credential, refreshed ahead and when it is refused.
 *
 *   struct tenant_whop client;
 *   TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_WORK));
 *   struct err err = whop_get_plan(&client.whop, id, &plan);
 *   err = tenant_whop_close(&client, err);
 *
 * Calls with effect (whop_prepare_..., then outbound_run) stand between open and close just so:
 * their 401 gets one refresh, too.
 *
 * No transaction may be open from open to close. The caller's memory and thread. */
#include "service/credentials.h"
#include "service/whop.h"

struct tenant_whop {
    struct whop whop; /* to be called with */
    struct credential credential;
    struct pg *pg;
};

/* Errors of credential_load and token_refresh; then nothing is open. */
MUST_CHECK struct err tenant_whop_open(struct tenant_whop *client, struct pg *pg,
                                       struct outside *outside, struct arena *arena, int64_t tenant,
                                       enum credential_use use);
/* err: what the calls came to. A credential that was refused although it was renewed makes the
 * tenant reauth_required: TENANT_REAUTH instead of UNAUTHORISED; BUSY if there is another one by
 * now. Everything else is returned as it is. */
MUST_CHECK struct err tenant_whop_close(struct tenant_whop *client, struct err err);

#endif
