/* whopline outbound: calls to the outside that happen once, and those that need a person. */
#include "cli/outbound.h"

#include "cli/output.h"

#include <getopt.h>
#include <stdio.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 1000000 };

/* --- ls -------------------------------------------------------------------------------------- */

#define LIST_FROM                                                                                  \
    " FROM outbound o JOIN tenants t ON t.id = o.tenant_id"                                        \
    " WHERE o.state = ANY (coalesce($1::text, '{pending,sending,unknown}')::text[])"               \
    " AND ($2::text IS NULL OR t.slug = $2 OR t.whop_company_id = $2)"                             \
    " AND ($3::text IS NULL OR o.operation = $3) AND ($4::text IS NULL OR o.business_key = $4)"    \
    " AND ($5::text IS NULL OR o.created_at <= $5::text::timestamptz)"                             \
    " ORDER BY o.parked IS NULL, o.updated_at DESC, o.id DESC LIMIT $6::bigint"

static const char *const heads[] = {">ID",    ">AGE",   "STATE",  "OPERATION", "KEY",
                                    "TENANT", ">TRIES", "PARKED", "LATEST"};

static const struct output_list list = {
    .json = "SELECT o.id, o.state, o.operation, o.business_key, t.slug AS tenant,"
            " o.policy, o.attempts, o.parked, o.status, o.error, o.remote_id,"
            " o.job_id, o.created_at, o.updated_at" LIST_FROM,
    .people = "SELECT o.id, extract(epoch FROM whopline_now() - o.created_at)::bigint, o.state,"
              " o.operation, o.business_key, t.slug, o.attempts, o.parked,"
              " coalesce(o.error, 'status ' || o.status)" LIST_FROM,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .age = 2,
    .none = "no such calls",
    .cut = "the first",
};

