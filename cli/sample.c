/* whopline sample: shows that everything works, with signed events through the real front door. */
#include "cli/cli.h"
#include "cli/forge.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "codec/json.h"

#include <getopt.h>
#include <stdio.h>
#include <time.h>

enum { TIMEOUT_S = 60, TIMEOUT_MAX_S = 3600, POLL_MS = 100, SETS_PER_EVENT = 1 };

#define STARTER "plan_T3stMonthly01"
#define PRO     "plan_T3stPro000001"
#define SMALL   "plan_T3stSmallPack"

/* What the sample events buy: two tiers of a subscription and a pack that is found by its id. */
static const struct {
    const char *plan;
    const char *name;
    const char *pack;
    int64_t credits;
    int64_t price_minor;
} plans[] = {
    {STARTER, "Starter", "", 5000, 750},
    {PRO, "Pro", "", 25000, 3250},
    {SMALL, "Small pack", "pack_123", 1000, 200},
};

/* same_payment: that of the event so many places before, and sent only when that one has run its
 * course; 0: a new one. */
static const struct {
    const char *story;
    const char *kind;
    const char *generation;
    const char *user;
    const char *plan;
    const char *amount;
    const char *company;
    const char *set;
    size_t same_payment;
} events[] = {
    {"payment, v1", "payment.succeeded", "v1", "user_ada", STARTER, "7.50", NULL, NULL, 0},
    {"payment, v1 with flat ids", "payment.succeeded", "v1-flat", "user_ben", PRO, "32.50", NULL,
     NULL, 0},
    {"payment, v5", "payment.succeeded", "v5", "user_cleo", STARTER, "7.50", NULL, NULL, 0},
    {"payment, v2", "payment.succeeded", "v2", "user_dan", PRO, "32.50", NULL, NULL, 0},
    {"the first payment again, new id", "payment.succeeded", "v1", "user_ada", STARTER, "7.50",
     NULL, NULL, 4},
    {"membership begins", "membership.activated", "v1", "user_ada", STARTER, NULL, NULL, NULL, 0},
    {"membership, short v2 body", "membership.went_valid", "v2-short", NULL, NULL, NULL, NULL, NULL,
     0},
    {"payment by pack, short v2 body", "payment.succeeded", "v2-short", NULL, NULL, "2.00", NULL,
     NULL, 0},
    {"payment for an unknown plan", "payment.succeeded", "v1", "user_eve", "plan_nobody_knows",
     "9.99", NULL, NULL, 0},
    {"payment without a user", "payment.succeeded", "v1", NULL, STARTER, "7.50", NULL,
     "data.user=null", 0},
    {"event of another company", "payment.succeeded", "v1", "user_ada", STARTER, "7.50",
     "biz_somebody_else", NULL, 0},
    {"kind nobody knows", "payment.succeeded", "v1", "user_ada", STARTER, "7.50", NULL,
     "type=loyalty.points_awarded", 0},
    {"test from the dashboard", "payment.succeeded", "v1", "user_ada", STARTER, "7.50", NULL,
     "data=[]", 0},
};

enum { EVENTS = ARRAY_LEN(events) };

/* --- plans ----------------------------------------------------------------------------------- */

static struct err make_plans(struct cli *cli, int64_t tenant)
{
    for (size_t i = 0; i < ARRAY_LEN(plans); i++)
        TRY(PG_EXEC(cli->pg,
                    "INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, pack_id,"
                    " credits_amount, price_cents, currency)"
                    " SELECT $1, $2, $3, $4, $5, $6, 'usd' WHERE NOT EXISTS"
                    " (SELECT 1 FROM whop_plans WHERE tenant_id = $1"
                    "  AND (whop_plan_id = $2 OR pack_id = $4))",
                    pg_integer(tenant), pg_text(plans[i].plan), pg_text(plans[i].name),
                    pg_text_or_null(plans[i].pack), pg_integer(plans[i].credits),
                    pg_integer(plans[i].price_minor)));
    return ERR_NONE;
}

/* --- sending --------------------------------------------------------------------------------- */

