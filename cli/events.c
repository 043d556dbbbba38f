/* whopline events: what arrived and what became of it. */
#include "cli/cli.h"
#include "cli/events_dead.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "codec/encoding.h"
#include "codec/json.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIMIT_DEFAULT = 20, LIMIT_MAX = 10000 };

/* The filters of the list, in this order: tenant, kind, event's status, user, payment, limit, jobs'
 * state, progress. */
#define LIST_FROM                                                                                  \
    " FROM webhook_events e LEFT JOIN tenants t ON t.id = e.tenant_id" OUTCOME_JOINS               \
    " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                           \
    " AND ($2::text IS NULL OR e.kind = $2)"                                                       \
    " AND ($3::text IS NULL OR e.status = $3)"                                                     \
    " AND ($7::text IS NULL OR e.id IN (SELECT event_id FROM jobs WHERE state = $7))"              \
    " AND ($8::text IS NULL OR outcome_progress.progress = $8)"                                    \
    " AND ($4::text IS NULL OR e.user_id = $4)"                                                    \
    " AND ($5::text IS NULL OR e.payment_id = $5)"                                                 \
    " ORDER BY e.received_at DESC, e.id DESC LIMIT $6::bigint"

#define LIST_JSON                                                                                  \
    "SELECT e.id, e.received_at, e.occurred_at, e.kind, e.generation, t.slug AS tenant,"           \
    " e.user_id, e.membership_id, e.payment_id, e.status, e.reason,"                               \
    " outcome_progress.progress, outcome_progress.jobs, " OUTCOME_TEXT " AS outcome" LIST_FROM

#define LIST_PEOPLE                                                                                \
    "SELECT extract(epoch FROM whopline_now() - e.received_at)::bigint, e.id, e.kind,"             \
    " e.generation, t.slug, e.user_id, e.payment_id, " OUTCOME_TEXT                                \
    ", (SELECT count(*) > 1 FROM tenants)" LIST_FROM

#define SHOW_FROM                                                                                  \
    " FROM webhook_events e LEFT JOIN tenants t ON t.id = e.tenant_id" OUTCOME_JOINS               \
    " WHERE e.id = $1"

struct filters {
    const char *tenant;
    const char *kind;
    const char *status;
    const char *job_state;
    const char *progress;
    const char *user;
    const char *payment;
    int64_t limit;
    bool json;
};

/* --- list ------------------------------------------------------------------------------------ */

/* --status names either the event's own status or what its jobs have come to. */
static bool take_status(struct filters *filters, const char *name)
{
    static const char *const own[] = {"routed", "ignored", "quarantined"};
    static const struct {
        const char *name;
        const char *job_state;
    } jobs[] = {{"running", "queued"}, {"parked", "parked"}, {"dead", "dead"}};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (strcmp(name, own[i]) == 0)
            filters->status = own[i];
        if (strcmp(name, jobs[i].name) == 0)
            filters->job_state = jobs[i].job_state;
    }
    if (strcmp(name, "done") == 0)
        filters->progress = name;
    return filters->status != NULL || filters->job_state != NULL || filters->progress != NULL;
}

static int parse_filters(struct filters *filters, int count, char **words)
{
    static const struct option options[] = {
        {"tenant", required_argument, NULL, 't'},  {"kind", required_argument, NULL, 'k'},
        {"status", required_argument, NULL, 's'},  {"user", required_argument, NULL, 'u'},
        {"payment", required_argument, NULL, 'p'}, {"limit", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},          {NULL, 0, NULL, 0},
    };
    int option;
    *filters = (struct filters){.limit = LIMIT_DEFAULT};
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (option) {
        case 't': filters->tenant = optarg; break;
        case 'k': filters->kind = optarg; break;
        case 's':
            if (!take_status(filters, optarg))
                return cli_usage(words[0], "no event has the status \"%s\"", optarg);
            break;
        case 'u': filters->user = optarg; break;
        case 'p': filters->payment = optarg; break;
        case 'j': filters->json = true; break;
        case 'l':
            if (!cli_parse_number(optarg, 1, LIMIT_MAX, &filters->limit))
                return cli_usage(words[0], "--limit takes 1 to %d", LIMIT_MAX);
            break;
        default: return CLI_USAGE;
        }
    }
    if (optind < count)
        return cli_usage(words[0], "list takes no \"%s\"", words[optind]);
    return CLI_OK;
}

static const char *const heads[] = {">AGE",   "EVENT", "KIND",    "AS",
                                    "TENANT", "USER",  "PAYMENT", "WHAT BECAME OF IT"};

static const struct output_list listed = {
    .json = LIST_JSON,
    .people = LIST_PEOPLE,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .age = 1,
    .tenant = 5,
    .shortens = true,
    .none = "no events",
    .cut = "the newest",
};

