#include "service/endpoint_store.h"

#include "base/arena.h"
#include "codec/endpoints.h"
#include "codec/seal.h"
#include "service/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what goes into the file ------------------------------------------------------------------ */

struct collected {
    struct arena arena;
    struct buf text;           /* of the file as it is */
    struct endpoint_list kept; /* what is in it */
    struct endpoint_entry *entries;
    size_t count;
    struct buf *plain; /* the secrets, one buffer each */
    size_t plain_count;
};

/* ingest's clock may be behind the database's: what is valid by now there is valid from the start.
 */
static const char list_secrets[] =
    "SELECT e.name, coalesce(t.whop_company_id, ''), e.schemes, coalesce(e.tenant_id, 0),"
    " CASE WHEN s.valid_from > whopline_now()"
    "  THEN (extract(epoch FROM s.valid_from) * 1000)::bigint ELSE 0 END,"
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

/* The file as it is; one that cannot be read has nothing to keep. */
static void read_kept(const char *path, struct collected *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_size <= ENDPOINTS_FILE_MAX) {
        buf_reserve(&out->text, (size_t)about.st_size + 1);
        ssize_t len = read(fd, out->text.ptr, (size_t)about.st_size);
        out->text.len = len > 0 ? (size_t)len : 0;
    }
    close(fd);
    struct err err = endpoints_parse(buf_span(&out->text), &out->arena, &out->kept);
    if (err_failed(&err))
        out->kept.count = 0;
}

static void wipe(struct collected *collected)
{
    for (size_t i = 0; i < collected->plain_count; i++)
        seal_wipe(&collected->plain[i]);
    for (size_t i = 0; i < collected->kept.count; i++)
        for (size_t k = 0; k < collected->kept.entries[i].secret_count; k++) {
            char *secret = (char *)(uintptr_t)collected->kept.entries[i].secrets[k].secret;
            explicit_bzero(secret, strlen(secret));
        }
    seal_wipe(&collected->text);
    arena_close(&collected->arena);
}

/* An endpoint with a secret that does not open stays as the file has it, if it does: ingest goes on
 * taking its webhooks, and the others' changes get through. */
static void keep_entry(struct collected *collected, struct endpoint_entry *entry,
                       struct endpoint_store_written *out)
{
    for (size_t i = 0; i < collected->kept.count; i++)
        if (strcmp(collected->kept.entries[i].name, entry->name) == 0) {
            *entry = collected->kept.entries[i];
            out->kept++;
            return;
        }
    collected->count--;
    out->left_out++;
}

/* The rows from first on that are of one endpoint; *next is the row behind them. */
static struct err add_endpoint(struct pg *pg, const struct seal_keys *keys, size_t first,
                               struct collected *collected, size_t *next)
{
    struct endpoint_entry *entry = &collected->entries[collected->count++];
    struct err err = ERR_NONE;
    *entry = (struct endpoint_entry){
        .name = arena_strdup(&collected->arena, pg_get(pg, first, 0)),
        .company = arena_strdup(&collected->arena, pg_get(pg, first, 1)),
        .schemes = arena_strdup(&collected->arena, pg_get(pg, first, 2)),
    };
    for (*next = first; *next < pg_rows(pg) && strcmp(pg_get(pg, *next, 0), entry->name) == 0;
         ++*next) {
        struct buf *plain = &collected->plain[collected->plain_count++];
        if (err_failed(&err))
            continue;
        if (entry->secret_count == SIGNATURE_SECRETS_MAX)
            err = err_make(ERR_REFUSED, "endpoint %s has more than %d secrets", entry->name,
                           SIGNATURE_SECRETS_MAX);
        else
            err = open_secret(pg, *next, keys, plain);
        if (!err_failed(&err))
            entry->secrets[entry->secret_count++] = (struct endpoint_secret){
                .secret = buf_text(plain),
                .from_ms = pg_get_integer(pg, *next, 4),
                .until_ms = pg_is_null(pg, *next, 5) ? INT64_MAX : pg_get_integer(pg, *next, 5),
            };
    }
    return err;
}

static struct err collect(struct pg *pg, const struct seal_keys *keys, struct collected *collected,
                          struct endpoint_store_written *out)
{
    TRY(pg_exec(pg, list_secrets, NULL, 0));
    size_t rows = pg_rows(pg);
    collected->entries = arena_zalloc(&collected->arena, (rows + 1) * sizeof *collected->entries);
    collected->plain = arena_zalloc(&collected->arena, (rows + 1) * sizeof *collected->plain);
    for (size_t row = 0; row < rows;) {
        struct err err = add_endpoint(pg, keys, row, collected, &row);
        if (!err_failed(&err))
            continue;
        if (err.code != ERR_SEALED)
            return err;
        if (!err_failed(&out->why))
            out->why = err;
        keep_entry(collected, &collected->entries[collected->count - 1], out);
    }
    out->count = collected->count;
    return ERR_NONE;
}

