/* whopline send: test webhooks for ingest, signed correctly or wrongly. */
#include "cli/cli.h"
#include "cli/forge.h"
#include "cli/output.h"
#include "codec/json.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

/* For --list and --help. */
#define GENERATIONS_TEXT                                                                           \
    "  v1        the current one: nested objects (data.user.id)\n"                                 \
    "  v1-flat   the current one in a newer payload version: flat ids (data.plan_id)\n"            \
    "  v5        older: flat, its own names for some events\n"                                     \
    "  v2        oldest: nested, v5's names\n"                                                     \
    "  v2-body   v2 with its content under \"body\" in place of \"data\"\n"                        \
    "  v2-short  the short body of early integrations: a few ids and hardly more\n"                \
    "The older names work as aliases, both ways: membership.went_valid (v5, v2) is\n"              \
    "membership.activated, membership.went_invalid is membership.deactivated.\n"

enum { SETS_MAX = 32, COUNT_MAX = 100000, FROM_MAX_BYTES = 16 << 20 };

/* What the samples say where nobody says otherwise (vectors of the test company). */
#define SAMPLE_COMPANY "biz_T3st0LanternCo"

struct send_options {
    struct forge_request request;
    const char *sets[SETS_MAX];
    const char *from_path;
    const char *url;
    struct buf from;
    int64_t count;
    int64_t parallel;
    int64_t expect; /* 0: by the fault */
    bool list;
    bool json;
    bool quiet;
    bool allow_remote;
};

enum {
    OPTION_FROM = 256,
    OPTION_GENERATION,
    OPTION_SCHEME,
    OPTION_ID,
    OPTION_COUNT,
    OPTION_PARALLEL,
    OPTION_SET,
    OPTION_USER,
    OPTION_MEMBERSHIP,
    OPTION_PAYMENT,
    OPTION_PLAN,
    OPTION_COMPANY,
    OPTION_AMOUNT,
    OPTION_CURRENCY,
    OPTION_PACK,
    OPTION_URL,
    OPTION_EXPECT,
    OPTION_LIST,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_ALLOW_REMOTE,
    OPTION_FAULT, /* + enum forge_fault; the last */
};

static const struct option long_options[] = {
    {"from", required_argument, NULL, OPTION_FROM},
    {"generation", required_argument, NULL, OPTION_GENERATION},
    {"scheme", required_argument, NULL, OPTION_SCHEME},
    {"id", required_argument, NULL, OPTION_ID},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"parallel", required_argument, NULL, OPTION_PARALLEL},
    {"set", required_argument, NULL, OPTION_SET},
    {"user", required_argument, NULL, OPTION_USER},
    {"membership", required_argument, NULL, OPTION_MEMBERSHIP},
    {"payment", required_argument, NULL, OPTION_PAYMENT},
    {"plan", required_argument, NULL, OPTION_PLAN},
    {"company", required_argument, NULL, OPTION_COMPANY},
    {"amount", required_argument, NULL, OPTION_AMOUNT},
    {"currency", required_argument, NULL, OPTION_CURRENCY},
    {"pack-id", required_argument, NULL, OPTION_PACK},
    {"wrong-signature", no_argument, NULL, OPTION_FAULT + FORGE_WRONG_SIGNATURE},
    {"stale", no_argument, NULL, OPTION_FAULT + FORGE_STALE},
    {"future", no_argument, NULL, OPTION_FAULT + FORGE_FUTURE},
    {"tampered", no_argument, NULL, OPTION_FAULT + FORGE_TAMPERED},
    {"no-signature", no_argument, NULL, OPTION_FAULT + FORGE_NO_SIGNATURE},
    {"wrong-key", no_argument, NULL, OPTION_FAULT + FORGE_WRONG_KEY},
    {"url", required_argument, NULL, OPTION_URL},
    {"expect", required_argument, NULL, OPTION_EXPECT},
    {"list", no_argument, NULL, OPTION_LIST},
    {"json", no_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"allow-remote", no_argument, NULL, OPTION_ALLOW_REMOTE},
    {NULL, 0, NULL, 0},
};

/* --- options --------------------------------------------------------------------------------- */

static bool parse_scheme(const char *text, enum signature_scheme *out)
{
    if (strcmp(text, "standard") == 0)
        *out = SIGNATURE_STANDARD;
    else if (strcmp(text, "legacy") == 0)
        *out = SIGNATURE_LEGACY;
    else
        return false;
    return true;
}

