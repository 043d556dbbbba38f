#include "ingest/endpoint_table.h"

#include "base/log.h"
#include "codec/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE "endpoints"

/* --- the file -------------------------------------------------------------------------------- */

/* NOT_FOUND: there is none (yet). */
static struct err read_file(const char *path, struct buf *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_make(errno == ENOENT ? ERR_NOT_FOUND : ERR_SYSTEM, "cannot read %s: %s", path,
                        strerror(errno));
    struct err err = ERR_NONE;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size > ENDPOINTS_FILE_MAX)
        err = err_make(ERR_CONFIG, "%s is not a regular file of at most 16 MiB", path);
    else if ((about.st_mode & S_IRWXO) != 0)
        err = err_make(ERR_CONFIG, "%s holds secrets and everybody may use it: chmod o= %s", path,
                       path);
    if (!err_failed(&err)) {
        size_t size = (size_t)about.st_size;
        buf_reserve(out, size + 1);
        ssize_t len = read(fd, out->ptr, size);
        out->len = len > 0 ? (size_t)len : 0;
        if (out->len != size)
            err = err_make(ERR_SYSTEM, "cannot read %s: %s", path,
                           len < 0 ? strerror(errno) : "it has changed meanwhile");
    }
    close(fd);
    return err;
}

static struct err make_endpoint(const struct endpoint_entry *entry, struct arena *arena,
                                struct endpoint *out)
{
    struct span unknown;
    struct span secrets[SIGNATURE_SECRETS_MAX];
    *out = (struct endpoint){
        .name = arena_strdup(arena, entry->name),
        .company = arena_strdup(arena, entry->company),
        .schemes = endpoint_schemes(entry->schemes, &unknown),
    };
    for (size_t i = 0; i < entry->secret_count; i++) {
        secrets[i] = span_of(entry->secrets[i].secret);
        out->from_ms[i] = entry->secrets[i].from_ms;
        out->until_ms[i] = entry->secrets[i].until_ms;
    }
    if (entry->secret_count == 0)
        return ERR_NONE; /* nothing it gets is signed with any: all is refused */
    struct err err = signature_keys_new_list(secrets, entry->secret_count, &out->keys);
    return err_failed(&err) ? err_make(err.code, "endpoint %s: %.120s", entry->name, err_text(&err))
                            : err;
}

static void free_list(struct endpoint *list, size_t count, struct arena *arena)
{
    for (size_t i = 0; i < count; i++)
        signature_keys_free(list[i].keys);
    arena_close(arena);
}

static void wipe_secrets(const struct endpoint_list *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        for (size_t k = 0; k < entries->entries[i].secret_count; k++) {
            char *secret = (char *)(uintptr_t)entries->entries[i].secrets[k].secret;
            explicit_bzero(secret, strlen(secret));
        }
}

/* Into an empty table; after a failure it is empty again. */
static struct err load(const char *path, struct endpoint_table *into)
{
    struct buf text = {0};
    struct arena scratch;
    struct endpoint_list entries = {0};
    arena_init(&scratch);
    struct err err = read_file(path, &text);
    if (!err_failed(&err))
        err = endpoints_parse(buf_span(&text), &scratch, &entries);
    into->list = arena_alloc(&into->arena, (entries.count + 1) * sizeof *into->list);
    while (!err_failed(&err) && into->count < entries.count) {
        err = make_endpoint(&entries.entries[into->count], &into->arena, &into->list[into->count]);
        into->count += !err_failed(&err);
    }
    wipe_secrets(&entries);
    seal_wipe(&text);
    arena_close(&scratch);
    if (err_failed(&err)) {
        free_list(into->list, into->count, &into->arena);
        into->count = 0;
        into->list = NULL;
        arena_init(&into->arena);
    }
    return err;
}

void endpoint_table_reload(struct endpoint_table *table)
{
    const char *path = table->config->endpoints_file;
    struct endpoint_table fresh = {0};
    if (text_is_empty(path))
        return;
    arena_init(&fresh.arena);
    struct err err = load(path, &fresh);
    if (err.code == ERR_NOT_FOUND && table->count == 0) {
        log_info(MODULE, "there is no endpoints file yet", LOG_TEXT("path", path));
    } else if (err_failed(&err)) {
        log_error(MODULE, "endpoints file not usable, what was read before stays in force",
                  LOG_TEXT("path", path), LOG_TEXT("why", err_text(&err)),
                  LOG_INT("endpoints", table->count));
    } else {
        free_list(table->list, table->count, &table->arena);
        table->list = fresh.list;
        table->count = fresh.count;
        table->arena = fresh.arena;
        log_info(MODULE, "endpoints read", LOG_TEXT("path", path),
                 LOG_INT("endpoints", table->count));
        return;
    }
    arena_close(&fresh.arena);
}

static void note_secret(const struct err *err)
{
    if (err_failed(err))
        log_error(MODULE, "webhook secret not usable, the one before stays in force",
                  LOG_TEXT("why", err_text(err)));
    else
        log_info(MODULE, "webhook secret read");
}

void endpoint_table_reread_secret(struct endpoint_table *table)
{
    struct signature_keys *keys = NULL;
    struct buf problems = {0};
    char *secrets = config_reread_secret("WHOP_WEBHOOK_SECRET", &problems);
    if (secrets == NULL)
        return;
    struct err err = problems.len > 0
                         ? err_make(ERR_CONFIG, "%.*s", (int)problems.len - 1, buf_text(&problems))
                         : signature_keys_new(secrets, &keys);
    if (!err_failed(&err)) {
        signature_keys_free(table->fallback.keys);
        table->fallback.keys = keys;
    }
    note_secret(&err);
    seal_wipe_text(secrets);
    buf_close(&problems);
}