static struct err forge_one(struct forge *forge, const char *company, size_t index,
                            struct forged *forged)
{
    const char *sets[SETS_PER_EVENT] = {events[index].set};
    struct forge_request request = {
        .kind = events[index].kind,
        .generation = events[index].generation,
        .sets = sets,
        .set_count = events[index].set != NULL ? 1 : 0,
        .values = {.user = events[index].user,
                   .plan = events[index].plan,
                   .amount = events[index].amount,
                   .company = events[index].company != NULL ? events[index].company : company},
    };
    if (events[index].same_payment > 0)
        request.values.payment = forged[index - events[index].same_payment].ids[FORGED_PAYMENT];
    return forge_make(forge, &request, &forged[index]);
}

static struct err forge_all(struct cli *cli, const struct sender_target *target,
                            struct forged *forged)
{
    struct forge forge = {0};
    struct err err = forge_init(&forge, cli->config.whop_webhook_secret, target);
    for (size_t i = 0; i < EVENTS && !err_failed(&err); i++)
        err = forge_one(&forge, cli->config.whop_company_id, i, forged);
    forge_close(&forge);
    return err;
}

/* Sends the events that repeat a payment, or all others. */
static struct err send_events(const struct sender_target *target, const struct forged *forged,
                              bool repetitions)
{
    struct span requests[EVENTS];
    struct sender_result results[EVENTS];
    size_t sent[EVENTS];
    size_t count = 0;
    for (size_t i = 0; i < EVENTS; i++) {
        if ((events[i].same_payment > 0) != repetitions)
            continue;
        requests[count] = buf_span(&forged[i].bytes);
        sent[count++] = i;
    }
    sender_send(target, requests, count, 1, results);
    for (size_t i = 0; i < count; i++) {
        if (results[i].status == 0)
            return results[i].err;
        if (results[i].status != 200)
            return err_make(ERR_REFUSED, "ingest answered %d to \"%s\" instead of 200",
                            results[i].status, events[sent[i]].story);
    }
    return ERR_NONE;
}

/* --- waiting --------------------------------------------------------------------------------- */

static struct pg_param ids_param(struct pg_array *ids, const struct forged *forged)
{
    pg_array_init(ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < EVENTS; i++)
        pg_array_add_text(ids, forged[i].event_id);
    return pg_array_param(ids);
}

/* How many of the events are in the journal with all their jobs finished. */
static struct err count_finished(struct cli *cli, const struct forged *forged, size_t *out)
{
    struct pg_array ids;
    struct pg_param param = ids_param(&ids, forged);
    struct err err = PG_EXEC(cli->pg,
                             "SELECT count(*) FROM event_progress"
                             " WHERE id = ANY ($1::text[]) AND progress <> 'running'",
                             param);
    pg_array_close(&ids);
    if (!err_failed(&err))
        *out = (size_t)pg_get_integer(cli->pg, 0, 0);
    return err;
}

/* Until that many have finished, or the time is over. finished: how many have. */
static struct err wait_for(struct cli *cli, const struct forged *forged, size_t wanted,
                           int64_t *left_ms, size_t *finished)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    for (;; *left_ms -= POLL_MS) {
        TRY(count_finished(cli, forged, finished));
        if (*finished >= wanted || *left_ms <= 0)
            return ERR_NONE;
        nanosleep(&pause, NULL);
    }
}

/* A repetition must meet what it repeats, or which of the two is the duplicate would be a matter of
 * luck. */
static struct err send_and_wait(struct cli *cli, struct forged *forged, int64_t timeout_s,
                                size_t *finished)
{
    struct sender_target target = {0};
    int64_t left_ms = timeout_s * 1000;
    size_t firsts = 0;
    for (size_t i = 0; i < EVENTS; i++)
        firsts += events[i].same_payment == 0 ? 1 : 0;
    TRY(sender_target_of_listen(cli->config.http_listen, &target));
    if (!sender_target_is_loopback(&target))
        return err_make(ERR_REFUSED, "HTTP_LISTEN is not on this machine");
    TRY(forge_all(cli, &target, forged));
    TRY(send_events(&target, forged, false));
    TRY(wait_for(cli, forged, firsts, &left_ms, finished));
    TRY(send_events(&target, forged, true));
    return wait_for(cli, forged, EVENTS, &left_ms, finished);
}

/* --- what became of them --------------------------------------------------------------------- */

static struct err ask_outcomes(struct cli *cli, const struct forged *forged)
{
    struct pg_array ids;
    struct pg_param param = ids_param(&ids, forged);
    struct err err =
        PG_EXEC(cli->pg,
                "SELECT s.id, e.kind, coalesce(" OUTCOME_TEXT ", 'not in the journal yet'),"
                " coalesce(outcome_progress.progress, 'missing')"
                " FROM unnest($1::text[]) WITH ORDINALITY AS s(id, place)"
                " LEFT JOIN webhook_events e ON e.id = s.id" OUTCOME_JOINS " ORDER BY s.place",
                param);
    pg_array_close(&ids);
    return err;
}

