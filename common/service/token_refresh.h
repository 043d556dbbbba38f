#ifndef WHOPLINE_TOKEN_REFRESH_H
#define WHOPLINE_TOKEN_REFRESH_H
/* New OAuth tokens for old, by one refresher at a time.
 *
 *   lock (refresh_lock_until, by compare-and-set on the version) ──> call ──> store, COMMIT ──> use
 *                                                                     │
 *                     a refresh token works once: whoever dies here ──┘ leaves one that is used up,
 *                     and the next refresher learns that: the tenant is reauth_required
 *
 * No transaction is open across the call. Who comes second waits for the first one's tokens. Fault
 * points before_refresh and refresh_reply_before_commit. */
#include "base/arena.h"
#include "service/credentials.h"
#include "service/outside.h"

/* credential: an OAuth one whose token was refused or is about to expire; it becomes the newer one,
 * whoever has fetched that. TENANT_REAUTH: the grant has ended; the tenant's status says so, and
 * nobody else is affected. BUSY: another one is still at it. Others: again later, nothing is lost.
 */
MUST_CHECK struct err token_refresh(struct pg *pg, struct outside *outside, struct arena *arena,
                                    struct credential *credential);

/* Gives the tenant's OAuth tokens back to Whop, before they are erased here: waits for a refresh
 * that is under way, and keeps others from beginning one. *revoked: false if it has none. The
 * tenant is disconnected already, so that nothing new is called with them. Other errors: Whop may
 * still take them. */
MUST_CHECK struct err token_revoke(struct pg *pg, struct outside *outside, struct arena *arena,
                                   int64_t tenant, bool *revoked);

/* The credential is refused for good, if it is still the tenant's: reauth_required. Returns
 * TENANT_REAUTH, or what went wrong with that; ERR_OK if there is another credential by now. */
MUST_CHECK struct err token_refused(struct pg *pg, const struct credential *credential,
                                    const char *why);

#endif
