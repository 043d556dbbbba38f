#include "service/endpoint_store.h"

#include "codec/endpoints.h"
#include "codec/seal.h"
#include "service/credentials.h"

#include <stdio.h>

struct err endpoint_store_open(struct pg *pg, const char *name, int64_t tenant, const char *schemes,
                               int64_t *id)
{
    struct span unknown;
    if (!endpoint_name_is_good(name))
        return err_make(ERR_USAGE,
                        "an endpoint's name is 1 to %d lower-case letters, digits, dashes and "
                        "underscores, not \"%.63s\"",
                        ENDPOINT_NAME_MAX, name);
    if (endpoint_schemes(schemes, &unknown) == 0)
        return err_make(ERR_USAGE, "schemes are standard and legacy (or bare_hex), not \"%.40s\"",
                        schemes);
    TRY(PG_EXEC(pg,
                "INSERT INTO webhook_endpoints (name, tenant_id, schemes)"
                " VALUES ($1, NULLIF($2::bigint, 0), $3)"
                " ON CONFLICT (name) DO UPDATE SET disabled_at = NULL, schemes = excluded.schemes"
                " WHERE webhook_endpoints.tenant_id IS NOT DISTINCT FROM excluded.tenant_id"
                " RETURNING id",
                pg_text(name), pg_integer(tenant), pg_text(schemes)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_REFUSED, "endpoint %s is another tenant's: choose with --endpoint",
                        name);
    *id = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

struct err endpoint_store_find(struct pg *pg, int64_t tenant, const char *name, int64_t *id,
                               struct buf *out)
{
    *id = 0;
    TRY(PG_EXEC(pg,
                "SELECT id, name FROM webhook_endpoints WHERE disabled_at IS NULL"
                " AND tenant_id IS NOT DISTINCT FROM NULLIF($1::bigint, 0)"
                " AND ($2::text IS NULL OR name = $2) ORDER BY name LIMIT 2",
                pg_integer(tenant), pg_text(name)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    if (pg_rows(pg) > 1)
        return err_make(ERR_USAGE, "it has several endpoints: say which with --endpoint");
    *id = pg_get_integer(pg, 0, 0);
    buf_add_text(out, pg_get(pg, 0, 1));
    return ERR_NONE;
}

static struct err seal(const struct config *config, int64_t tenant, const char *name,
                       struct span secret, struct sealed *out)
{
    char purpose[SEAL_PURPOSE_MAX];
    struct seal_keys *keys = NULL;
    snprintf(purpose, sizeof purpose, "webhook/%s", name);
    const struct seal_context context = {.tenant = tenant, .purpose = purpose};
    TRY(credential_keys(config, &keys));
    struct err err = seal_box(keys, &context, secret, out);
    seal_keys_free(keys);
    return err;
}

/* In the file one that ingest cannot use would keep it from all of them. */
static struct err check_secret(struct span secret)
{
    struct signature_keys *keys = NULL;
    for (size_t i = 0; i < secret.len; i++)
        if ((unsigned char)secret.ptr[i] < ' ' || secret.ptr[i] == 0x7f)
            return err_make(ERR_USAGE, "a webhook secret is one line, without control characters");
    TRY(signature_keys_new_list(&secret, 1, &keys));
    signature_keys_free(keys);
    return ERR_NONE;
}

struct err endpoint_store_add_secret(struct pg *pg, const struct config *config, int64_t id,
                                     struct span secret, int64_t overlap_s)
{
    char name[ENDPOINT_NAME_MAX + 1];
    struct sealed box;
    TRY(check_secret(secret));
    /* Locked, so that two rotations at once come one after the other. */
    TRY(PG_EXEC(pg,
                "SELECT name, coalesce(tenant_id, 0) FROM webhook_endpoints WHERE id = $1::bigint"
                " FOR UPDATE",
                pg_integer(id)));
    snprintf(name, sizeof name, "%s", pg_get(pg, 0, 0));
    int64_t tenant = pg_get_integer(pg, 0, 1);
    TRY(PG_EXEC(pg,
                "DELETE FROM webhook_endpoint_secrets WHERE endpoint_id = $1::bigint"
                " AND valid_until <= whopline_now()",
                pg_integer(id)));
    TRY(PG_EXEC(pg,
                "UPDATE webhook_endpoint_secrets SET valid_until = least(valid_until,"
                " whopline_now() + $2::bigint * interval '1 second')"
                " WHERE endpoint_id = $1::bigint",
                pg_integer(id), pg_integer(overlap_s)));
    if (pg_affected(pg) >= SIGNATURE_SECRETS_MAX)
        return err_make(ERR_REFUSED,
                        "endpoint %s has %zu valid secrets, which is as many as are tried: wait "
                        "for one to end, or rotate with --overlap 0",
                        name, pg_affected(pg));
    TRY(seal(config, tenant, name, secret, &box));
    struct err err =
        PG_EXEC(pg,
                "INSERT INTO webhook_endpoint_secrets (endpoint_id, key_id, nonce, ciphertext, tag)"
                " VALUES ($1::bigint, $2, $3, $4, $5)",
                pg_integer(id), pg_text(box.key_id),
                pg_bytes((struct span){(const char *)box.nonce, SEAL_NONCE_BYTES}),
                pg_bytes(buf_span(&box.ciphertext)),
                pg_bytes((struct span){(const char *)box.tag, SEAL_TAG_BYTES}));
    buf_close(&box.ciphertext);
    return err;
}

struct err endpoint_store_close(struct pg *pg, int64_t tenant)
{
    TRY(PG_EXEC(pg,
                "DELETE FROM webhook_endpoint_secrets WHERE endpoint_id IN"
                " (SELECT id FROM webhook_endpoints WHERE tenant_id = $1::bigint)",
                pg_integer(tenant)));
    return PG_EXEC(pg,
                   "UPDATE webhook_endpoints SET disabled_at = whopline_now()"
                   " WHERE tenant_id = $1::bigint AND disabled_at IS NULL",
                   pg_integer(tenant));
}
