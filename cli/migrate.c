/* whopline migrate: brings the database to this program's schema. */
#include "service/migrate.h"

#include "cli/cli.h"
#include "service/credits_admin.h"
#include "service/tenant.h"

#include <getopt.h>
#include <stdio.h>

static void on_applied(const char *name, int64_t elapsed_ms, void *data)
{
    (void)data;
    printf("applied %s (%lld ms)\n", name, (long long)elapsed_ms);
    fflush(stdout);
}

static void print_state(const struct migrate_status *status)
{
    if (status->newer > 0)
        printf("the database is newer than this program (%s): nothing was changed\n", status->last);
    else
        printf("the schema is up to date (%s)\n", status->last);
}

static struct err check(struct pg *pg)
{
    struct migrate_status status;
    TRY(migrate_inspect(pg, &status));
    if (status.applied < status.known)
        return err_make(ERR_PG_SCHEMA, "%d of %d migrations are missing: run `whopline migrate`",
                        status.known - status.applied, status.known);
    print_state(&status);
    return ERR_NONE;
}

static struct err apply(struct pg *pg, const struct config *config)
{
    const char *company_id = config->whop_company_id;
    struct migrate_status status;
    bool created = false;
    TRY(migrate_apply(pg, on_applied, NULL, &status));
    print_state(&status);
    if (company_id[0] == '\0')
        return ERR_NONE;
    TRY(tenant_bootstrap(pg, company_id, &created));
    if (created)
        printf("made %s a tenant\n", company_id);
    return credits_bootstrap(pg, company_id, config);
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option options[] = {{"check", no_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
    bool only_check = false;
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option != 'c')
            return CLI_USAGE;
        only_check = true;
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no arguments");
    const char *url = cli->config.database_direct_url;
    if (url[0] == '\0')
        url = cli->config.database_url;
    if (url[0] == '\0') {
        struct err err =
            err_make(ERR_CONFIG, "neither DATABASE_URL nor DATABASE_DIRECT_URL is set");
        return cli_fail(&err);
    }
    cli->pg = pg_new(url);
    struct err err = only_check ? check(cli->pg) : apply(cli->pg, &cli->config);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_migrate = {
    .name = "migrate",
    .usage = "[--check]",
    .purpose = "bring the database to this program's schema",
    .help =
        "Applies what is missing of schema/sql, each file in a transaction of its own; running\n"
        "it again, or twice at once, changes nothing. Goes forward only and refuses a file that\n"
        "has changed since it was applied. With WHOP_COMPANY_ID, makes that company a tenant.\n"
        "Uses DATABASE_DIRECT_URL (no pooler in between), else DATABASE_URL.\n\n"
        "  --check   change nothing; exit 1 if something is missing or not as it was applied\n",
    .run = run,
};