/* Where an option's text simply goes; NULL for the others. */
static const char **text_of(struct send_options *options, int option)
{
    struct body_values *values = &options->request.values;
    switch (option) {
    case OPTION_FROM: return &options->from_path;
    case OPTION_GENERATION: return &options->request.generation;
    case OPTION_ID: return &options->request.message;
    case OPTION_USER: return &values->user;
    case OPTION_MEMBERSHIP: return &values->membership;
    case OPTION_PAYMENT: return &values->payment;
    case OPTION_PLAN: return &values->plan;
    case OPTION_COMPANY: return &values->company;
    case OPTION_AMOUNT: return &values->amount;
    case OPTION_CURRENCY: return &values->currency;
    case OPTION_PACK: return &values->pack;
    case OPTION_URL: return &options->url;
    default: return NULL;
    }
}

static bool take_option(struct send_options *options, int option)
{
    if (option >= OPTION_FAULT) {
        options->request.fault = (enum forge_fault)(option - OPTION_FAULT);
        return true;
    }
    switch (option) {
    case OPTION_SCHEME: return parse_scheme(optarg, &options->request.scheme);
    case OPTION_COUNT: return cli_parse_number(optarg, 1, COUNT_MAX, &options->count);
    case OPTION_PARALLEL:
        return cli_parse_number(optarg, 1, SENDER_PARALLEL_MAX, &options->parallel);
    case OPTION_EXPECT: return cli_parse_number(optarg, 100, 599, &options->expect);
    case OPTION_SET:
        if (options->request.set_count == SETS_MAX)
            return false;
        options->sets[options->request.set_count++] = optarg;
        return true;
    case OPTION_LIST: options->list = true; return true;
    case OPTION_JSON: options->json = true; return true;
    case OPTION_QUIET: options->quiet = true; return true;
    case OPTION_ALLOW_REMOTE: options->allow_remote = true; return true;
    default: break;
    }
    const char **text = text_of(options, option);
    if (text != NULL && strpbrk(optarg, "\r\n") == NULL) {
        *text = optarg;
        return true;
    }
    return false;
}

static int parse(struct send_options *options, int count, char **words)
{
    int option;
    int index = 0;
    *options = (struct send_options){.count = 1, .parallel = 1};
    while ((option = getopt_long(count, words, "", long_options, &index)) != -1) {
        if (option == '?')
            return CLI_USAGE;
        if (!take_option(options, option))
            return cli_usage(words[0], "--%s does not take \"%s\"", long_options[index].name,
                             optarg != NULL ? optarg : "");
    }
    options->request.sets = options->sets;
    if (options->list)
        return CLI_OK;
    if (optind + 1 < count)
        return cli_usage(words[0], "one KIND at a time, not also \"%s\"", words[optind + 1]);
    if (optind == count && options->from_path == NULL)
        return cli_usage(words[0], "it needs a KIND or --from FILE");
    options->request.kind = optind < count ? words[optind] : "(file)";
    if (options->request.message != NULL && (options->request.message[0] == '\0' ||
                                             strlen(options->request.message) >= SIGNATURE_ID_MAX))
        return cli_usage(words[0], "--id takes 1 to %d bytes", SIGNATURE_ID_MAX - 1);
    if (options->request.values.payment != NULL &&
        strlen(options->request.values.payment) >= BODY_ID_SIZE)
        return cli_usage(words[0], "--payment takes at most %d bytes", BODY_ID_SIZE - 1);
    return CLI_OK;
}

static struct err read_all(FILE *file, struct buf *out)
{
    char piece[4096];
    while (feof(file) == 0 && ferror(file) == 0 && out->len < FROM_MAX_BYTES) {
        size_t got = fread(piece, 1, sizeof piece, file);
        buf_add(out, piece, got);
    }
    return ferror(file) != 0 ? err_make(ERR_USAGE, "cannot read the body") : ERR_NONE;
}

static struct err read_file(const char *path, struct buf *out)
{
    if (strcmp(path, "-") == 0)
        return read_all(stdin, out);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return err_make(ERR_USAGE, "cannot read %.100s: %s", path, strerror(errno));
    struct err err = read_all(file, out);
    fclose(file);
    return err;
}

/* --- lists ----------------------------------------------------------------------------------- */

