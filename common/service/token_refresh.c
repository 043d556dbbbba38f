#include "service/token_refresh.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "service/tenant.h"
#include "service/whop.h"

#include <stdio.h>

enum { LOOK_MS = 100, STORE_AGAIN_MS = 250, BUSY_AFTER_MS = 1000 };

#define ACTOR "whopline"

/* --- the lock -------------------------------------------------------------------------------- */

static struct err lock(struct pg *pg, const struct config *config,
                       const struct credential *credential, bool *mine)
{
    /* In a transaction, which waits no longer than DATABASE_LOCK_TIMEOUT_MS for the row. */
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = PG_EXEC(pg,
                      "UPDATE tenant_credentials SET refresh_lock_until ="
                      "  whopline_now() + $3::bigint * interval '1 ms'"
                      " WHERE id = $1::bigint AND version = $2::integer AND revoked_at IS NULL"
                      " AND (refresh_lock_until IS NULL OR refresh_lock_until <= whopline_now())",
                      pg_integer(credential->id), pg_integer(credential->version),
                      pg_integer(config->token_refresh_lock_ms));
    bool locked = !err_failed(&err) && pg_affected(pg) == 1;
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    *mine = locked && !err_failed(&err);
    return err;
}

/* After a call that has done nothing: the next one need not wait. */
static void unlock(struct pg *pg, const struct credential *credential)
{
    struct err err = PG_EXEC(pg,
                             "UPDATE tenant_credentials SET refresh_lock_until = NULL"
                             " WHERE id = $1::bigint AND version = $2::integer",
                             pg_integer(credential->id), pg_integer(credential->version));
    if (err_failed(&err))
        log_debug("refresh", "the lock runs out by itself", LOG_TEXT("error", err_text(&err)));
}

/* Whether the tenant has another credential, or a newer version of it, by now: then it is ours. */
static struct err reload(struct pg *pg, const struct config *config, struct credential *credential,
                         bool *newer)
{
    struct credential fresh;
    *newer = false;
    struct err err = credential_load(pg, config, credential->tenant, CREDENTIAL_FOR_CHECK, &fresh);
    if (!err_failed(&err) && (fresh.id != credential->id || fresh.version > credential->version)) {
        credential_close(credential);
        *credential = fresh;
        *newer = true;
        return ERR_NONE;
    }
    credential_close(&fresh);
    return err;
}

/* --- the call -------------------------------------------------------------------------------- */

static struct err ask(struct outside *outside, struct arena *arena,
                      const struct credential *credential, struct credential_tokens *out)
{
    const struct config *config = outside->config;
    struct whop_tokens tokens;
    struct buf refresh = {0}; /* with a NUL */
    if (text_is_empty(config->whop_client_id))
        return err_make(ERR_CREDENTIAL_MISSING,
                        "WHOP_CLIENT_ID is not set: no token can be refreshed");
    buf_reserve(&refresh, credential->refresh_token.len + 1);
    buf_add(&refresh, credential->refresh_token.ptr, credential->refresh_token.len);
    struct whop whop = {
        .outside = outside, .arena = arena, .credential = credential->name, .token = ""};
    const struct whop_grant grant = {.client_id = config->whop_client_id,
                                     .client_secret = text_is_empty(config->whop_client_secret)
                                                          ? NULL
                                                          : config->whop_client_secret,
                                     .refresh_token = buf_text(&refresh)};
    struct err err = whop_refresh_tokens(&whop, &grant, &tokens);
    seal_wipe(&refresh);
    TRY(err);
    if (text_is_empty(tokens.refresh_token))
        return err_make(ERR_WHOP_ANSWER, "oauth.token: an answer without refresh_token");
    *out = (struct credential_tokens){
        .expires_s = tokens.expires_in_s != WHOP_NO_NUMBER ? tokens.expires_in_s : 0};
    buf_reserve(&out->access, strlen(tokens.access_token) + 1);
    buf_reserve(&out->refresh, strlen(tokens.refresh_token) + 1);
    buf_add_text(&out->access, tokens.access_token);
    buf_add_text(&out->refresh, tokens.refresh_token);
    explicit_bzero((char *)(uintptr_t)tokens.access_token, strlen(tokens.access_token));
    explicit_bzero((char *)(uintptr_t)tokens.refresh_token, strlen(tokens.refresh_token));
    return ERR_NONE;
}