/* --- the file -------------------------------------------------------------------------------- */

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

/* ingest may run as another user, and read the file by its group: it stays whose it was, as far as
 * we may, but nobody else's. */
static struct err keep_owner(int fd, const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0)
        return ERR_NONE;
    if (fchown(fd, about.st_uid, about.st_gid) != 0 && fchown(fd, (uid_t)-1, about.st_gid) != 0 &&
        errno != EPERM)
        return file_error("keep the owner of", path);
    struct stat ours;
    bool same_group = fstat(fd, &ours) == 0 && ours.st_gid == about.st_gid;
    mode_t mode = about.st_mode & (same_group ? S_IRWXU | S_IRWXG : S_IRWXU);
    return fchmod(fd, mode) == 0 ? ERR_NONE : file_error("set the mode of", path);
}

static struct err replace_file(const char *path, struct span text)
{
    struct buf name = {0};
    buf_printf(&name, "%s.new", path);
    const char *fresh = buf_text(&name);
    (void)unlink(fresh); /* of a writer that has died */
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct err err = fd < 0 ? file_error("make", fresh) : ERR_NONE;
    if (fd >= 0) {
        err = keep_owner(fd, path);
        if (!err_failed(&err))
            err = write_all(fd, text, fresh);
        close(fd);
    }
    if (!err_failed(&err) && rename(fresh, path) != 0)
        err = file_error("replace", path);
    if (err_failed(&err))
        (void)unlink(fresh);
    else
        err = sync_folder(path);
    buf_close(&name);
    return err;
}

/* Behind a link the file itself is replaced, there or not there yet; whoever made the link has
 * meant that place. */
static struct err resolve(const char *path, struct buf *out)
{
    char target[PATH_MAX];
    ssize_t len = readlink(path, target, sizeof target - 1);
    char *real = realpath(path, NULL);
    const char *slash = strrchr(path, '/');
    if (real != NULL) {
        buf_add_text(out, real);
    } else if (errno != ENOENT) {
        return file_error("find", path);
    } else if (len > 0) {
        target[len] = '\0';
        if (target[0] != '/' && slash != NULL)
            buf_add(out, path, (size_t)(slash - path) + 1);
        buf_add_text(out, target);
    } else {
        buf_add_text(out, path);
    }
    free(real);
    return ERR_NONE;
}

/* The lock is the database's, so that whoever writes last has read last, from whatever host. */
static struct err read_and_write(struct pg *pg, const char *path, const struct seal_keys *keys,
                                 struct collected *collected, struct endpoint_store_written *out)
{
    struct buf text = {0};
    TRY(pg_begin(pg));
    TRY(pg_exec(pg, "SELECT pg_advisory_xact_lock(hashtext('whopline endpoints file'))", NULL, 0));
    read_kept(path, collected);
    TRY(collect(pg, keys, collected, out));
    size_t size = 4096 + 6 * collected->text.len; /* growing would leave copies of secrets behind */
    for (size_t i = 0; i < collected->plain_count; i++)
        size += 1024 + 6 * collected->plain[i].len; /* each byte may be escaped */
    buf_reserve(&text, size);
    endpoints_write(collected->entries, collected->count, &text);
    struct err err = replace_file(path, buf_span(&text));
    seal_wipe(&text);
    return err;
}

struct err endpoint_store_write_file(struct pg *pg, const struct config *config,
                                     struct endpoint_store_written *out)
{
    struct buf path = {0};
    struct seal_keys *keys = NULL;
    struct collected collected = {0};
    *out = (struct endpoint_store_written){.why = ERR_NONE};
    if (text_is_empty(config->endpoints_file))
        return err_make(ERR_CONFIG, "ENDPOINTS_FILE is not set, for ingest and whopline alike");
    TRY(credential_keys(config, &keys));
    arena_init(&collected.arena);
    struct err err = resolve(config->endpoints_file, &path);
    if (!err_failed(&err))
        err = read_and_write(pg, buf_text(&path), keys, &collected, out);
    pg_rollback(pg);
    wipe(&collected);
    buf_close(&path);
    seal_keys_free(keys);
    return err;
}