static int print_list(bool json)
{
    static const char *const heads[] = {"KIND", "GENERATIONS"};
    struct table table;
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    struct span kind;
    struct span last = {"", 0};
    const char *generation;
    struct buf generations = {0};
    table_init(&table, heads, ARRAY_LEN(heads));
    json_begin_array(&writer, NULL);
    for (size_t i = 0; forge_sample_at(i, &kind, &generation); i++) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)kind.len, kind.ptr);
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "kind", name);
        json_put_text(&writer, "generation", generation);
        json_end_object(&writer);
        if (!span_equal(kind, last)) {
            if (i > 0)
                table_add(&table, buf_text(&generations));
            buf_clear(&generations);
            table_add(&table, name);
        }
        buf_printf(&generations, "%s%s", generations.len > 0 ? " " : "", generation);
        last = kind;
    }
    table_add(&table, buf_text(&generations));
    json_end_array(&writer);
    if (json) {
        printf("%s\n", buf_text(&out));
    } else {
        table_print(&table, "");
        printf("\nGENERATIONS are the shapes Whop has sent:\n" GENERATIONS_TEXT);
    }
    buf_close(&table.text);
    buf_close(&generations);
    buf_close(&out);
    return CLI_OK;
}

/* --- sending --------------------------------------------------------------------------------- */

static void print_people(const struct send_options *options, const struct forged *forged,
                         const struct sender_result *results)
{
    static const char *const id_heads[FORGED_IDS] = {"USER", "MEMBERSHIP", "PAYMENT", "REFUND",
                                                     "DISPUTE"};
    const char *heads[5 + FORGED_IDS] = {"STATUS", "EVENT", "KIND", "AS"};
    size_t columns = 4;
    struct table table;
    /* All bodies are made alike, so the first tells which ids there are. */
    for (size_t id = 0; id < FORGED_IDS; id++)
        if (forged[0].ids[id][0] != '\0')
            heads[columns++] = id_heads[id];
    heads[columns++] = ">MS";
    table_init(&table, heads, columns);
    for (int64_t i = 0; i < options->count; i++) {
        table_printf(&table, results[i].status != 0 ? "%d" : "none", results[i].status);
        table_add_short(&table, forged[i].event_id);
        table_add(&table, options->request.kind);
        table_add(&table, forged[i].generation);
        for (size_t id = 0; id < FORGED_IDS; id++)
            if (forged[0].ids[id][0] != '\0')
                table_add(&table, forged[i].ids[id]);
        table_printf(&table, "%.1f", (double)results[i].elapsed_us / 1000.0);
    }
    table_print(&table, "");
}

static void print_json(const struct send_options *options, const struct forged *forged,
                       const struct sender_result *results)
{
    static const char *const names[FORGED_IDS] = {"user", "membership", "payment", "refund",
                                                  "dispute"};
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    json_begin_array(&writer, NULL);
    for (int64_t i = 0; i < options->count; i++) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "event", forged[i].event_id);
        json_put_text(&writer, "webhook_id",
                      forged[i].message[0] != '\0' ? forged[i].message : NULL);
        json_put_text(&writer, "kind", options->request.kind);
        json_put_text(&writer, "generation", forged[i].generation);
        for (size_t id = 0; id < FORGED_IDS; id++)
            json_put_text(&writer, names[id],
                          forged[i].ids[id][0] != '\0' ? forged[i].ids[id] : NULL);
        json_put_integer(&writer, "status", results[i].status);
        json_put_integer(&writer, "elapsed_us", results[i].elapsed_us);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* One line for what did not go as expected. */
static int judge(const struct send_options *options, const struct sender_result *results)
{
    int64_t expect = options->expect;
    int64_t odd = 0;
    const struct sender_result *first = NULL;
    if (expect == 0)
        expect = options->request.fault == FORGE_GOOD ? 200 : 401;
    for (int64_t i = 0; i < options->count; i++) {
        if (results[i].status == expect)
            continue;
        odd++;
        if (first == NULL)
            first = &results[i];
    }
    if (first == NULL)
        return CLI_OK;
    if (first->status == 0)
        fprintf(stderr, "whopline: %lld of %lld got no answer or another than %lld: %s\n",
                (long long)odd, (long long)options->count, (long long)expect, first->err.text);
    else
        fprintf(stderr, "whopline: %lld of %lld were answered otherwise than with %lld, e.g. %d\n",
                (long long)odd, (long long)options->count, (long long)expect, first->status);
    return CLI_FAILED;
}