static struct err store_once(struct pg *pg, const struct config *config,
                             const struct credential *credential,
                             const struct credential_tokens *tokens)
{
    bool stored = false;
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = credential_replace_tokens(pg, config, credential, tokens, &stored);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

/* The old refresh token is used up, so that these must not be lost: tried as long as the lock
 * lasts. Doing it twice does no harm, the version decides. */
static struct err store(struct pg *pg, struct outside *outside, const struct credential *credential,
                        const struct credential_tokens *tokens, int64_t until_ms)
{
    for (;;) {
        struct err err = store_once(pg, outside->config, credential, tokens);
        if (!err_failed(&err) || clock_mono_ms() >= until_ms)
            return err;
        log_warning("refresh", "new tokens are not stored yet", LOG_TEXT("error", err_text(&err)),
                    LOG_TEXT("credential", credential->name));
        TRY(outside->ops->wait(outside->data, STORE_AGAIN_MS));
    }
}

/* --- the end of a grant ---------------------------------------------------------------------- */

static struct err end_grant(struct pg *pg, const struct credential *credential, const char *why,
                            bool *ended)
{
    bool changed;
    const struct tenant_change change = {.status = "reauth_required",
                                         .reason = why,
                                         .actor = ACTOR,
                                         .action = "tenants.reauth_required",
                                         .from = "{active,permission_missing}"};
    TRY(pg_begin(pg));
    if (credential->id != 0) {
        TRY(PG_EXEC(pg,
                    "UPDATE tenant_credentials SET refresh_lock_until = NULL WHERE id = $1::bigint"
                    " AND version = $2::integer AND revoked_at IS NULL",
                    pg_integer(credential->id), pg_integer(credential->version)));
        *ended = pg_affected(pg) == 1;
    }
    if (!*ended)
        return ERR_NONE;
    TRY(tenant_change_status(pg, credential->tenant, &change, &changed));
    if (changed)
        log_warning("refresh", "a tenant has to be connected anew: whopline tenants reauth",
                    LOG_INT("tenant", credential->tenant), LOG_TEXT("why", why));
    return pg_commit(pg);
}

struct err token_refused(struct pg *pg, const struct credential *credential, const char *why)
{
    bool ended = credential->id == 0;
    struct err err = end_grant(pg, credential, why, &ended);
    pg_rollback(pg);
    if (err_failed(&err) || !ended)
        return err;
    return err_make(ERR_TENANT_REAUTH, "reauth_required: whopline tenants reauth; %.100s", why);
}

/* --- together -------------------------------------------------------------------------------- */

static struct err refresh_locked(struct pg *pg, struct outside *outside, struct arena *arena,
                                 struct credential *credential)
{
    struct credential_tokens tokens;
    int64_t until_ms = clock_mono_ms() + outside->config->token_refresh_lock_ms;
    if (FAULT(before_refresh))
        return err_make(ERR_HTTP_NOT_SENT, "%s", "");
    struct err err = ask(outside, arena, credential, &tokens);
    if (err.code == ERR_UNAUTHORISED && strstr(err_text(&err), "invalid_client") != NULL) {
        unlock(pg, credential);
        return err_make(ERR_CREDENTIAL_MISSING,
                        "Whop does not know WHOP_CLIENT_ID or WHOP_CLIENT_SECRET: no token can be "
                        "refreshed");
    }
    if (err.code == ERR_UNAUTHORISED)
        return token_refused(pg, credential, err_text(&err));
    if (err_failed(&err)) {
        unlock(pg, credential);
        /* Offering it again does no harm, and tells. */
        return err_class_of(err.code) == ERR_CLASS_UNKNOWN
                   ? err_make(ERR_WHOP_DOWN, "%s", err_text(&err))
                   : err;
    }
    if (FAULT(refresh_reply_before_commit))
        err = err_make(ERR_CANCELLED, "the new tokens are lost");
    else
        err = store(pg, outside, credential, &tokens, until_ms);
    credential_close_tokens(&tokens);
    return err;
}

struct err token_refresh(struct pg *pg, struct outside *outside, struct arena *arena,
                         struct credential *credential)
{
    const struct config *config = outside->config;
    int64_t until_ms = clock_mono_ms() + config->token_refresh_lock_ms;
    REQUIRE(!pg_in_transaction(pg) && credential->is_oauth);
    while (clock_mono_ms() < until_ms) {
        bool mine = false;
        bool newer = false;
        TRY(lock(pg, config, credential, &mine));
        if (mine) {
            TRY(refresh_locked(pg, outside, arena, credential));
            log_info("refresh", "token refreshed", LOG_INT("tenant", credential->tenant),
                     LOG_TEXT("credential", credential->name));
        }
        TRY(reload(pg, config, credential, &newer));
        if (newer)
            return ERR_NONE;
        TRY(outside->ops->wait(outside->data, LOOK_MS));
    }
    struct err err = err_make(ERR_BUSY, "another process is refreshing this token");
    err.after_ms = BUSY_AFTER_MS;
    return err;
}

/* --- back to Whop ---------------------------------------------------------------------------- */

static struct err lock_for_end(struct pg *pg, struct outside *outside,
                               struct credential *credential, int64_t tenant)
{
    const struct config *config = outside->config;
    int64_t until_ms = clock_mono_ms() + config->token_refresh_lock_ms;
    for (;;) {
        bool mine = false;
        TRY(credential_load(pg, config, tenant, CREDENTIAL_FOR_END, credential));
        if (!credential->is_oauth)
            return ERR_NONE;
        TRY(lock(pg, config, credential, &mine));
        if (mine)
            return ERR_NONE;
        if (clock_mono_ms() >= until_ms)
            return err_make(ERR_BUSY, "somebody is refreshing this token");
        credential_close(credential);
        TRY(outside->ops->wait(outside->data, LOOK_MS));
    }
}

static struct err give_back(struct outside *outside, struct arena *arena,
                            struct credential *credential)
{
    const struct config *config = outside->config;
    if (text_is_empty(config->whop_client_id))
        return err_make(ERR_CREDENTIAL_MISSING, "WHOP_CLIENT_ID is not set");
    struct whop whop = {
        .outside = outside, .arena = arena, .credential = credential->name, .token = ""};
    const struct whop_grant grant = {.client_id = config->whop_client_id,
                                     .client_secret = text_is_empty(config->whop_client_secret)
                                                          ? NULL
                                                          : config->whop_client_secret};
    /* Whether the first takes the second along is not documented. */
    TRY(whop_revoke_token(&whop, &grant, buf_text(&credential->refresh_token)));
    return whop_revoke_token(&whop, &grant, buf_text(&credential->token));
}

struct err token_revoke(struct pg *pg, struct outside *outside, struct arena *arena, int64_t tenant,
                        bool *revoked)
{
    struct credential credential = {0};
    *revoked = false;
    struct err err = lock_for_end(pg, outside, &credential, tenant);
    if (!err_failed(&err) && credential.is_oauth) {
        err = give_back(outside, arena, &credential);
        *revoked = !err_failed(&err);
    }
    credential_close(&credential);
    return err;
}
