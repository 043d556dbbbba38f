/* whopline tenants: whom this installation serves, with what secrets. */
#include "cli/tenants.h"

#include <getopt.h>
#include <stdio.h>

enum {
    OVERLAP_DEFAULT_S = 24 * 3600,
    OVERLAP_MAX_S = 30 * 24 * 3600,
};

static const struct verb {
    const char *name;
    bool needs_name; /* of a tenant */
    bool needs_reason;
    struct err (*act)(struct cli *cli, const char *name, const struct tenants_options *options);
} verbs[] = {
    {"list", false, false, tenants_list},
    {"ls", false, false, tenants_list},
    {"add", true, false, tenants_add},
    {"check", false, false, tenants_check},
    {"pause", true, true, tenants_pause},
    {"resume", true, false, tenants_resume},
    {"disconnect", true, true, tenants_disconnect},
    {"rotate-secret", false, false, tenants_rotate_secret},
    {"reauth", true, false, tenants_reauth},
    {"rekey", false, false, tenants_rekey},
    {"endpoints", false, false, tenants_endpoints},
};

/* "90", "90s", "15m", "24h", "7d" in seconds. */
static bool parse_span(const char *text, int64_t *out)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char digits[16];
    size_t len = strspn(text, "0123456789");
    int64_t factor = text[len] == '\0' ? 1 : 0;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (text[len] == units[i].unit && text[len + 1] == '\0')
            factor = units[i].seconds;
    if (len == 0 || len >= sizeof digits || factor == 0)
        return false;
    memcpy(digits, text, len);
    digits[len] = '\0';
    if (!cli_parse_number(digits, 0, OVERLAP_MAX_S, out) || *out > OVERLAP_MAX_S / factor)
        return false;
    *out *= factor;
    return true;
}

static int take_option(struct tenants_options *options, int option, const char *words0)
{
    switch (option) {
    case 'c': options->company = optarg; break;
    case 't': options->title = optarg; break;
    case 'e': options->endpoint = optarg; break;
    case 's': options->schemes = optarg; break;
    case 'k': options->api_key_file = optarg; break;
    case 'o': options->token_file = optarg; break;
    case 'w': options->secret_file = optarg; break;
    case 'r': options->reason = optarg; break;
    case 'a': options->actor = optarg; break;
    case 'p': options->app = true; break;
    case 'y': options->yes = true; break;
    case 'j': options->json = true; break;
    case 'v':
        if (!parse_span(optarg, &options->overlap_s))
            return cli_usage(words0, "--overlap takes 0 to 30 days: 90s, 15m, 24h, 7d");
        break;
    default: return CLI_USAGE;
    }
    return CLI_OK;
}

static int parse(struct tenants_options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"company", required_argument, NULL, 'c'},
        {"title", required_argument, NULL, 't'},
        {"endpoint", required_argument, NULL, 'e'},
        {"schemes", required_argument, NULL, 's'},
        {"api-key-file", required_argument, NULL, 'k'},
        {"token-file", required_argument, NULL, 'o'},
        {"secret-file", required_argument, NULL, 'w'},
        {"overlap", required_argument, NULL, 'v'},
        {"reason", required_argument, NULL, 'r'},
        {"actor", required_argument, NULL, 'a'},
        {"app", no_argument, NULL, 'p'},
        {"yes", no_argument, NULL, 'y'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;
    *options =
        (struct tenants_options){.overlap_s = OVERLAP_DEFAULT_S, .schemes = "standard,legacy"};
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        int status = take_option(options, option, words[0]);
        if (status != CLI_OK)
            return status;
    }
    return CLI_OK;
}

static int unknown_verb(const char *typed, const char *words0)
{
    const char *names[ARRAY_LEN(verbs)];
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        names[i] = verbs[i].name;
    const char *nearest = cli_nearest(typed, names, ARRAY_LEN(names));
    if (nearest != NULL)
        return cli_usage(words0, "there is no \"%.60s\"; did you mean \"%s\"", typed, nearest);
    return cli_usage(words0, "there is no \"%.60s\"", typed);
}

static int act(struct cli *cli, const struct verb *verb, const char *name,
               const struct tenants_options *options, const char *words0)
{
    if (verb->needs_name && name == NULL)
        return cli_usage(words0, "%s needs a tenant", verb->name);
    if (verb->needs_reason && (options->reason == NULL || options->reason[0] == '\0'))
        return cli_usage(words0, "%s needs --reason: whoever comes next wants to know", verb->name);
    struct err err = cli_open_database(cli);
    if (!err_failed(&err))
        err = verb->act(cli, name, options);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

static int run(struct cli *cli, int count, char **words)
{
    struct tenants_options options;
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    const char *verb = optind < count ? words[optind] : "list";
    const char *name = optind + 1 < count ? words[optind + 1] : NULL;
    if (optind + 2 < count)
        return cli_usage(words[0], "one tenant, please, not also \"%.60s\"", words[optind + 2]);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verb, verbs[i].name) == 0)
            return act(cli, &verbs[i], name, &options, words[0]);
    return unknown_verb(verb, words[0]);
}

const struct cli_command command_tenants = {
    .name = "tenants",
    .usage = "[list] | VERB TENANT [options]",
    .purpose = "whom this installation serves: add, check, pause, reauth, disconnect",
    .help =
        "  list                      status, credential, endpoints, what is parked [--json]\n"
        "  add SLUG --company biz_.. a new one [--title T --api-key-file F | --token-file F\n"
        "                            --secret-file F --endpoint NAME --schemes standard,legacy];\n"
        "                            events that came before it are routed now\n"
        "  check [TENANT]            asks Whop what its credential may do, and names what is "
        "missing\n"
        "  pause TENANT --reason R   none of its jobs begins; they are parked\n"
        "  resume TENANT             the same jobs are put in again, paced\n"
        "  reauth TENANT --token-file F | --api-key-file F\n"
        "                            another credential; what was parked for want of it goes on\n"
        "  rotate-secret TENANT --secret-file F [--overlap 24h] [--endpoint NAME]\n"
        "                            a new webhook secret beside the old one; also the first one.\n"
        "                            --app --endpoint NAME: an app's, whose events say whose they "
        "are\n"
        "  disconnect TENANT --reason R --yes\n"
        "                            revokes its tokens at Whop, erases its credentials and "
        "webhook\n"
        "                            secrets; events, ledger and audit stay. Without --yes: the "
        "plan\n"
        "  rekey                     seals all secrets under the first of "
        "WHOP_TOKEN_ENCRYPTION_KEYS\n"
        "  endpoints                 writes ENDPOINTS_FILE again from the database\n"
        "Secrets are read from files, or from stdin with \"-\". A token file is what Whop's OAuth\n"
        "endpoint answers: JSON with access_token, refresh_token and expires_in or expires_at.\n"
        "TENANT: its slug or company id. --actor A: who does it. ingest sees a changed file "
        "within\n"
        "ENDPOINTS_WATCH_MS, or at once with SIGHUP.\n",
    .run = run,
};