static int list(struct cli *cli, int count, char **words)
{
    struct filters filters;
    int status = parse_filters(&filters, count, words);
    if (status != CLI_OK)
        return status;
    const struct pg_param params[] = {
        pg_text(filters.tenant),    pg_text(filters.kind),     pg_text(filters.status),
        pg_text(filters.user),      pg_text(filters.payment),  pg_integer(filters.limit),
        pg_text(filters.job_state), pg_text(filters.progress),
    };
    struct err err = cli_open_database(cli);
    if (err_failed(&err))
        return cli_fail(&err);
    err = output_list(cli, &listed, filters.json, params, ARRAY_LEN(params), filters.limit);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

/* --- show ------------------------------------------------------------------------------------ */

/* The event's full id from that, from as much of it as the lists show, or from a webhook-id alone.
 */
static struct err find_event(struct cli *cli, const char *id, struct buf *out)
{
    struct pg *pg = cli->pg;
    TRY(cli_complete_id(cli, id, out));
    if (strcmp(buf_text(out), id) != 0)
        return ERR_NONE;
    buf_clear(out);
    TRY(PG_EXEC(pg,
                "SELECT id FROM webhook_events WHERE id = $1"
                " UNION ALL SELECT id FROM webhook_events WHERE webhook_id = $1 AND NOT EXISTS"
                "  (SELECT 1 FROM webhook_events WHERE id = $1)",
                pg_text(id)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no event %.100s; see whopline events", id);
    if (pg_rows(pg) > 1)
        return err_make(ERR_USAGE, "several endpoints have a %.60s, e.g. %.60s: give the full id",
                        id, pg_get(pg, 0, 0));
    buf_add_text(out, pg_get(pg, 0, 0));
    return ERR_NONE;
}

static struct err print_event(struct pg *pg, const char *id)
{
    struct table table;
    TRY(PG_EXEC(
        pg,
        "SELECT e.id AS event, e.kind, e.type_raw AS \"type as sent\", e.generation,"
        " e.endpoint, e.webhook_id AS \"webhook-id\", t.slug AS tenant,"
        " e.company_id AS company, e.user_id AS user, e.membership_id AS membership,"
        " e.payment_id AS payment, e.entity_id AS entity," OUTCOME_UTC(
            "e.occurred_at") " || CASE WHEN e.occurred_known THEN ' UTC' ELSE ' UTC (of the "
                             "signature)' END"
                             " AS occurred, " OUTCOME_UTC(
                                 "e.received_at") " || ' UTC' AS "
                                                  "received,"
                                                  " " OUTCOME_UTC("e.journalled_"
                                                                  "at") " || ' "
                                                                        "UTC' AS "
                                                                        "journalle"
                                                                        "d, "
                                                                        " octet_"
                                                                        "length(e."
                                                                        "body) || "
                                                                        "' bytes' "
                                                                        "AS "
                                                                        "body,"
                                                                        " " OUTCOME_TEXT " AS "
                                                                        "outcom"
                                                                        "e" SHOW_FROM,
        pg_text(id)));
    table_init(&table, NULL, 2);
    output_record(pg, 0, &table);
    table_print(&table, "");
    return ERR_NONE;
}

static struct err print_jobs(struct pg *pg, const char *id)
{
    static const char *const columns[] = {"JOB",    "KIND",          "QUEUE",         "STATE",
                                          "REASON", ">FAILED TRIES", "CREATED (UTC)", "FINISHED"};
    const struct output_list list_of_jobs = {.heads = columns, .columns = ARRAY_LEN(columns)};
    TRY(PG_EXEC(pg,
                "SELECT id, kind, queue, state, reason, attempts, " OUTCOME_UTC(
                    "created_at") ", " OUTCOME_UTC("finished_at") " FROM jobs WHERE event_id = $1 "
                                                                  "ORDER BY created_at, id",
                pg_text(id)));
    if (pg_rows(pg) == 0) {
        printf("\nit caused no jobs\n");
        return ERR_NONE;
    }
    printf("\n");
    output_rows(pg, &list_of_jobs, 0);
    return ERR_NONE;
}

static struct err get_body(struct pg *pg, const char *id, struct buf *out)
{
    TRY(PG_EXEC(pg, "SELECT body FROM webhook_events WHERE id = $1", pg_text(id)));
    pg_get_bytes(pg, 0, 0, out);
    return ERR_NONE;
}

static struct err show_people(struct pg *pg, const char *id, bool with_body)
{
    struct buf body = {0};
    TRY(print_event(pg, id));
    TRY(print_jobs(pg, id));
    if (!with_body)
        return ERR_NONE;
    TRY(get_body(pg, id, &body));
    printf("\n");
    /* The very bytes that were signed, for whoever pipes them on. */
    fwrite(buf_text(&body), 1, body.len, stdout);
    printf("\n");
    buf_close(&body);
    return ERR_NONE;
}

#define SHOW_JSON                                                                                  \
    "SELECT row_to_json(q)::text FROM (SELECT e.id, e.kind, e.type_raw, e.generation, e.endpoint," \
    " e.webhook_id, t.slug AS tenant, e.company_id, e.user_id, e.membership_id, e.payment_id,"     \
    " e.entity_id, e.status, e.reason, e.occurred_at, e.occurred_known, e.received_at,"            \
    " e.journalled_at, octet_length(e.body) AS body_bytes, "                                       \
    "outcome_progress.progress, " OUTCOME_TEXT                                                     \
    " AS outcome, (SELECT coalesce(json_agg(row_to_json(j) ORDER BY j.created_at), '[]')"          \
    "  FROM (SELECT id, gen, kind, queue, state, reason, attempts, trace, created_at, due_at,"     \
    "  relayed_at, finished_at FROM jobs WHERE event_id = e.id) j) AS jobs" SHOW_FROM ") q"

static void put_base64(struct json_writer *writer, const char *key, struct buf *bytes)
{
    char *base64 = mem_alloc(ENCODING_BASE64_SIZE(bytes->len));
    encoding_base64(buf_text(bytes), bytes->len, base64);
    json_put_text(writer, key, base64);
    free(base64);
}

static struct err show_json(struct pg *pg, const char *id, bool with_body)
{
    struct buf out = {0};
    struct buf body = {0};
    struct json_writer writer = {.out = &out};
    struct err err = PG_EXEC(pg, SHOW_JSON, pg_text(id));
    if (err_failed(&err))
        return err;
    json_begin_object(&writer, NULL);
    json_put_raw(&writer, "event", pg_get(pg, 0, 0));
    if (with_body)
        err = get_body(pg, id, &body);
    if (with_body && !err_failed(&err))
        put_base64(&writer, "body_base64", &body);
    json_end_object(&writer);
    if (!err_failed(&err))
        printf("%s\n", buf_text(&out));
    buf_close(&body);
    buf_close(&out);
    return err;
}

static int show(struct cli *cli, int count, char **words)
{
    static const struct option options[] = {
        {"body", no_argument, NULL, 'b'}, {"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    struct buf id = {0};
    bool with_body = false;
    bool json = false;
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option == '?')
            return CLI_USAGE;
        with_body = with_body || option == 'b';
        json = json || option == 'j';
    }
    if (optind + 1 != count)
        return cli_usage(words[0], "show needs one event's id");
    struct err err = cli_open_database(cli);
    if (!err_failed(&err))
        err = find_event(cli, words[optind], &id);
    if (!err_failed(&err) && json)
        err = show_json(cli->pg, buf_text(&id), with_body);
    else if (!err_failed(&err))
        err = show_people(cli->pg, buf_text(&id), with_body);
    buf_close(&id);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

static int run(struct cli *cli, int count, char **words)
{
    bool verb = count > 1 && words[1][0] != '-';
    bool dead = count > 1 && strcmp(words[1], "--dead") == 0;
    int (*action)(struct cli *, int, char **) = list;
    if (dead || (verb && strcmp(words[1], "dead") == 0))
        action = events_dead;
    else if (verb && strcmp(words[1], "show") == 0)
        action = show;
    else if (verb && strcmp(words[1], "list") != 0)
        return cli_usage(words[0], "\"%s\" is none of list, show, dead", words[1]);
    if (verb || dead) {
        words[1] = words[0];
        words++;
        count--;
    }
    return action(cli, count, words);
}

const struct cli_command command_events = {
    .name = "events",
    .usage = "[list] [filters] [--json] | show ID [--body] [--json] | dead ...",
    .purpose = "the webhooks that arrived and what became of them",
    .help =
        "list, newest first:\n"
        "  --tenant T      slug or company id\n"
        "  --kind K        e.g. payment.succeeded\n"
        "  --status S      routed, ignored, quarantined, or of its jobs: running, done, parked,\n"
        "                  dead\n"
        "  --user U, --payment P\n"
        "  --limit N       [20]\n"
        "show: one event, by its id (as far as a list shows it) or webhook-id, and the jobs it\n"
        "caused\n"
        "  --body          also the bytes that were signed (with --json in base64)\n"
        "dead: what could not be journalled and is in Redis alone (status says if there is any)\n"
        "  dead [list] [--json]                    what there is, oldest first\n"
        "  dead show ENTRY [--body] [--json]\n"
        "  dead requeue ENTRY...|--all [--yes]     back to the stream it came from\n"
        "  dead drop ENTRY...|--all --reason R [--yes]  out of Redis; its bytes go to the audit "
        "log\n"
        "  --actor A       who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n",
    .run = run,
};
