#include "service/credentials.h"

#include "codec/json.h"

#include <stdio.h>
#include <stdlib.h>

static const char kind_key[] = "whop_api_key";
static const char kind_oauth[] = "whop_oauth";

struct err credential_keys(const struct config *config, struct seal_keys **out)
{
    return seal_keys_new(config->whop_token_encryption_keys, config->whop_token_encryption_key,
                         out);
}

/* A column of a fixed size: longer or shorter ones do not open, which is all that matters. */
static void read_fixed(struct pg *pg, size_t row, size_t column, uint8_t *out, size_t size)
{
    struct buf bytes = {0};
    pg_get_bytes(pg, row, column, &bytes);
    memset(out, 0, size);
    memcpy(out, buf_span(&bytes).ptr, bytes.len < size ? bytes.len : size);
    buf_close(&bytes);
}

void credential_read_box(struct pg *pg, size_t row, size_t column, struct sealed *out)
{
    *out = (struct sealed){0};
    snprintf(out->key_id, sizeof out->key_id, "%s", pg_get(pg, row, column));
    read_fixed(pg, row, column + 1, out->nonce, sizeof out->nonce);
    pg_get_bytes(pg, row, column + 2, &out->ciphertext);
    read_fixed(pg, row, column + 3, out->tag, sizeof out->tag);
}

/* --- tokens ---------------------------------------------------------------------------------- */

/* What can go into a header. */
static bool is_word(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] <= ' ' || (unsigned char)text.ptr[i] >= 0x7f)
            return false;
    return text.len > 0;
}

/* A member's text into a buffer of its own; the arena's copy is wiped. */
static void take_text(const struct json_value *value, struct arena *arena, struct buf *out)
{
    const char *text = json_text(value, arena, NULL);
    size_t len = strlen(text);
    buf_reserve(out, len + 1);
    buf_add(out, text, len);
    if (len > 0)
        explicit_bzero((char *)(uintptr_t)text, len);
}

struct err credential_parse_tokens(struct span text, int64_t now_s, struct credential_tokens *out)
{
    static const char *const names[] = {"access_token", "refresh_token", "scope", "expires_in",
                                        "expires_at"};
    const struct json_value *members[ARRAY_LEN(names)];
    struct arena arena;
    int64_t at_s = 0;
    *out = (struct credential_tokens){0};
    struct json_doc *doc = json_parse(text);
    if (doc == NULL || !json_is_object(json_root(doc)) ||
        !json_pick(json_root(doc), names, ARRAY_LEN(names), members)) {
        json_free(doc);
        return err_make(ERR_MALFORMED, "tokens are a JSON object with access_token, refresh_token "
                                       "and expires_in or expires_at");
    }
    arena_init(&arena);
    take_text(members[0], &arena, &out->access);
    take_text(members[1], &arena, &out->refresh);
    take_text(members[2], &arena, &out->scope);
    if (!json_integer(members[3], &out->expires_s) && json_integer(members[4], &at_s))
        out->expires_s = at_s - now_s;
    if (out->expires_s < 0)
        out->expires_s = 0;
    arena_close(&arena);
    json_free(doc);
    bool both = out->access.len > 0 && out->refresh.len > 0;
    if (both && is_word(buf_span(&out->access)))
        return ERR_NONE;
    credential_close_tokens(out);
    if (both)
        return err_make(ERR_MALFORMED, "access_token is not one word of printable ASCII");
    return err_make(ERR_MALFORMED, "access_token and refresh_token must both be there: without the "
                                   "second the first cannot be renewed");
}

void credential_close_tokens(struct credential_tokens *tokens)
{
    seal_wipe(&tokens->access);
    seal_wipe(&tokens->refresh);
    buf_close(&tokens->scope);
}

/* What is sealed of a pair: JSON. */
static void pack_tokens(const struct credential_tokens *tokens, struct buf *out)
{
    struct json_writer writer = {.out = out};
    struct buf access = {0};
    struct buf refresh = {0};
    buf_reserve(out, 2 * (tokens->access.len + tokens->refresh.len) + 64);
    buf_reserve(&access, tokens->access.len + 1);
    buf_reserve(&refresh, tokens->refresh.len + 1);
    buf_add(&access, tokens->access.ptr, tokens->access.len);
    buf_add(&refresh, tokens->refresh.ptr, tokens->refresh.len);
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "access_token", buf_text(&access));
    json_put_text(&writer, "refresh_token", buf_text(&refresh));
    json_end_object(&writer);
    seal_wipe(&access);
    seal_wipe(&refresh);
}

