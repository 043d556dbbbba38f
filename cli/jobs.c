/* whopline jobs: those that ended badly, and what can be done about them. */
#include "cli/jobs.h"

#include "cli/output.h"
#include "service/jobs_admin.h"
#include "service/store.h"

#include <getopt.h>
#include <stdio.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000000, RATE_DEFAULT = 100, RATE_MAX = 100000 };

/* --- which ----------------------------------------------------------------------------------- */

void jobs_params(struct jobs_options *options, struct pg_param out[JOBS_PARAMS])
{
    out[0] = pg_text(options->states);
    out[1] = options->id_count > 0 ? pg_array_param(&options->ids) : pg_text(NULL);
    out[2] = pg_text(options->kind);
    out[3] = pg_text(options->queue);
    out[4] = pg_text(options->error);
    out[5] = pg_text(options->reason_has);
    out[6] = pg_text(options->tenant);
    out[7] = pg_text_or_null(buf_text(&options->since_at));
    out[8] = pg_text_or_null(buf_text(&options->until_at));
}

bool jobs_has_filter(const struct jobs_options *options)
{
    return options->id_count > 0 || options->states_given || options->kind != NULL ||
           options->queue != NULL || options->error != NULL || options->reason_has != NULL ||
           options->tenant != NULL || options->since != NULL || options->until != NULL;
}

/* --- ls -------------------------------------------------------------------------------------- */

#define LIST_ORDER " ORDER BY " JOBS_AT " DESC, j.id DESC LIMIT $10::bigint"

static const char *const heads[] = {">AGE",   "JOB",    "KIND",   "STATE", "ERROR",
                                    ">TRIES", "REASON", "TENANT", "EVENT"};

static const struct output_list list = {
    .json = "SELECT j.id, j.gen, j.kind, j.queue, j.state, j.error, j.reason,"
            " j.attempts, t.slug AS tenant, j.key, j.event_id, j.bulk, j.trace,"
            " j.created_at, j.due_at, j.relayed_at, j.requeued_at,"
            " j.finished_at" JOBS_FROM LIST_ORDER,
    .people = "SELECT extract(epoch FROM whopline_now() - " JOBS_AT ")::bigint, j.id, j.kind,"
              " j.state, j.error, j.attempts, j.reason, t.slug, j.event_id,"
              " (SELECT count(*) > 1 FROM tenants)" JOBS_FROM LIST_ORDER,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .age = 1,
    .tenant = 8,
    .shortens = true,
    .none = "no such jobs",
    .cut = "the latest",
};