static int send_all(struct forge *forge, const struct send_options *options)
{
    size_t count = (size_t)options->count;
    struct forged *forged = mem_zalloc(count * sizeof *forged);
    struct span *requests = mem_zalloc(count * sizeof *requests);
    struct sender_result *results = mem_zalloc(count * sizeof *results);
    struct err err = ERR_NONE;
    int status = CLI_FAILED;
    for (size_t i = 0; i < count && !err_failed(&err); i++) {
        err = forge_make(forge, &options->request, &forged[i]);
        requests[i] = buf_span(&forged[i].bytes);
    }
    if (err_failed(&err)) {
        status = cli_fail(&err);
        goto out;
    }
    sender_send(forge->target, requests, count, (unsigned)options->parallel, results);
    if (options->json)
        print_json(options, forged, results);
    else if (!options->quiet)
        print_people(options, forged, results);
    fflush(stdout);
    status = judge(options, results);
out:
    for (size_t i = 0; i < count; i++)
        buf_close(&forged[i].bytes);
    free(forged);
    free(requests);
    free(results);
    return status;
}

static struct err prepare(struct cli *cli, struct send_options *options,
                          struct sender_target *target)
{
    struct body_values *values = &options->request.values;
    if (values->company == NULL)
        values->company =
            cli->config.whop_company_id[0] != '\0' ? cli->config.whop_company_id : SAMPLE_COMPANY;
    if (options->from_path != NULL) {
        TRY(read_file(options->from_path, &options->from));
        options->request.from = buf_text(&options->from);
        options->request.from_size = options->from.len;
    }
    if (options->url != NULL)
        TRY(sender_target_of_url(options->url, target));
    else
        TRY(sender_target_of_listen(cli->config.http_listen, target));
    if (!options->allow_remote && !sender_target_is_loopback(target))
        return err_make(ERR_REFUSED,
                        "%s is not this machine; test events go elsewhere only with "
                        "--allow-remote",
                        target->host);
    return ERR_NONE;
}

static int run(struct cli *cli, int count, char **words)
{
    struct send_options options;
    struct sender_target target = {0};
    struct forge forge = {0};
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    if (options.list)
        return print_list(options.json);
    struct err err = prepare(cli, &options, &target);
    if (!err_failed(&err))
        err = forge_init(&forge, cli->config.whop_webhook_secret, &target);
    status = err_failed(&err) ? cli_fail(&err) : send_all(&forge, &options);
    forge_close(&forge);
    buf_close(&options.from);
    return status;
}

const struct cli_command command_send = {
    .name = "send",
    .usage = "KIND [options] | --from FILE [options] | --list",
    .purpose = "send test events, signed correctly or, on request, wrongly",
    .help =
        "Signs with the first of WHOP_WEBHOOK_SECRET and sends to HTTP_LISTEN on this machine. "
        "Ids\n"
        "and times are new each time unless given. Exit 0 if every answer was the expected one.\n\n"
        "  --list               kinds there are samples of, and their generations\n"
        "  --from FILE          this body instead of a sample (- for stdin); its id is kept\n"
        "  --generation G       which shape of the body, see below [the first there is]\n"
        "  --scheme S           standard or legacy [v1: standard, older: legacy]\n"
        "  --id ID              the webhook-id; with --count, of all of them\n"
        "  --count N            so many events [1]\n"
        "  --parallel N         over so many connections at once [1]\n"
        "  --user U --membership M --payment P --plan PL --company B --pack-id X\n"
        "  --amount 1.23 --currency usd\n"
        "  --set PATH=VALUE     any member of the body, e.g. data.user=null; may be repeated\n"
        "  --wrong-signature | --wrong-key | --no-signature | --tampered | --stale | --future\n"
        "                       one thing wrong with it; 401 is expected then\n"
        "  --expect STATUS      another status is the expected one\n"
        "  --url URL            http://HOST:PORT[/PATH] instead of HTTP_LISTEN\n"
        "  --allow-remote       let it be another machine\n"
        "  --quiet, --json      no table; a list of objects\n\n"
        "Generations, the shapes Whop has sent:\n" GENERATIONS_TEXT,
    .run = run,
};