/* --- loading --------------------------------------------------------------------------------- */

static struct err check_status(const char *status, const char *slug, const char *why)
{
    if (strcmp(status, "paused") == 0)
        return err_make(ERR_TENANT_PAUSED, "%s", "");
    if (strcmp(status, "disconnected") == 0)
        return err_make(ERR_TENANT_DISCONNECTED, "%s", "");
    if (strcmp(status, "reauth_required") == 0)
        return err_make(ERR_TENANT_REAUTH, "reauth_required: whopline tenants reauth %.40s", slug);
    if (strcmp(status, "permission_missing") == 0)
        return err_make(ERR_TENANT_PERMISSION, "permission_missing: %.80s", why);
    return ERR_NONE;
}

static struct err use_settings(const struct config *config, const char *slug,
                               struct credential *out)
{
    if (text_is_empty(config->whop_api_key))
        return err_make(ERR_CREDENTIAL_MISSING,
                        "tenant %.40s has no credential: whopline tenants reauth, or set "
                        "WHOP_API_KEY",
                        slug);
    snprintf(out->name, sizeof out->name, "app");
    size_t len = strlen(config->whop_api_key);
    buf_reserve(&out->token, len + 1);
    buf_add(&out->token, config->whop_api_key, len);
    return ERR_NONE;
}

static struct err unpack(struct credential *out, struct buf *plain)
{
    struct credential_tokens tokens;
    if (!out->is_oauth) {
        out->token = *plain;
        *plain = (struct buf){0};
        return ERR_NONE;
    }
    TRY(credential_parse_tokens(buf_span(plain), 0, &tokens));
    out->token = tokens.access;
    out->refresh_token = tokens.refresh;
    buf_close(&tokens.scope);
    return ERR_NONE;
}

static struct err open_box(const struct config *config, const struct sealed *box,
                           struct credential *out)
{
    struct seal_keys *keys = NULL;
    struct buf plain = {0};
    const struct seal_context context = {.tenant = out->tenant,
                                         .purpose = out->is_oauth ? kind_oauth : kind_key};
    TRY(credential_keys(config, &keys));
    struct err err = seal_open(keys, &context, box, &plain);
    /* Without any key that is the operator's to set right: the job waits for it, as for others. */
    if (err.code == ERR_CONFIG)
        err.code = ERR_SEALED;
    if (!err_failed(&err))
        err = unpack(out, &plain);
    seal_wipe(&plain);
    seal_keys_free(keys);
    return err;
}