struct err jobs_list(struct cli *cli, struct jobs_options *options)
{
    struct pg_param params[JOBS_PARAMS + 1];
    int64_t limit = options->limit > 0 ? options->limit : LIMIT_DEFAULT;
    jobs_params(options, params);
    params[JOBS_PARAMS] = pg_integer(limit);
    return output_list(cli, &list, options->json, params, ARRAY_LEN(params), limit);
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct cli_word states[] = {
    {"dead", "{dead}"},       {"parked", "{parked}"}, {"queued", "{queued}"},
    {"skipped", "{skipped}"}, {"done", "{done}"},     {"all", "{queued,done,skipped,parked,dead}"}};

static int take_id(struct jobs_options *options, const char *text, const char *words0)
{
    char id[UUID_TEXT_SIZE];
    if (!jobs_admin_parse_id(text, id))
        return cli_usage(words0,
                         "\"%.80s\" is no job's id: they look like"
                         " 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
                         text);
    if (options->id_count >= JOBS_IDS_MAX)
        return cli_usage(words0, "at most %d ids at once", JOBS_IDS_MAX);
    pg_array_add_text(&options->ids, id);
    options->id_count++;
    return CLI_OK;
}

/* changes: --reason is why it is done, not what the jobs' reasons have. */
static int take_option(struct jobs_options *options, int option, bool changes, const char *words0)
{
    switch (option) {
    case 's':
        options->states_given = true;
        options->states = cli_find_word(states, ARRAY_LEN(states), optarg);
        if (options->states == NULL)
            return cli_usage(words0, "no job has the state \"%.40s\"", optarg);
        break;
    case 'i': return take_id(options, optarg, words0);
    case 'k': options->kind = optarg; break;
    case 'q': options->queue = optarg; break;
    case 'e': options->error = optarg; break;
    case 'h': options->reason_has = optarg; break;
    case 'r':
        if (changes)
            options->why = optarg;
        else
            options->reason_has = optarg;
        break;
    case 't': options->tenant = optarg; break;
    case 'f': options->since = optarg; break;
    case 'u': options->until = optarg; break;
    case 'a': options->actor = optarg; break;
    case 'A': options->all = true; break;
    case 'y': options->yes = true; break;
    case 'j': options->json = true; break;
    case 'l':
        if (!cli_parse_number(optarg, 1, LIMIT_MAX, &options->limit))
            return cli_usage(words0, "--limit takes 1 to %d", LIMIT_MAX);
        break;
    case 'R':
        if (!cli_parse_number(optarg, 1, RATE_MAX, &options->rate))
            return cli_usage(words0, "--rate takes 1 to %d a second", RATE_MAX);
        break;
    default: return CLI_USAGE;
    }
    return CLI_OK;
}

static int parse(struct jobs_options *options, int count, char **words, bool changes)
{
    static const struct option long_options[] = {
        {"state", required_argument, NULL, 's'},
        {"id", required_argument, NULL, 'i'},
        {"kind", required_argument, NULL, 'k'},
        {"queue", required_argument, NULL, 'q'},
        {"error", required_argument, NULL, 'e'},
        {"reason", required_argument, NULL, 'r'},
        {"reason-has", required_argument, NULL, 'h'},
        {"tenant", required_argument, NULL, 't'},
        {"since", required_argument, NULL, 'f'},
        {"until", required_argument, NULL, 'u'},
        {"limit", required_argument, NULL, 'l'},
        {"rate", required_argument, NULL, 'R'},
        {"actor", required_argument, NULL, 'a'},
        {"all", no_argument, NULL, 'A'},
        {"yes", no_argument, NULL, 'y'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;
    int status = CLI_OK;
    while (status == CLI_OK && (option = getopt_long(count, words, "", long_options, NULL)) != -1)
        status = take_option(options, option, changes, words[0]);
    for (int i = optind; status == CLI_OK && i < count; i++)
        status = take_id(options, words[i], words[0]);
    return status;
}

/* --- verbs ----------------------------------------------------------------------------------- */

static struct err show(struct cli *cli, struct jobs_options *options, const char *id)
{
    char uuid[UUID_TEXT_SIZE];
    if (!jobs_admin_parse_id(id, uuid))
        return err_make(ERR_USAGE, "\"%.80s\" is no job's id", id);
    return jobs_show(cli, uuid, options->json);
}

static const struct verb {
    const char *name;
    bool changes;
    struct err (*act)(struct cli *cli, struct jobs_options *options);
} verbs[] = {
    {"ls", false, jobs_list},
    {"list", false, jobs_list},
    {"requeue", true, jobs_requeue},
    {"drop", true, jobs_drop},
};

static struct err open_and_act(struct cli *cli, const struct verb *verb,
                               struct jobs_options *options, const char *shown)
{
    TRY(cli_open_database(cli));
    if (options->since != NULL)
        TRY(cli_read_time(cli, "--since", options->since, &options->since_at));
    if (options->until != NULL)
        TRY(cli_read_time(cli, "--until", options->until, &options->until_at));
    return verb != NULL ? verb->act(cli, options) : show(cli, options, shown);
}

static int run_verb(struct cli *cli, const struct verb *verb, int count, char **words)
{
    struct jobs_options options = {.states = "{dead,parked}", .rate = RATE_DEFAULT};
    const char *shown = NULL;
    pg_array_init(&options.ids, PG_ELEMENT_TEXT);
    if (verb == NULL && count > 1 && words[1][0] != '-') { /* show ID */
        shown = words[1];
        words[1] = words[0];
        words++;
        count--;
    }
    int status = parse(&options, count, words, verb != NULL && verb->changes);
    if (status == CLI_OK && verb == NULL && (shown == NULL || options.id_count > 0))
        status = cli_usage(words[0], "show needs one job's id");
    if (status == CLI_OK) {
        struct err err = open_and_act(cli, verb, &options, shown);
        status = err_failed(&err) ? cli_fail(&err) : CLI_OK;
    }
    pg_array_close(&options.ids);
    buf_close(&options.since_at);
    buf_close(&options.until_at);
    return status;
}

static int run(struct cli *cli, int count, char **words)
{
    const struct verb *verb = &verbs[0];
    bool named = count > 1 && words[1][0] != '-';
    if (named) {
        bool shows = strcmp(words[1], "show") == 0;
        verb = NULL;
        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
            if (strcmp(words[1], verbs[i].name) == 0)
                verb = &verbs[i];
        if (verb == NULL && !shows)
            return cli_usage(words[0], "\"%.40s\" is none of ls, show, requeue, drop", words[1]);
        words[1] = words[0];
        words++;
        count--;
    }
    return run_verb(cli, verb, count, words);
}

const struct cli_command command_jobs = {
    .name = "jobs",
    .usage = "[ls] [filters] | show ID | requeue ID...|filters [--yes] | drop ... --reason R",
    .purpose = "dead and parked jobs: look, put in again, set aside",
    .help =
        "ls: the latest first. show: all about one job, also what Redis knows of it.\n"
        "requeue: dead, parked (or, with --state skipped, dropped) jobs get a new generation and\n"
        "run again. drop: dead or parked jobs are set aside for good, and stay to be looked at.\n"
        "Both say what they would do, and do it with --yes; each job leaves a row in the audit "
        "log.\n"
        "  --state S       dead, parked, queued, skipped, done or all [dead and parked]\n"
        "  --id ID         may be given several times, or without --id\n"
        "  --kind K, --queue Q, --tenant T\n"
        "  --error E       what parked or killed it, e.g. PG_DATA\n"
        "  --reason-has X  part of its reason; for ls also --reason\n"
        "  --since T, --until T  its end, else its birth: 2026-11-21T14:30 (UTC) or an age (2h, "
        "3d)\n"
        "  --limit N       [ls: 50; else all there are]\n"
        "  --all           requeue or drop without any filter\n"
        "  --reason R      why it is done; drop needs it\n"
        "  --rate N        jobs a second [100]\n"
        "  --actor A       who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
        "  --json          what is listed, planned and done\n",
    .run = run,
};
