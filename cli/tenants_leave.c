/* `whopline tenants disconnect`: a tenant leaves.
 *
 *   disconnected, endpoints closed ──COMMIT──> tokens revoked at Whop ──> secrets erased, COMMIT
 *
 * In this order, so that whoever is interrupted can say it again: until the end there is something
 * to revoke with. */
#include "base/arena.h"
#include "cli/tenants.h"
#include "service/audit.h"
#include "service/credentials.h"
#include "service/endpoint_store.h"
#include "service/tenant.h"
#include "service/token_refresh.h"

#include <stdio.h>

static struct err print_plan(struct cli *cli, const struct tenants_subject *subject)
{
    TRY(PG_EXEC(cli->pg,
                "SELECT (SELECT count(*) FROM tenant_credentials WHERE tenant_id = $1::bigint"
                " AND revoked_at IS NULL), (SELECT count(*) FROM webhook_endpoints"
                " WHERE tenant_id = $1::bigint AND disabled_at IS NULL),"
                " (SELECT count(*) FROM webhook_endpoint_secrets s JOIN webhook_endpoints e"
                " ON e.id = s.endpoint_id WHERE e.tenant_id = $1::bigint),"
                " (SELECT count(*) FROM jobs WHERE tenant_id = $1::bigint AND state = 'queued')",
                pg_integer(subject->id)));
    printf("would disconnect %s (%s):\n"
           "  erase %s credential(s), tokens after they were revoked at Whop: for good\n"
           "  close %s endpoint(s), erase %s webhook secret(s): for good\n"
           "  park its jobs: %s queued now\n"
           "  keep its events, ledger and audit\n"
           "nothing has been changed; --yes does it\n",
           subject->slug, subject->company, pg_get(cli->pg, 0, 0), pg_get(cli->pg, 0, 1),
           pg_get(cli->pg, 0, 2), pg_get(cli->pg, 0, 3));
    return ERR_NONE;
}

static struct err close_tenant(struct cli *cli, const struct tenants_subject *subject,
                               const struct tenants_options *options, bool *changed)
{
    const struct tenant_change change = {.status = "disconnected",
                                         .reason = options->reason,
                                         .actor = cli_actor(cli, options->actor),
                                         .action = "tenants.disconnect",
                                         .from =
                                             "{active,paused,reauth_required,permission_missing}"};
    TRY(pg_begin(cli->pg));
    TRY(tenant_change_status(cli->pg, subject->id, &change, changed));
    TRY(endpoint_store_close(cli->pg, subject->id));
    return pg_commit(cli->pg);
}

/* --- at Whop --------------------------------------------------------------------------------- */

enum at_whop { AT_WHOP_NOTHING, AT_WHOP_KEY, AT_WHOP_REVOKED, AT_WHOP_FAILED };

static struct err find_kind(struct cli *cli, const struct tenants_subject *subject,
                            enum at_whop *found)
{
    TRY(PG_EXEC(cli->pg,
                "SELECT kind = 'whop_oauth' FROM tenant_credentials WHERE tenant_id = $1::bigint"
                " AND revoked_at IS NULL AND kind IN ('whop_oauth', 'whop_api_key')",
                pg_integer(subject->id)));
    *found = pg_rows(cli->pg) == 0        ? AT_WHOP_NOTHING
             : pg_get_flag(cli->pg, 0, 0) ? AT_WHOP_FAILED
                                          : AT_WHOP_KEY;
    return ERR_NONE;
}

static struct err give_back(struct cli *cli, const struct tenants_subject *subject, bool *revoked)
{
    struct outside *outside;
    struct arena arena;
    TRY(cli_open_outside(cli, &outside));
    arena_init(&arena);
    struct err err = token_revoke(cli->pg, outside, &arena, subject->id, revoked);
    arena_close(&arena);
    return err;
}

/* Whatever keeps it from being done, the secrets are erased here: the operator has said so, and is
 * told what is left to do. */
static struct err tell_whop(struct cli *cli, const struct tenants_subject *subject,
                            enum at_whop *found)
{
    bool revoked = false;
    TRY(find_kind(cli, subject, found));
    if (*found == AT_WHOP_KEY)
        printf("delete its API key at Whop: nobody else can\n");
    if (*found != AT_WHOP_FAILED)
        return ERR_NONE;
    struct err err = give_back(cli, subject, &revoked);
    if (revoked)
        printf("its tokens are revoked at Whop\n");
    else
        printf("its tokens could NOT be revoked at Whop (%s): uninstall the app there\n",
               err_text(&err));
    if (revoked)
        *found = AT_WHOP_REVOKED;
    return ERR_NONE;
}

/* --- erasing --------------------------------------------------------------------------------- */

static struct err erase(struct cli *cli, const struct tenants_subject *subject,
                        const struct tenants_options *options, enum at_whop at_whop)
{
    static const char *const words[] = {
        [AT_WHOP_NOTHING] = "{}",
        [AT_WHOP_KEY] = "{\"credential\":\"whop_api_key\"}",
        [AT_WHOP_REVOKED] = "{\"credential\":\"whop_oauth\",\"revoked\":true}",
        [AT_WHOP_FAILED] = "{\"credential\":\"whop_oauth\",\"revoked\":false}"};
    const struct audit audit = {.actor = cli_actor(cli, options->actor),
                                .action = "tenants.erase",
                                .target = subject->slug,
                                .reason = options->reason,
                                .detail = words[at_whop]};
    TRY(pg_begin(cli->pg));
    TRY(credential_erase(cli->pg, subject->id));
    if (pg_affected(cli->pg) == 0)
        return ERR_NONE;
    TRY(audit_add(cli->pg, &audit));
    return pg_commit(cli->pg);
}

static struct err leave(struct cli *cli, const struct tenants_subject *subject,
                        const struct tenants_options *options)
{
    bool changed = false;
    enum at_whop at_whop;
    struct err err = close_tenant(cli, subject, options, &changed);
    pg_rollback(cli->pg);
    TRY(err);
    TRY(tell_whop(cli, subject, &at_whop));
    err = erase(cli, subject, options, at_whop);
    pg_rollback(cli->pg);
    TRY(err);
    printf(changed ? "%s is disconnected, its secrets are erased here\n"
                   : "%s was disconnected already\n",
           subject->slug);
    return ERR_NONE;
}

struct err tenants_disconnect(struct cli *cli, const char *name,
                              const struct tenants_options *options)
{
    struct tenants_subject subject = {0};
    TRY(tenants_find(cli, name, &subject));
    if (!options->yes)
        return print_plan(cli, &subject);
    TRY(leave(cli, &subject, options));
    bool whole;
    return text_is_empty(cli->config.endpoints_file) ? ERR_NONE : tenants_write_file(cli, &whole);
}