static bool is_finished(struct pg *pg, size_t row)
{
    const char *progress = pg_get(pg, row, 3);
    return strcmp(progress, "running") != 0 && strcmp(progress, "missing") != 0;
}

static void print_people(struct pg *pg)
{
    static const char *const heads[] = {"SENT", "AS", "KIND", "WHAT BECAME OF IT", "EVENT"};
    struct table table;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t i = 0; i < EVENTS; i++) {
        table_add(&table, events[i].story);
        table_add(&table, events[i].generation);
        table_add(&table, pg_get(pg, i, 1));
        table_add(&table, pg_get(pg, i, 2));
        table_add_short(&table, pg_get(pg, i, 0));
    }
    table_print(&table, "");
}

static void print_json(struct pg *pg)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    json_begin_array(&writer, NULL);
    for (size_t i = 0; i < EVENTS; i++) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "sent", events[i].story);
        json_put_text(&writer, "generation", events[i].generation);
        json_put_text(&writer, "event", pg_get(pg, i, 0));
        json_put_text(&writer, "kind", pg_is_null(pg, i, 1) ? NULL : pg_get(pg, i, 1));
        json_put_text(&writer, "outcome", pg_get(pg, i, 2));
        json_put_flag(&writer, "finished", is_finished(pg, i));
        json_end_object(&writer);
    }
    json_end_array(&writer);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

static int report_unfinished(struct pg *pg, size_t unfinished, int64_t timeout_s)
{
    fflush(stdout);
    fprintf(stderr, "whopline: after %lld s, %zu of %d events have not run their course:\n",
            (long long)timeout_s, unfinished, EVENTS);
    for (size_t i = 0; i < EVENTS; i++)
        if (!is_finished(pg, i))
            fprintf(stderr, "  %s (%s): %s\n", events[i].story, pg_get(pg, i, 0), pg_get(pg, i, 2));
    fprintf(stderr, "see whopline status, and the logs of the journal and the workers\n");
    return CLI_FAILED;
}

static struct err prepare(struct cli *cli)
{
    int64_t tenant = 0;
    if (cli->config.whop_company_id[0] == '\0')
        return err_make(ERR_CONFIG, "WHOP_COMPANY_ID is not set, and the sample events need it");
    TRY(cli_open_database(cli));
    TRY(cli_find_tenant(cli, NULL, &tenant, NULL));
    return make_plans(cli, tenant);
}

static int run_samples(struct cli *cli, int64_t timeout_s, bool json)
{
    struct forged forged[EVENTS] = {0};
    size_t finished = 0;
    struct err err = prepare(cli);
    if (!err_failed(&err))
        err = send_and_wait(cli, forged, timeout_s, &finished);
    if (!err_failed(&err))
        err = ask_outcomes(cli, forged);
    for (size_t i = 0; i < EVENTS; i++)
        buf_close(&forged[i].bytes);
    if (err_failed(&err))
        return cli_fail(&err);
    if (json)
        print_json(cli->pg);
    else
        print_people(cli->pg);
    return finished == EVENTS ? CLI_OK : report_unfinished(cli->pg, EVENTS - finished, timeout_s);
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option options[] = {{"timeout", required_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int64_t timeout_s = TIMEOUT_S;
    bool json = false;
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option == '?')
            return CLI_USAGE;
        json = json || option == 'j';
        if (option == 't' && !cli_parse_number(optarg, 1, TIMEOUT_MAX_S, &timeout_s))
            return cli_usage(words[0], "--timeout takes 1 to %d seconds", TIMEOUT_MAX_S);
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no arguments");
    return run_samples(cli, timeout_s, json);
}

const struct cli_command command_sample = {
    .name = "sample",
    .usage = "[--timeout SECONDS] [--json]",
    .purpose = "send sample events and show what becomes of each",
    .help =
        "Makes three sample plans unless they exist, sends signed events of all generations to\n"
        "ingest on this machine, good and odd ones, and waits until each has run its course.\n"
        "Exit 1, with a list, if some have not within the time [60]. For trying it out: the\n"
        "credits it grants are real rows.\n",
    .run = run,
};
