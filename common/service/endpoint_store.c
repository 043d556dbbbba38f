#include "service/endpoint_store.h"

#include "base/arena.h"
#include "codec/endpoints.h"
#include "codec/seal.h"
#include "service/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- rows ------------------------------------------------------------------------------------ */

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

struct err endpoint_store_add_secret(struct pg *pg, const struct config *config, int64_t id,
                                     struct span secret, int64_t overlap_s)
{
    char name[ENDPOINT_NAME_MAX + 1];
    struct sealed box;
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

/* --- the file -------------------------------------------------------------------------------- */

struct collected {
    struct arena arena;
    struct endpoint_entry *entries;
    size_t count;
    struct buf *plain; /* the secrets, one buffer each */
    size_t plain_count;
};

static const char list_secrets[] =
    "SELECT e.name, coalesce(t.whop_company_id, ''), e.schemes, coalesce(e.tenant_id, 0),"
    " (extract(epoch FROM s.valid_from) * 1000)::bigint,"
    " (extract(epoch FROM s.valid_until) * 1000)::bigint,"
    " s.key_id, s.nonce, s.ciphertext, s.tag"
    " FROM webhook_endpoints e LEFT JOIN tenants t ON t.id = e.tenant_id"
    " JOIN webhook_endpoint_secrets s ON s.endpoint_id = e.id"
    "  AND (s.valid_until IS NULL OR s.valid_until > whopline_now())"
    " WHERE e.disabled_at IS NULL ORDER BY e.name, s.id";

static struct err open_secret(struct pg *pg, size_t row, const struct seal_keys *keys,
                              struct buf *out)
{
    char purpose[SEAL_PURPOSE_MAX];
    struct sealed box;
    snprintf(purpose, sizeof purpose, "webhook/%s", pg_get(pg, row, 0));
    const struct seal_context context = {.tenant = pg_get_integer(pg, row, 3), .purpose = purpose};
    credential_read_box(pg, row, 6, &box);
    struct err err = seal_open(keys, &context, &box, out);
    buf_close(&box.ciphertext);
    return err_failed(&err)
               ? err_make(err.code, "endpoint %.63s: %.100s", pg_get(pg, row, 0), err_text(&err))
               : err;
}

static struct err collect(struct pg *pg, const struct seal_keys *keys, struct collected *out)
{
    TRY(pg_exec(pg, list_secrets, NULL, 0));
    size_t rows = pg_rows(pg);
    out->entries = arena_zalloc(&out->arena, (rows + 1) * sizeof *out->entries);
    out->plain = arena_zalloc(&out->arena, (rows + 1) * sizeof *out->plain);
    for (size_t row = 0; row < rows; row++) {
        const char *name = pg_get(pg, row, 0);
        struct endpoint_entry *entry = &out->entries[out->count > 0 ? out->count - 1 : 0];
        struct buf *plain = &out->plain[out->plain_count++];
        if (out->count == 0 || strcmp(entry->name, name) != 0) {
            entry = &out->entries[out->count++];
            entry->name = arena_strdup(&out->arena, name);
            entry->company = arena_strdup(&out->arena, pg_get(pg, row, 1));
            entry->schemes = arena_strdup(&out->arena, pg_get(pg, row, 2));
        }
        TRY(open_secret(pg, row, keys, plain));
        if (entry->secret_count == SIGNATURE_SECRETS_MAX)
            return err_make(ERR_REFUSED, "endpoint %s has more than %d secrets", name,
                            SIGNATURE_SECRETS_MAX);
        entry->secrets[entry->secret_count++] = (struct endpoint_secret){
            .secret = buf_text(plain),
            .from_ms = pg_get_integer(pg, row, 4),
            .until_ms = pg_is_null(pg, row, 5) ? INT64_MAX : pg_get_integer(pg, row, 5),
        };
    }
    return ERR_NONE;
}

static struct err file_error(const char *what, const char *path)
{
    return err_make(ERR_SYSTEM, "cannot %s %s: %s", what, path, strerror(errno));
}

static struct err write_all(int fd, struct span text, const char *path)
{
    while (text.len > 0) {
        ssize_t done = write(fd, text.ptr, text.len);
        if (done < 0 && errno != EINTR)
            return file_error("write", path);
        text.ptr += done > 0 ? done : 0;
        text.len -= done > 0 ? (size_t)done : 0;
    }
    return fsync(fd) == 0 ? ERR_NONE : file_error("sync", path);
}

/* A file that was renamed is there for good when its folder is synced. */
static struct err sync_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    snprintf(folder, sizeof folder, "%.*s", (int)len, path);
    int fd = open(len > 0 ? folder : slash != NULL ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_error("open the folder of", path);
    bool synced = fsync(fd) == 0;
    struct err err = synced ? ERR_NONE : file_error("sync the folder of", path);
    close(fd);
    return err;
}

static struct err replace_file(const char *path, struct span text)
{
    struct buf name = {0};
    buf_printf(&name, "%s.new", path);
    const char *fresh = buf_text(&name);
    (void)unlink(fresh); /* of a writer that has died */
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct err err = fd < 0 ? file_error("make", fresh) : write_all(fd, text, fresh);
    if (fd >= 0)
        close(fd);
    if (!err_failed(&err) && rename(fresh, path) != 0)
        err = file_error("replace", path);
    if (err_failed(&err))
        (void)unlink(fresh);
    else
        err = sync_folder(path);
    buf_close(&name);
    return err;
}

/* The lock is the database's, so that whoever writes last has read last, from whatever host. */
static struct err read_and_write(struct pg *pg, const struct config *config,
                                 const struct seal_keys *keys, struct collected *collected)
{
    struct buf text = {0};
    TRY(pg_begin(pg));
    TRY(pg_exec(pg, "SELECT pg_advisory_xact_lock(hashtext('whopline endpoints file'))", NULL, 0));
    TRY(collect(pg, keys, collected));
    size_t size = 4096; /* growing would leave copies of secrets behind */
    for (size_t i = 0; i < collected->plain_count; i++)
        size += 1024 + 6 * collected->plain[i].len; /* each byte may be escaped */
    buf_reserve(&text, size);
    endpoints_write(collected->entries, collected->count, &text);
    struct err err = replace_file(config->endpoints_file, buf_span(&text));
    seal_wipe(&text);
    return err;
}

struct err endpoint_store_write_file(struct pg *pg, const struct config *config, size_t *count)
{
    struct seal_keys *keys = NULL;
    struct collected collected = {0};
    *count = 0;
    if (text_is_empty(config->endpoints_file))
        return err_make(ERR_CONFIG, "ENDPOINTS_FILE is not set, for ingest and whopline alike");
    TRY(credential_keys(config, &keys));
    arena_init(&collected.arena);
    struct err err = read_and_write(pg, config, keys, &collected);
    pg_rollback(pg);
    *count = collected.count;
    for (size_t i = 0; i < collected.plain_count; i++)
        seal_wipe(&collected.plain[i]);
    arena_close(&collected.arena);
    seal_keys_free(keys);
    return err;
}