struct err credential_load(struct pg *pg, const struct config *config, int64_t tenant,
                           enum credential_use use, struct credential *out)
{
    struct sealed box;
    *out = (struct credential){.tenant = tenant};
    TRY(PG_EXEC(
        pg,
        "SELECT t.status, t.slug, t.pause_reason, t.whop_company_id, c.id, c.version, c.kind,"
        " c.access_expires_at <= whopline_now() + $2::bigint * interval '1 second',"
        " c.key_id, c.nonce, c.ciphertext, c.tag"
        " FROM tenants t LEFT JOIN tenant_credentials c ON c.tenant_id = t.id"
        "  AND c.revoked_at IS NULL AND c.kind IN ('whop_oauth', 'whop_api_key')"
        " WHERE t.id = $1::bigint",
        pg_integer(tenant), pg_integer(config->token_refresh_ahead_seconds)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no tenant %lld", (long long)tenant);
    const char *status = pg_get(pg, 0, 0);
    bool is_gone = strcmp(status, "disconnected") == 0;
    if (use == CREDENTIAL_FOR_WORK || (is_gone && use != CREDENTIAL_FOR_END))
        TRY(check_status(status, pg_get(pg, 0, 1), pg_get(pg, 0, 2)));
    snprintf(out->company, sizeof out->company, "%s", pg_get(pg, 0, 3));
    if (pg_is_null(pg, 0, 4))
        return use_settings(config, pg_get(pg, 0, 1), out);
    out->id = pg_get_integer(pg, 0, 4);
    out->version = pg_get_integer(pg, 0, 5);
    out->is_oauth = strcmp(pg_get(pg, 0, 6), kind_oauth) == 0;
    out->is_expiring = out->is_oauth && (pg_is_null(pg, 0, 7) || pg_get_flag(pg, 0, 7));
    snprintf(out->name, sizeof out->name, "c%lld", (long long)out->id);
    credential_read_box(pg, 0, 8, &box);
    struct err err = open_box(config, &box, out);
    buf_close(&box.ciphertext);
    return err;
}

void credential_close(struct credential *credential)
{
    seal_wipe(&credential->token);
    seal_wipe(&credential->refresh_token);
}

/* --- storing --------------------------------------------------------------------------------- */

static struct err seal(const struct config *config, int64_t tenant, const char *kind,
                       struct span plain, struct sealed *out)
{
    struct seal_keys *keys = NULL;
    const struct seal_context context = {.tenant = tenant, .purpose = kind};
    TRY(credential_keys(config, &keys));
    struct err err = seal_box(keys, &context, plain, out);
    seal_keys_free(keys);
    return err;
}

#define BOX_PARAMS(box)                                                                            \
    pg_text((box)->key_id), pg_bytes((struct span){(const char *)(box)->nonce, SEAL_NONCE_BYTES}), \
        pg_bytes(buf_span(&(box)->ciphertext)),                                                    \
        pg_bytes((struct span){(const char *)(box)->tag, SEAL_TAG_BYTES})

static struct err insert(struct pg *pg, const struct config *config, int64_t tenant,
                         const char *kind, struct span plain, const char *scope, int64_t expires_s)
{
    struct sealed box;
    bool oauth = strcmp(kind, kind_oauth) == 0;
    /* Two at once come one after the other: each sees what the other has stored, and revokes it. */
    TRY(PG_EXEC(pg, "SELECT 1 FROM tenants WHERE id = $1::bigint FOR UPDATE", pg_integer(tenant)));
    TRY(credential_erase(pg, tenant));
    TRY(seal(config, tenant, kind, plain, &box));
    struct err err =
        PG_EXEC(pg,
                "INSERT INTO tenant_credentials (tenant_id, kind, key_id, nonce, ciphertext, tag,"
                " scope, access_expires_at) VALUES ($1::bigint, $2, $3, $4, $5, $6,"
                " array_remove(string_to_array($7, ' '), ''), CASE WHEN $8::boolean THEN"
                " whopline_now() + $9::bigint * interval '1 second' END)",
                pg_integer(tenant), pg_text(kind), BOX_PARAMS(&box), pg_text(scope), pg_flag(oauth),
                pg_integer(expires_s));
    buf_close(&box.ciphertext);
    return err;
}

struct err credential_store_key(struct pg *pg, const struct config *config, int64_t tenant,
                                struct span key)
{
    if (!is_word(key))
        return err_make(ERR_USAGE, "an API key is one word of printable ASCII: nothing else may be "
                                   "in its file");
    return insert(pg, config, tenant, kind_key, key, "", 0);
}

struct err credential_store_tokens(struct pg *pg, const struct config *config, int64_t tenant,
                                   const struct credential_tokens *tokens)
{
    struct buf plain = {0};
    struct buf scope = {0};
    buf_add(&scope, tokens->scope.ptr, tokens->scope.len);
    pack_tokens(tokens, &plain);
    struct err err = insert(pg, config, tenant, kind_oauth, buf_span(&plain), buf_text(&scope),
                            tokens->expires_s);
    seal_wipe(&plain);
    buf_close(&scope);
    return err;
}

struct err credential_replace_tokens(struct pg *pg, const struct config *config,
                                     const struct credential *old,
                                     const struct credential_tokens *tokens, bool *stored)
{
    struct sealed box;
    struct buf plain = {0};
    pack_tokens(tokens, &plain);
    struct err err = seal(config, old->tenant, kind_oauth, buf_span(&plain), &box);
    seal_wipe(&plain);
    TRY(err);
    err =
        PG_EXEC(pg,
                "UPDATE tenant_credentials SET key_id = $3, nonce = $4, ciphertext = $5, tag = $6,"
                " version = version + 1, updated_at = whopline_now(), refresh_lock_until = NULL,"
                " access_expires_at = whopline_now() + $7::bigint * interval '1 second'"
                " WHERE id = $1::bigint AND version = $2::integer AND revoked_at IS NULL",
                pg_integer(old->id), pg_integer(old->version), BOX_PARAMS(&box),
                pg_integer(tokens->expires_s));
    buf_close(&box.ciphertext);
    TRY(err);
    *stored = pg_affected(pg) == 1;
    return ERR_NONE;
}

struct err credential_erase(struct pg *pg, int64_t tenant)
{
    return PG_EXEC(pg,
                   "UPDATE tenant_credentials SET revoked_at = whopline_now(), key_id = NULL,"
                   " nonce = NULL, ciphertext = NULL, tag = NULL, refresh_lock_until = NULL,"
                   " updated_at = whopline_now()"
                   " WHERE tenant_id = $1::bigint AND revoked_at IS NULL",
                   pg_integer(tenant));
}

/* --- another key ----------------------------------------------------------------------------- */

/* Both kinds of sealed rows: what is needed to open one and to write it back. */
#define SEALED_ROWS                                                                                \
    "SELECT false AS is_secret, c.id, c.tenant_id AS tenant, c.kind AS purpose,"                   \
    " c.key_id, c.nonce, c.ciphertext, c.tag FROM tenant_credentials c"                            \
    " WHERE c.revoked_at IS NULL"                                                                  \
    " UNION ALL SELECT true, s.id, coalesce(e.tenant_id, 0),"                                      \
    " 'webhook/' || e.name, s.key_id, s.nonce, s.ciphertext, s.tag"                                \
    " FROM webhook_endpoint_secrets s JOIN webhook_endpoints e ON e.id = s.endpoint_id"

static void note_rekeyed(struct credential_rekeyed *so_far, const struct err *err)
{
    so_far->sealed += !err_failed(err);
    so_far->failed += err_failed(err);
    if (err_failed(err) && !err_failed(&so_far->why))
        so_far->why = *err;
}

static struct err rekey_row(struct pg *pg, const struct seal_keys *keys,
                            struct credential_rekeyed *so_far)
{
    struct sealed box;
    struct sealed fresh = {0};
    struct buf plain = {0};
    char purpose[SEAL_PURPOSE_MAX];
    TRY(PG_EXEC(pg,
                "SELECT * FROM (" SEALED_ROWS ") q WHERE key_id <> $1"
                " AND (is_secret, id) > ($2::boolean, $3::bigint)"
                " ORDER BY is_secret, id LIMIT 1",
                pg_text(seal_keys_newest(keys)), pg_flag(so_far->after_secrets),
                pg_integer(so_far->after)));
    so_far->more = pg_rows(pg) == 1;
    if (!so_far->more)
        return ERR_NONE;
    bool is_credential = !pg_get_flag(pg, 0, 0);
    int64_t id = pg_get_integer(pg, 0, 1);
    so_far->after_secrets = !is_credential;
    so_far->after = id;
    snprintf(purpose, sizeof purpose, "%s", pg_get(pg, 0, 3));
    const struct seal_context context = {.tenant = pg_get_integer(pg, 0, 2), .purpose = purpose};
    credential_read_box(pg, 0, 4, &box);
    struct err err = seal_open(keys, &context, &box, &plain);
    if (!err_failed(&err))
        err = seal_box(keys, &context, buf_span(&plain), &fresh);
    if (!err_failed(&err))
        err = PG_EXEC(
            pg,
            is_credential ? "UPDATE tenant_credentials SET key_id = $3, nonce = $4,"
                            " ciphertext = $5, tag = $6 WHERE id = $1::bigint AND nonce = $2"
                          : "UPDATE webhook_endpoint_secrets SET key_id = $3, nonce = $4,"
                            " ciphertext = $5, tag = $6 WHERE id = $1::bigint AND nonce = $2",
            pg_integer(id), pg_bytes((struct span){(const char *)box.nonce, SEAL_NONCE_BYTES}),
            BOX_PARAMS(&fresh));
    note_rekeyed(so_far, &err);
    seal_wipe(&plain);
    buf_close(&box.ciphertext);
    buf_close(&fresh.ciphertext);
    return err.code == ERR_SEALED ? ERR_NONE : err;
}

struct err credential_rekey(struct pg *pg, const struct config *config,
                            struct credential_rekeyed *so_far)
{
    struct seal_keys *keys = NULL;
    TRY(credential_keys(config, &keys));
    if (keys == NULL)
        return err_make(ERR_CONFIG, "there is no key: set WHOP_TOKEN_ENCRYPTION_KEYS");
    struct err err = rekey_row(pg, keys, so_far);
    seal_keys_free(keys);
    return err;
}
