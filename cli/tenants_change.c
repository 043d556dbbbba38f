/* The verbs of `whopline tenants` that change something: each its transaction, with its row of
 * audit_log; then what follows from it. */
#include "cli/tenants.h"
#include "codec/endpoints.h"
#include "codec/json.h"
#include "codec/seal.h"
#include "service/audit.h"
#include "service/credentials.h"
#include "service/endpoint_store.h"
#include "service/quarantine.h"
#include "service/tenant.h"

#include <stdio.h>

/* --- the subject ----------------------------------------------------------------------------- */

struct err tenants_find(struct cli *cli, const char *name, struct tenants_subject *out)
{
    TRY(PG_EXEC(cli->pg,
                "SELECT id, slug, whop_company_id, status FROM tenants"
                " WHERE slug = $1 OR whop_company_id = $1 ORDER BY slug = $1 DESC LIMIT 1",
                pg_text(name)));
    if (pg_rows(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no tenant %.60s: see whopline tenants", name);
    out->id = pg_get_integer(cli->pg, 0, 0);
    snprintf(out->slug, sizeof out->slug, "%.63s", pg_get(cli->pg, 0, 1));
    snprintf(out->company, sizeof out->company, "%.63s", pg_get(cli->pg, 0, 2));
    snprintf(out->status, sizeof out->status, "%.31s", pg_get(cli->pg, 0, 3));
    return ERR_NONE;
}

static const char *reason_of(const struct tenants_options *options)
{
    return options->reason != NULL ? options->reason : "";
}

struct err tenants_release(struct cli *cli, const struct tenants_subject *subject,
                           const char *actor)
{
    size_t jobs = 0;
    size_t events = 0;
    size_t portion;
    struct quarantine_released released;
    do {
        TRY(tenant_release_jobs(cli->pg, subject->id, actor, &portion));
        jobs += portion;
    } while (portion > 0);
    do {
        TRY(quarantine_release(cli->pg, subject->company, actor, &released));
        events += released.events;
    } while (released.events > 0);
    if (jobs > 0)
        printf("%zu parked job%s put in again; the scheduler gives them out in turns\n", jobs,
               jobs == 1 ? " is" : "s are");
    if (events > 0)
        printf("%zu event%s had come before their tenant and %s routed now\n", events,
               events == 1 ? "" : "s", events == 1 ? "is" : "are");
    return ERR_NONE;
}

/* --- adding ---------------------------------------------------------------------------------- */

static struct err audit_change(struct cli *cli, const struct tenants_options *options,
                               const char *action, const char *target, const char *credential,
                               const char *endpoint)
{
    struct buf detail = {0};
    struct json_writer json = {.out = &detail};
    json_begin_object(&json, NULL);
    if (!text_is_empty(credential))
        json_put_text(&json, "credential", credential);
    if (!text_is_empty(endpoint))
        json_put_text(&json, "endpoint", endpoint);
    json_end_object(&json);
    const struct audit audit = {.actor = cli_actor(cli, options->actor),
                                .action = action,
                                .target = target,
                                .reason = reason_of(options),
                                .detail = buf_text(&detail)};
    struct err err = audit_add(cli->pg, &audit);
    buf_close(&detail);
    return err;
}

static struct err add_secret(struct cli *cli, int64_t endpoint,
                             const struct tenants_options *options)
{
    struct buf secret = {0};
    struct err err = tenants_read_secret(options->secret_file, &secret);
    if (!err_failed(&err))
        err = endpoint_store_add_secret(cli->pg, &cli->config, endpoint, buf_span(&secret),
                                        options->overlap_s);
    seal_wipe(&secret);
    return err;
}

/* It is part of addresses, and of every event's owner. */
static bool is_company(const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t len = strlen(text);
    return strncmp(text, "biz_", 4) == 0 && len > 4 && len < CREDENTIAL_COMPANY_SIZE &&
           strspn(text, plain) == len;
}

/* Before anything is read or written. */
static struct err check_add(const struct cli *cli, const char *slug,
                            const struct tenants_options *options)
{
    if (options->company == NULL || !is_company(options->company))
        return err_make(ERR_USAGE, "add needs --company with the company's id: biz_ and letters, "
                                   "digits, dashes or underscores");
    if (!endpoint_name_is_good(slug))
        return err_make(ERR_USAGE,
                        "a slug is 1 to %d lower-case letters, digits, dashes and underscores",
                        ENDPOINT_NAME_MAX);
    if (options->secret_file != NULL && text_is_empty(cli->config.endpoints_file))
        return err_make(ERR_CONFIG, "a webhook secret goes to ingest by a file: set "
                                    "ENDPOINTS_FILE, for ingest and whopline alike");
    return ERR_NONE;
}

static struct err insert_tenant(struct cli *cli, const char *slug,
                                const struct tenants_options *options, int64_t *id)
{
    const char *credential = "";
    int64_t endpoint = 0;
    const char *name = options->endpoint != NULL ? options->endpoint : slug;
    TRY(pg_begin(cli->pg));
    TRY(tenant_add(cli->pg, slug, options->company, options->title != NULL ? options->title : "",
                   id));
    TRY(tenants_store_credential(cli, *id, options, &credential));
    if (options->secret_file != NULL) {
        TRY(endpoint_store_open(cli->pg, name, *id, options->schemes, &endpoint));
        TRY(add_secret(cli, endpoint, options));
    }
    TRY(audit_change(cli, options, "tenants.add", slug, credential, endpoint != 0 ? name : ""));
    return pg_commit(cli->pg);
}

struct err tenants_add(struct cli *cli, const char *name, const struct tenants_options *options)
{
    struct tenants_subject subject = {0};
    TRY(check_add(cli, name, options));
    struct err err = insert_tenant(cli, name, options, &subject.id);
    pg_rollback(cli->pg);
    if (err_failed(&err))
        return err;
    TRY(tenants_find(cli, name, &subject));
    printf("%s (%s) is a tenant\n", subject.slug, subject.company);
    if (options->secret_file != NULL) {
        bool whole;
        err = tenants_write_file(cli, &whole);
        printf("its webhook's address: /webhooks/whop/%s\n",
               options->endpoint != NULL ? options->endpoint : name);
    }
    TRY(tenants_release(cli, &subject, cli_actor(cli, options->actor)));
    return err;
}

/* --- status ---------------------------------------------------------------------------------- */

static struct err change_status(struct cli *cli, const struct tenants_subject *subject,
                                const struct tenants_options *options, const char *status,
                                const char *action, const char *from, bool *changed)
{
    const struct tenant_change change = {.status = status,
                                         .reason = reason_of(options),
                                         .actor = cli_actor(cli, options->actor),
                                         .action = action,
                                         .from = from};
    return tenant_found(cli->pg, subject->id, &change, changed);
}

struct err tenants_pause(struct cli *cli, const char *name, const struct tenants_options *options)
{
    struct tenants_subject subject = {0};
    bool changed = false;
    TRY(tenants_find(cli, name, &subject));
    TRY(change_status(cli, &subject, options, "paused", "tenants.pause",
                      "{active,reauth_required,permission_missing}", &changed));
    if (!changed)
        printf("%s is %s already; that stands\n", subject.slug, subject.status);
    else
        printf("%s is paused: within %lld ms none of its jobs begins; those that would are parked"
               " until whopline tenants resume %s\n",
               subject.slug, (long long)cli->config.tenant_status_ms, subject.slug);
    return ERR_NONE;
}

struct err tenants_resume(struct cli *cli, const char *name, const struct tenants_options *options)
{
    struct tenants_subject subject = {0};
    bool changed = false;
    TRY(tenants_find(cli, name, &subject));
    if (strcmp(subject.status, "paused") != 0 && strcmp(subject.status, "active") != 0)
        return err_make(ERR_REFUSED, "%s is %s, not paused: whopline tenants reauth %s",
                        subject.slug, subject.status, subject.slug);
    TRY(change_status(cli, &subject, options, "active", "tenants.resume", "{paused}", &changed));
    printf(changed ? "%s is active again\n" : "%s was not paused\n", subject.slug);
    /* Also then: somebody may have been interrupted here. */
    return tenants_release(cli, &subject, cli_actor(cli, options->actor));
}

/* --- secrets --------------------------------------------------------------------------------- */

static struct err rotate(struct cli *cli, const struct tenants_subject *subject,
                         const struct tenants_options *options, struct buf *endpoint)
{
    int64_t id = 0;
    TRY(pg_begin(cli->pg));
    TRY(endpoint_store_find(cli->pg, subject->id, options->endpoint, &id, endpoint));
    if (id == 0) {
        const char *name = options->endpoint != NULL ? options->endpoint : subject->slug;
        TRY(endpoint_store_open(cli->pg, name, subject->id, options->schemes, &id));
        buf_clear(endpoint);
        buf_add_text(endpoint, name);
    }
    TRY(add_secret(cli, id, options));
    TRY(audit_change(cli, options, "tenants.rotate-secret", subject->slug, "", buf_text(endpoint)));
    return pg_commit(cli->pg);
}

struct err tenants_rotate_secret(struct cli *cli, const char *name,
                                 const struct tenants_options *options)
{
    struct tenants_subject subject = {.slug = "app"};
    struct buf endpoint = {0};
    if (options->secret_file == NULL)
        return err_make(ERR_USAGE, "rotate-secret needs --secret-file (or - for stdin)");
    if (options->app != (name == NULL) || (options->app && options->endpoint == NULL))
        return err_make(ERR_USAGE, "rotate-secret needs a tenant, or --app and --endpoint");
    if (text_is_empty(cli->config.endpoints_file))
        return err_make(ERR_CONFIG, "ENDPOINTS_FILE is not set, for ingest and whopline alike");
    if (!options->app)
        TRY(tenants_find(cli, name, &subject));
    if (strcmp(subject.status, "disconnected") == 0)
        return err_make(ERR_REFUSED, "%s is disconnected: whopline tenants reauth first",
                        subject.slug);
    struct err err = rotate(cli, &subject, options, &endpoint);
    pg_rollback(cli->pg);
    if (!err_failed(&err)) {
        printf("/webhooks/whop/%s takes the new secret; older ones end within %lld s\n",
               buf_text(&endpoint), (long long)options->overlap_s);
        bool whole;
        err = tenants_write_file(cli, &whole);
    }
    buf_close(&endpoint);
    return err;
}

static struct err give_credential(struct cli *cli, const struct tenants_subject *subject,
                                  const struct tenants_options *options, bool *active)
{
    const char *credential = "";
    const struct tenant_change change = {.status = "active",
                                         .reason = "",
                                         .actor = cli_actor(cli, options->actor),
                                         .action = "tenants.reauth",
                                         .from = "{reauth_required,permission_missing,"
                                                 "disconnected}"};
    TRY(pg_begin(cli->pg));
    TRY(tenants_store_credential(cli, subject->id, options, &credential));
    if (text_is_empty(credential))
        return err_make(ERR_USAGE, "reauth needs --token-file or --api-key-file");
    TRY(tenant_change_status(cli->pg, subject->id, &change, active));
    if (!*active)
        TRY(audit_change(cli, options, "tenants.reauth", subject->slug, credential, ""));
    return pg_commit(cli->pg);
}

struct err tenants_reauth(struct cli *cli, const char *name, const struct tenants_options *options)
{
    struct tenants_subject subject = {0};
    bool active = false;
    TRY(tenants_find(cli, name, &subject));
    struct err err = give_credential(cli, &subject, options, &active);
    pg_rollback(cli->pg);
    if (err_failed(&err))
        return err;
    printf("%s has another credential%s\n", subject.slug, active ? " and is active again" : "");
    if (strcmp(subject.status, "paused") == 0) {
        printf("it stays paused: whopline tenants resume %s\n", subject.slug);
        return ERR_NONE;
    }
    return tenants_release(cli, &subject, cli_actor(cli, options->actor));
}

struct err tenants_rekey(struct cli *cli, const char *name, const struct tenants_options *options)
{
    struct credential_rekeyed rekeyed = {.why = ERR_NONE};
    if (name != NULL)
        return err_make(ERR_USAGE, "rekey is for all tenants at once");
    do {
        TRY(credential_rekey(cli->pg, &cli->config, &rekeyed));
    } while (rekeyed.more);
    if (rekeyed.sealed > 0)
        TRY(audit_change(cli, options, "tenants.rekey", "all", "", ""));
    printf("%zu secret%s sealed anew; %s\n", rekeyed.sealed,
           rekeyed.sealed == 1 ? " was" : "s were",
           rekeyed.failed == 0 ? "all are under the newest key now" : "not all could be opened");
    return rekeyed.failed == 0 ? ERR_NONE
                               : err_make(rekeyed.why.code, "%zu left: %.180s", rekeyed.failed,
                                          err_text(&rekeyed.why));
}

struct err tenants_endpoints(struct cli *cli, const char *name,
                             const struct tenants_options *options)
{
    (void)options;
    if (name != NULL)
        return err_make(ERR_USAGE, "endpoints is for all tenants at once");
    bool whole = true;
    TRY(tenants_write_file(cli, &whole));
    return whole ? ERR_NONE : err_make(ERR_REFUSED, "not all endpoints could be written anew");
}
