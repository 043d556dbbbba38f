/* whopline audit: who did what by hand. */
#include "cli/cli.h"
#include "cli/outcome.h"
#include "cli/output.h"

#include <getopt.h>
#include <stdio.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 100000 };

#define AUDIT_FROM                                                                                 \
    " FROM audit_log WHERE ($1::text IS NULL OR at >= $1::text::timestamptz)"                      \
    " AND ($2::text IS NULL OR at <= $2::text::timestamptz)"                                       \
    " AND ($3::text IS NULL OR target = $3) AND ($4::text IS NULL OR actor = $4)"                  \
    " AND ($5::text IS NULL OR action = $5 OR starts_with(action, $5 || '.'))"                     \
    " ORDER BY at DESC, id DESC LIMIT $6::bigint"

struct options {
    const char *since;
    const char *until;
    const char *target;
    const char *actor;
    const char *action;
    int64_t limit;
    bool json;
};

static int parse(struct options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"since", required_argument, NULL, 's'},  {"until", required_argument, NULL, 'u'},
        {"target", required_argument, NULL, 't'}, {"actor", required_argument, NULL, 'a'},
        {"action", required_argument, NULL, 'c'}, {"limit", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},         {NULL, 0, NULL, 0},
    };
    int option;
    *options = (struct options){.limit = LIMIT_DEFAULT};
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 's': options->since = optarg; break;
        case 'u': options->until = optarg; break;
        case 't': options->target = optarg; break;
        case 'a': options->actor = optarg; break;
        case 'c': options->action = optarg; break;
        case 'j': options->json = true; break;
        case 'l':
            if (!cli_parse_number(optarg, 1, LIMIT_MAX, &options->limit))
                return cli_usage(words[0], "--limit takes 1 to %d", LIMIT_MAX);
            break;
        default: return CLI_USAGE;
        }
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no \"%s\"", words[optind]);
    return CLI_OK;
}

static const char *const heads[] = {"TIME (UTC)", "ACTOR", "ACTION", "TARGET", "REASON"};

static const struct output_list list = {
    .json = "SELECT id, at, actor, action, target, reason, detail" AUDIT_FROM,
    .people = "SELECT " OUTCOME_UTC("at") ", actor, action, target, reason" AUDIT_FROM,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .shortens = true,
    .none = "nothing has been done by hand",
    .cut = "the newest",
};

static struct err ask(struct cli *cli, const struct options *options, const char *since,
                      const char *until)
{
    const struct pg_param params[] = {pg_text_or_null(since),   pg_text_or_null(until),
                                      pg_text(options->target), pg_text(options->actor),
                                      pg_text(options->action), pg_integer(options->limit)};
    return output_list(cli, &list, options->json, params, ARRAY_LEN(params), options->limit);
}

static int run(struct cli *cli, int count, char **words)
{
    struct options options;
    struct buf since = {0};
    struct buf until = {0};
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    struct err err = cli_open_database(cli);
    if (!err_failed(&err) && options.since != NULL)
        err = cli_read_time(cli, "--since", options.since, &since);
    if (!err_failed(&err) && options.until != NULL)
        err = cli_read_time(cli, "--until", options.until, &until);
    if (!err_failed(&err))
        err = ask(cli, &options, buf_text(&since), buf_text(&until));
    buf_close(&since);
    buf_close(&until);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_audit = {
    .name = "audit",
    .usage = "[filters] [--json]",
    .purpose = "who did what by hand",
    .help = "Newest first. Every command that changes something leaves a row here.\n"
            "  --since T, --until T   a time (2026-11-21T14:30, UTC) or an age (90s, 15m, 2h, 3d)\n"
            "  --target X             a job's id, a queue's name, an event's id\n"
            "  --actor NAME\n"
            "  --action A             e.g. jobs.requeue, or jobs for all of them\n"
            "  --limit N              [50]\n",
    .run = run,
};