struct err outbound_list(struct cli *cli, struct outbound_options *options)
{
    int64_t limit = options->limit > 0 ? options->limit : LIMIT_DEFAULT;
    const struct pg_param params[] = {pg_text(options->states),
                                      pg_text(options->tenant),
                                      pg_text(options->operation),
                                      pg_text(options->key),
                                      pg_text_or_null(buf_text(&options->older_at)),
                                      pg_integer(limit)};
    return output_list(cli, &list, options->json, params, ARRAY_LEN(params), limit);
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct cli_word states[] = {
    {"pending", "{pending}"}, {"sending", "{sending}"},
    {"unknown", "{unknown}"}, {"done", "{done}"},
    {"refused", "{refused}"}, {"all", "{pending,sending,unknown,done,refused}"}};

static int take_verdict(struct outbound_options *options, enum outbound_verdict verdict,
                        const char *words0)
{
    if (options->verdict_given && options->verdict != verdict)
        return cli_usage(words0, "one of --done, --refused, --resend and --verify, please");
    options->verdict_given = true;
    options->verdict = verdict;
    return CLI_OK;
}

static int take_option(struct outbound_options *options, int option, const char *words0)
{
    switch (option) {
    case 's':
        options->states = cli_find_word(states, ARRAY_LEN(states), optarg);
        if (options->states == NULL)
            return cli_usage(words0, "no call has the state \"%.40s\"", optarg);
        break;
    case 't': options->tenant = optarg; break;
    case 'o': options->operation = optarg; break;
    case 'k': options->key = optarg; break;
    case 'O': options->older = optarg; break;
    case 'l':
        if (!cli_parse_number(optarg, 1, LIMIT_MAX, &options->limit))
            return cli_usage(words0, "--limit takes 1 to %d", LIMIT_MAX);
        break;
    case 'D': return take_verdict(options, OUTBOUND_VERDICT_DONE, words0);
    case 'F': return take_verdict(options, OUTBOUND_VERDICT_REFUSED, words0);
    case 'S': return take_verdict(options, OUTBOUND_VERDICT_RESEND, words0);
    case 'V': return take_verdict(options, OUTBOUND_VERDICT_VERIFY, words0);
    case 'i': options->remote_id = optarg; break;
    case 'r': options->why = optarg; break;
    case 'a': options->actor = optarg; break;
    case 'y': options->yes = true; break;
    case 'j': options->json = true; break;
    default: return CLI_USAGE;
    }
    return CLI_OK;
}

static int parse(struct outbound_options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"state", required_argument, NULL, 's'},
        {"tenant", required_argument, NULL, 't'},
        {"operation", required_argument, NULL, 'o'},
        {"key", required_argument, NULL, 'k'},
        {"older", required_argument, NULL, 'O'},
        {"limit", required_argument, NULL, 'l'},
        {"done", no_argument, NULL, 'D'},
        {"refused", no_argument, NULL, 'F'},
        {"resend", no_argument, NULL, 'S'},
        {"verify", no_argument, NULL, 'V'},
        {"remote-id", required_argument, NULL, 'i'},
        {"reason", required_argument, NULL, 'r'},
        {"actor", required_argument, NULL, 'a'},
        {"yes", no_argument, NULL, 'y'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;
    int status = CLI_OK;
    while (status == CLI_OK && (option = getopt_long(count, words, "", long_options, NULL)) != -1)
        status = take_option(options, option, words[0]);
    return status;
}

static struct err act(struct cli *cli, const char *verb, struct outbound_options *options)
{
    TRY(cli_open_database(cli));
    if (options->older != NULL)
        TRY(cli_read_time(cli, "--older", options->older, &options->older_at));
    if (strcmp(verb, "show") == 0)
        return outbound_show(cli, options);
    if (strcmp(verb, "resolve") == 0)
        return outbound_resolve(cli, options);
    return outbound_list(cli, options);
}

static int run(struct cli *cli, int count, char **words)
{
    struct outbound_options options = {0};
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    const char *verb = optind < count ? words[optind] : "ls";
    bool lists = strcmp(verb, "ls") == 0 || strcmp(verb, "list") == 0;
    bool of_one = strcmp(verb, "show") == 0 || strcmp(verb, "resolve") == 0;
    if (!lists && !of_one)
        return cli_usage(words[0], "\"%.40s\" is none of ls, show, resolve", verb);
    if (lists ? optind + 1 < count : optind + 2 != count)
        return cli_usage(words[0], "%s",
                         lists ? "ls takes options only" : "show and resolve need one call's id");
    if (of_one && !cli_parse_number(words[optind + 1], 1, INT64_MAX, &options.id))
        return cli_usage(words[0], "\"%.40s\" is no id: they are numbers, see ls",
                         words[optind + 1]);
    struct err err = act(cli, verb, &options);
    buf_close(&options.older_at);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_outbound = {
    .name = "outbound",
    .usage = "[ls] [filters] | show ID | resolve ID --done|--refused|--resend|--verify --reason R",
    .purpose = "calls to the outside that happen once; say what became of one",
    .help =
        "ls: calls that are not at their end, those that need a person first. show: one call, "
        "what\n"
        "was sent and answered. resolve: what became of it, once somebody has looked on the other\n"
        "side; the job that waits for it is put in again. It says what it would do, and does it\n"
        "with --yes; that leaves rows in the audit log.\n"
        "  --state S       pending, sending, unknown, done, refused or all\n"
        "  --tenant T, --operation O, --key K\n"
        "  --older T       made before: 2026-11-21T14:30 (UTC) or an age (2h, 3d)\n"
        "  --limit N       [50]\n"
        "  --done          it took effect; --remote-id X says what it made there\n"
        "  --refused       it did not, and is not to be sent any more\n"
        "  --resend        it is to be sent: with the same Idempotency-Key, but after a refusal "
        "with\n"
        "                  a new one\n"
        "  --verify        it is to be looked for again, where its kind can be\n"
        "  --reason R      why; resolve needs it\n"
        "  --actor A       who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
        "  --yes           do it\n"
        "  --json          for programs\n",
    .run = run,
};
