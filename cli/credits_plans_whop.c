/* `whopline credits plans create`, and update and retire with --at-whop: what is asked of Whop for
 * a plan. The credits worker does the asking; what is done here is the request, and waiting for
 * what comes of it. */
#include "cli/credits.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "cli/plan_words.h"

#include "base/clock.h"
#include "base/random.h"
#include "codec/json.h"

#include <stdio.h>
#include <time.h>

enum { WAIT_S = 20, WAIT_MAX_S = 600, LOOK_MS = 200, URL_SIZE = 400 };

/* --- waiting --------------------------------------------------------------------------------- */

/* How a request stands. */
struct standing {
    char state[16];
    char plan[80];
    char url[URL_SIZE];
    char answer[400];
    char job_state[16]; /* "" once it is deleted */
    char job_reason[120];
};

static void copy(struct cli *cli, size_t column, char *out, size_t size)
{
    snprintf(out, size, "%s", pg_get(cli->pg, 0, column));
}

static struct err look(struct cli *cli, const struct plan_request *request, struct standing *out)
{
    TRY(PG_EXEC(cli->pg,
                "SELECT r.state, r.whop_plan_id, r.purchase_url, r.answer, j.state, j.reason"
                " FROM whop_plan_requests r LEFT JOIN jobs j ON j.id = r.job_id"
                " WHERE r.tenant_id = $1 AND r.request_id = $2",
                pg_integer(request->tenant), pg_text(request->request)));
    if (pg_rows(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "request %.60s is gone", request->request);
    copy(cli, 0, out->state, sizeof out->state);
    copy(cli, 1, out->plan, sizeof out->plan);
    copy(cli, 2, out->url, sizeof out->url);
    copy(cli, 3, out->answer, sizeof out->answer);
    copy(cli, 4, out->job_state, sizeof out->job_state);
    copy(cli, 5, out->job_reason, sizeof out->job_reason);
    return ERR_NONE;
}

static bool is_open(const struct standing *standing)
{
    return strcmp(standing->state, "requested") == 0;
}

static bool is_stuck(const struct standing *standing)
{
    return is_open(standing) &&
           (strcmp(standing->job_state, "parked") == 0 || strcmp(standing->job_state, "dead") == 0);
}

static void pause_ms(int64_t ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* --- telling --------------------------------------------------------------------------------- */

static void print_json(const struct plan_request *request, const struct standing *standing)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "request_id", request->request);
    json_put_text(&writer, "kind", plan_request_kind_name(request->kind));
    json_put_text(&writer, "state", standing->state);
    json_put_text(&writer, "plan", standing->plan[0] != '\0' ? standing->plan : NULL);
    json_put_text(&writer, "purchase_url", standing->url[0] != '\0' ? standing->url : NULL);
    json_put_text(&writer, "answer", standing->answer);
    json_put_text(&writer, "waits_for", is_stuck(standing) ? standing->job_reason : NULL);
    json_end_object(&writer);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

static void print_done(const struct plan_request *request, const struct standing *standing)
{
    struct buf out = {0};
    switch (request->kind) {
    case PLAN_REQUEST_CREATE:
        buf_printf(&out, "%s is made at Whop and on sale here", standing->plan);
        break;
    case PLAN_REQUEST_UPDATE:
        buf_printf(&out, "%s is changed at Whop and here, from now on", standing->plan);
        break;
    case PLAN_REQUEST_RETIRE:
        buf_printf(&out,
                   "%s is archived at Whop and retired here: payments made from now on are"
                   " not credited by it",
                   standing->plan);
        break;
    }
    if (standing->url[0] != '\0')
        buf_printf(&out, ": %s", standing->url);
    printf("%s (request %s)\n", buf_text(&out), request->request);
    buf_close(&out);
}

static struct err conclude(const struct plan_request *request, const struct standing *standing,
                           bool json)
{
    bool done = strcmp(standing->state, "done") == 0;
    if (json)
        print_json(request, standing);
    else if (done && standing->answer[0] == '\0')
        print_done(request, standing);
    if (done && standing->answer[0] != '\0')
        return err_make(ERR_REFUSED, "%.60s: %.100s", standing->plan, standing->answer);
    if (done)
        return ERR_NONE;
    if (!is_open(standing))
        return err_make(ERR_REFUSED, "request %.40s is %.10s: %.110s", request->request,
                        standing->state, standing->answer);
    if (is_stuck(standing))
        return err_make(ERR_REFUSED, "request %.36s waits: %.96s; see plans requests",
                        request->request, standing->job_reason);
    if (!json)
        printf("request %s is made, Whop has not answered yet: whopline credits plans requests"
               " tells what comes of it (does whopline-credits run?)\n",
               request->request);
    return ERR_NONE;
}

/* Asks, and waits until it has an end, or will have none by itself, or it has been long enough. */
static struct err ask(struct cli *cli, const struct given *given, const struct plan_request *wish)
{
    char id[UUID_TEXT_SIZE];
    struct standing standing = {0};
    struct plan_request request = *wish;
    int64_t wait_s = WAIT_S;
    bool is_new;
    const char *reason = given_text(given, "reason");
    TRY(given_number(given, "wait", 0, WAIT_MAX_S, &wait_s));
    TRY(given_tenant(cli, given, &request.tenant, NULL));
    random_uuid(id);
    request.request = given_text(given, "request") != NULL ? given_text(given, "request") : id;
    request.actor = given_actor(cli, given);
    request.reason = reason != NULL ? reason : "";
    TRY(plan_whop_ask(cli->pg, &request, &is_new));
    int64_t until_ms = clock_mono_ms() + wait_s * 1000;
    for (;;) {
        TRY(look(cli, &request, &standing));
        if (!is_open(&standing) || is_stuck(&standing) || clock_mono_ms() >= until_ms)
            break;
        pause_ms(LOOK_MS);
    }
    return conclude(&request, &standing, given_flag(given, "json"));
}

/* --- the verbs ------------------------------------------------------------------------------- */

static struct err check_visibility(const char *text)
{
    static const char *const known[] = {"visible", "hidden", "quick_link"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(text, known[i]) == 0)
            return ERR_NONE;
    return err_make(ERR_USAGE, "visibility is visible, hidden or quick_link");
}

struct err credits_cmd_plans_create(struct cli *cli, const struct given *given)
{
    struct plan_request request = {.kind = PLAN_REQUEST_CREATE, .visibility = "visible"};
    const char *price;
    TRY(given_need(given, "product", &request.plan.product));
    TRY(given_need(given, "name", &request.plan.name));
    TRY(given_need(given, "price", &price));
    TRY(plan_words_terms(given, &request.plan));
    if (request.plan.credits < 0)
        return err_make(ERR_USAGE, "--credits is needed: what a payment is worth, 0 for none");
    if (strncmp(request.plan.product, "prod_", 5) != 0)
        return err_make(ERR_USAGE, "\"%.40s\" is no product of Whop's: prod_...",
                        request.plan.product);
    TRY(given_number(given, "period", 1, PLAN_DAYS_MAX, &request.period_days));
    TRY(given_number(given, "trial", 1, PLAN_DAYS_MAX, &request.trial_days));
    if (given_text(given, "visibility") != NULL)
        request.visibility = given_text(given, "visibility");
    TRY(check_visibility(request.visibility));
    if (request.plan.pack == NULL)
        request.plan.pack = "";
    return ask(cli, given, &request);
}

struct err credits_plans_update_at_whop(struct cli *cli, const struct given *given,
                                        const struct plan *plan)
{
    struct plan_request request = {.kind = PLAN_REQUEST_UPDATE, .plan = *plan};
    return ask(cli, given, &request);
}

struct err credits_plans_retire_at_whop(struct cli *cli, const struct given *given,
                                        const char *plan)
{
    struct plan_request request = {.kind = PLAN_REQUEST_RETIRE,
                                   .plan = {.id = plan, .credits = -1, .price_minor = -1}};
    return ask(cli, given, &request);
}

struct err credits_cmd_plans_drop(struct cli *cli, const struct given *given)
{
    int64_t tenant;
    const char *reason;
    TRY(given_need(given, "reason", &reason));
    TRY(given_tenant(cli, given, &tenant, NULL));
    TRY(plan_whop_drop(cli->pg, tenant, given->plain[0], given_actor(cli, given), reason));
    printf("request %s is dropped: nothing was made at Whop\n", given->plain[0]);
    return ERR_NONE;
}

/* --- the list -------------------------------------------------------------------------------- */

#define REQUESTS_FROM                                                                              \
    " FROM whop_plan_requests r JOIN tenants t ON t.id = r.tenant_id"                              \
    " LEFT JOIN jobs j ON j.id = r.job_id"                                                         \
    " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                           \
    " ORDER BY r.id DESC LIMIT 200"
#define REQUESTS_WAITS                                                                             \
    "CASE WHEN r.state = 'requested' AND j.state IN ('parked', 'dead') THEN j.reason END"

struct err credits_cmd_plans_requests(struct cli *cli, const struct given *given)
{
    static const char *const heads[] = {"REQUEST", "KIND", "PLAN",        "NAME",
                                        "STATE",   "WHY",  "SINCE (UTC)", "JOB"};
    const struct pg_param params[] = {pg_text(given_text(given, "tenant"))};
    struct table table;
    if (given_flag(given, "json"))
        return cli_print_json(cli,
                              "SELECT t.slug AS tenant, r.request_id, r.kind, r.state,"
                              " r.whop_plan_id AS plan, r.plan_name AS name, r.purchase_url,"
                              " r.answer, " REQUESTS_WAITS " AS waits_for, r.job_id AS job,"
                              " r.actor, r.reason, r.created_at, r.ended_at" REQUESTS_FROM,
                              params, 1);
    TRY(pg_exec(cli->pg,
                "SELECT r.request_id, r.kind, r.whop_plan_id, r.plan_name,"
                " CASE WHEN " REQUESTS_WAITS " IS NULL THEN r.state ELSE 'waits' END,"
                " coalesce(" REQUESTS_WAITS
                ", r.answer), " OUTCOME_UTC("r.created_at") ","
                                                            " CASE WHEN r.state = 'requested' THEN "
                                                            "r.job_id::text END" REQUESTS_FROM,
                params, 1));
    if (pg_rows(cli->pg) == 0) {
        printf("nothing has been asked of Whop for a plan\n");
        return ERR_NONE;
    }
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(cli->pg); row++)
        for (size_t column = 0; column < ARRAY_LEN(heads); column++)
            table_add(&table, pg_get(cli->pg, row, column));
    table_print(&table, "");
    buf_close(&table.text);
    return ERR_NONE;
}