static void on_changed(uv_fs_poll_t *watch, int status, const uv_stat_t *before,
                       const uv_stat_t *now)
{
    (void)before;
    (void)now;
    if (status == 0)
        endpoint_table_reload(watch->data);
}

void endpoint_table_watch(struct endpoint_table *table, uv_loop_t *loop)
{
    const struct config *config = table->config;
    if (text_is_empty(config->endpoints_file) || config->endpoints_watch_ms == 0)
        return;
    uv_fs_poll_init(loop, &table->watch);
    table->watch.data = table;
    table->watching = true;
    int why = uv_fs_poll_start(&table->watch, on_changed, config->endpoints_file,
                               (unsigned)config->endpoints_watch_ms);
    if (why != 0)
        log_warning(MODULE, "cannot watch the endpoints file: send SIGHUP when it has changed",
                    LOG_TEXT("why", uv_strerror(why)));
}

void endpoint_table_unwatch(struct endpoint_table *table)
{
    if (table->watching)
        uv_close((uv_handle_t *)&table->watch, NULL);
    table->watching = false;
}

/* --- settings -------------------------------------------------------------------------------- */

static struct err check_schemes(const char *text)
{
    struct span unknown;
    unsigned schemes = endpoint_schemes(text, &unknown);
    if (unknown.len > 0)
        return err_make(ERR_CONFIG, "WEBHOOK_SCHEMES: no such scheme: %.*s",
                        (int)(unknown.len < 40 ? unknown.len : 40), unknown.ptr);
    return schemes != 0 ? ERR_NONE : err_make(ERR_CONFIG, "WEBHOOK_SCHEMES names no scheme");
}

static struct err check_secret(const char *secrets)
{
    struct signature_keys *keys = NULL;
    if (text_is_empty(secrets))
        return ERR_NONE;
    struct err err = signature_keys_new(secrets, &keys);
    if (err_failed(&err))
        return err_make(err.code, "WHOP_WEBHOOK_SECRET: %.140s", err_text(&err));
    signature_keys_free(keys);
    return ERR_NONE;
}

static void note(const struct err *err, struct buf *problems)
{
    if (err_failed(err))
        buf_printf(problems, "%s\n", err_text(err));
}

void endpoint_table_check(const struct config *config, struct buf *problems)
{
    struct endpoint_table table = {0};
    struct err err = check_schemes(config->webhook_schemes);
    note(&err, problems);
    err = check_secret(config->whop_webhook_secret);
    note(&err, problems);
    if (text_is_empty(config->endpoints_file)) {
        if (text_is_empty(config->whop_webhook_secret))
            buf_add_text(problems, "WHOP_WEBHOOK_SECRET is not set: the webhook's signing secret "
                                   "(ws_...); or set ENDPOINTS_FILE\n");
        return;
    }
    arena_init(&table.arena);
    err = load(config->endpoints_file, &table);
    if (err_failed(&err) && err.code != ERR_NOT_FOUND)
        buf_printf(problems, "ENDPOINTS_FILE: %s\n", err_text(&err));
    free_list(table.list, table.count, &table.arena);
}

void endpoint_table_init(struct endpoint_table *table, const struct config *config)
{
    struct span unknown;
    *table = (struct endpoint_table){
        .config = config,
        .fallback = {.name = "default", .company = config->whop_company_id},
    };
    arena_init(&table->arena);
    table->fallback.schemes = endpoint_schemes(config->webhook_schemes, &unknown);
    for (size_t i = 0; i < SIGNATURE_SECRETS_MAX; i++)
        table->fallback.until_ms[i] = INT64_MAX;
    if (!text_is_empty(config->whop_webhook_secret)) {
        struct err err = signature_keys_new(config->whop_webhook_secret, &table->fallback.keys);
        REQUIRE(!err_failed(&err));
    }
    endpoint_table_reload(table);
}

void endpoint_table_close(struct endpoint_table *table)
{
    signature_keys_free(table->fallback.keys);
    free_list(table->list, table->count, &table->arena);
}

/* --- finding --------------------------------------------------------------------------------- */

static int compare_name(const void *key, const void *member)
{
    const struct span *name = key;
    const struct endpoint *endpoint = member;
    int order = strncmp(name->ptr, endpoint->name, name->len);
    return order != 0 ? order : endpoint->name[name->len] == '\0' ? 0 : -1;
}

static const struct endpoint *find_name(const struct endpoint_table *table, struct span name)
{
    const struct endpoint *found = NULL;
    if (table->count > 0 && name.len > 0)
        found = bsearch(&name, table->list, table->count, sizeof *table->list, compare_name);
    if (found == NULL && span_equal(name, span_of(table->fallback.name)))
        found = &table->fallback;
    return found != NULL && found->keys != NULL ? found : NULL;
}

const struct endpoint *endpoint_table_find(const struct endpoint_table *table, struct span path,
                                           bool *ours)
{
    static const char *const aliases[] = {"/webhooks/whop", "/api/webhooks", "/api/whop/webhook",
                                          "/api/webhooks/whop"};
    const struct span family = SPAN("/webhooks/whop/");
    *ours = true;
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        if (span_equal(path, span_of(aliases[i])))
            return find_name(table, SPAN("default"));
    *ours = path.len > family.len && memcmp(path.ptr, family.ptr, family.len) == 0;
    if (!*ours)
        return NULL;
    return find_name(table, (struct span){path.ptr + family.len, path.len - family.len});
}

bool endpoint_allows(const struct endpoint *endpoint, int secret, int64_t now_ms)
{
    return endpoint->from_ms[secret] <= now_ms && now_ms < endpoint->until_ms[secret];
}
