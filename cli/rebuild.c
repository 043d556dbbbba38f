/* whopline rebuild: every queued job is offered to Redis again. */
#include "cli/cli.h"
#include "cli/output.h"
#include "service/audit.h"
#include "service/jobs_admin.h"

#include <getopt.h>
#include <stdio.h>

struct options {
    const char *actor;
    const char *reason;
    bool yes;
};

/* *total: rows that count as given to Redis; *until: the moment of the plan. */
static struct err plan(struct cli *cli, int64_t *total, struct buf *until)
{
    static const char *const heads[] = {"QUEUE", ">QUEUED", ">GIVEN TO REDIS"};
    struct pg *pg = cli->pg;
    struct table table;
    TRY(pg_exec(pg,
                "SELECT queue, count(*), count(relayed_at), whopline_now()::text FROM jobs"
                " WHERE state = 'queued' GROUP BY queue ORDER BY queue",
                NULL, 0));
    *total = 0;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(pg); row++) {
        for (size_t column = 0; column < ARRAY_LEN(heads); column++)
            table_add(&table, pg_get(pg, row, column));
        *total += pg_get_integer(pg, row, 2);
    }
    if (pg_rows(pg) > 0) {
        buf_add_text(until, pg_get(pg, 0, 3));
        table_print(&table, "");
    }
    return ERR_NONE;
}

static struct err log_it(struct cli *cli, const struct options *options, int64_t total)
{
    char detail[64];
    snprintf(detail, sizeof detail, "{\"jobs\":%lld}", (long long)total);
    const struct audit audit = {.actor = cli_actor(cli, options->actor),
                                .action = "jobs.rebuild",
                                .target = "all",
                                .reason = options->reason != NULL ? options->reason : "",
                                .detail = detail};
    struct err err = pg_begin(cli->pg);
    if (!err_failed(&err))
        err = audit_add(cli->pg, &audit);
    /* From now on nobody's mark from before counts. */
    if (!err_failed(&err))
        err = pg_exec(cli->pg, "UPDATE relay_state SET rebuilds = rebuilds + 1", NULL, 0);
    if (!err_failed(&err))
        err = pg_commit(cli->pg);
    pg_rollback(cli->pg);
    return err;
}

static struct err rebuild(struct cli *cli, const struct options *options)
{
    struct buf until = {0};
    int64_t total = 0;
    int64_t marked = 0;
    size_t portion = 1;
    struct err err = plan(cli, &total, &until);
    if (!err_failed(&err) && total == 0)
        printf("no queued job counts as given to Redis: nothing to do\n");
    else if (!err_failed(&err) && !options->yes)
        printf("would offer these %lld again (what Redis still has is a duplicate, and free);\n"
               "nothing has been changed; --yes does it\n",
               (long long)total);
    if (!err_failed(&err) && total > 0 && options->yes) {
        err = log_it(cli, options, total);
        while (!err_failed(&err) && portion > 0) {
            err = jobs_admin_unrelay_all(cli->pg, buf_text(&until), &portion);
            marked += (int64_t)portion;
        }
        printf("marked %lld of %lld: the scheduler offers them again, a few hundred at a time\n",
               (long long)marked, (long long)total);
    }
    buf_close(&until);
    return err;
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option long_options[] = {{"actor", required_argument, NULL, 'a'},
                                                 {"reason", required_argument, NULL, 'r'},
                                                 {"yes", no_argument, NULL, 'y'},
                                                 {NULL, 0, NULL, 0}};
    struct options options = {0};
    int option;
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'a': options.actor = optarg; break;
        case 'r': options.reason = optarg; break;
        case 'y': options.yes = true; break;
        default: return CLI_USAGE;
        }
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no \"%.40s\"", words[optind]);
    struct err err = cli_open_database(cli);
    if (!err_failed(&err))
        err = rebuild(cli, &options);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_rebuild = {
    .name = "rebuild",
    .usage = "[--yes] [--reason R]",
    .purpose = "offer every queued job to Redis again",
    .help =
        "For a Redis of which nobody knows what it has lost. It is always safe: what Redis still\n"
        "has is a duplicate. The scheduler does the same by itself when Redis' run or epoch has\n"
        "changed, and for single jobs after RELAY_STALE_MS; whopline fsck names what is missing.\n"
        "  --yes       do it; else only say what would be done\n"
        "  --reason R  why; for the audit log\n"
        "  --actor A   who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n",
    .run = run,
};
