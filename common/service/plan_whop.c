#include "service/plan_whop.h"

#include "base/clock.h"
#include "service/audit.h"
#include "service/store.h"

#include <ctype.h>
#include <stdio.h>

enum { KEY_SIZE = 160 };

const char *plan_request_kind_name(enum plan_request_kind kind)
{
    static const char *const names[] = {"create", "update", "retire"};
    REQUIRE((size_t)kind < ARRAY_LEN(names));
    return names[kind];
}

/* --- what is refused at once ------------------------------------------------------------------ */

struct err plan_whop_check_name(const char *name)
{
    size_t characters = 0;
    bool blank = true;
    for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++) {
        if (iscntrl(*c))
            return err_make(ERR_USAGE, "a plan's name has no control characters");
        blank = blank && *c == ' ';
        characters += (*c & 0xc0U) != 0x80U; /* of UTF-8 each begins with one that continues none */
    }
    if (blank)
        return err_make(ERR_USAGE, "a plan's name is not empty");
    if (characters > PLAN_TITLE_MAX)
        return err_make(ERR_USAGE,
                        "the name has %zu characters: Whop's plans have a title of %d at most",
                        characters, PLAN_TITLE_MAX);
    return ERR_NONE;
}

static struct err check_id(const char *request)
{
    size_t len = strlen(request);
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)request[i]))
            return err_make(ERR_USAGE, "a request's id has printable characters and no spaces");
    return len > 0 && len <= PLAN_REQUEST_MAX
               ? ERR_NONE
               : err_make(ERR_USAGE, "a request's id has 1 to %d characters", PLAN_REQUEST_MAX);
}

static struct err check(const struct plan_request *request)
{
    const struct plan *plan = &request->plan;
    TRY(check_id(request->request));
    if (plan->name != NULL)
        TRY(plan_whop_check_name(plan->name));
    if (request->trial_days > 0 && request->period_days == 0)
        return err_make(ERR_USAGE, "a trial belongs to a plan with a period");
    REQUIRE((request->kind == PLAN_REQUEST_CREATE) == (plan->id == NULL));
    return ERR_NONE;
}

/* --- asking ---------------------------------------------------------------------------------- */

static struct err add_job(struct pg *pg, const struct plan_request *request, const char *id)
{
    const struct plan_call payload = {.request = request->request};
    struct buf packed = {0};
    int64_t rebuilds;
    char key[KEY_SIZE];
    struct err err = payload_encode(PAYLOAD_plan_call, &payload, &packed);
    snprintf(key, sizeof key, "%lld/%s", (long long)request->tenant, request->request);
    struct outgoing job = {.kind = JOB_credits_plan,
                           .tenant = request->tenant,
                           .key = key,
                           .event_id = "",
                           .trace = request->plan.id != NULL ? request->plan.id : request->request,
                           .occurred_ms = clock_wall_ms(),
                           .created_ms = clock_wall_ms(),
                           .version = job_type(JOB_credits_plan)->version,
                           .payload = buf_span(&packed)};
    snprintf(job.id, sizeof job.id, "%s", id);
    if (!err_failed(&err))
        err = store_insert_jobs(pg, &job, 1, &rebuilds);
    buf_close(&packed);
    return err;
}

static struct pg_param number_or_null(int64_t number, int64_t none)
{
    return number > none ? pg_integer(number) : pg_text(NULL);
}

enum { PARAMS = 15 };
#define TERMS                                                                                      \
    "kind, whop_product_id, period_days, trial_days, visibility, plan_name, pack_id,"              \
    " credits_amount, price_cents, currency, credits_when_free, proration_rule"

static void bind_terms(const struct plan_request *request, struct pg_param out[PARAMS])
{
    const struct plan *plan = &request->plan;
    out[0] = pg_integer(request->tenant);
    out[1] = pg_text(request->request);
    out[2] = pg_text(plan->id);
    out[3] = pg_text(plan_request_kind_name(request->kind));
    out[4] = pg_text(plan->product);
    out[5] = number_or_null(request->period_days, 0);
    out[6] = number_or_null(request->trial_days, 0);
    out[7] = pg_text(request->visibility);
    out[8] = pg_text(plan->name);
    out[9] = pg_text(plan->pack);
    out[10] = number_or_null(plan->credits, -1);
    out[11] = number_or_null(plan->price_minor, -1);
    out[12] = pg_text(plan->currency);
    out[13] = plan->if_free == PLAN_KEEP ? pg_text(NULL) : pg_flag(plan->if_free == PLAN_YES);
    out[14] = pg_text(plan->proration);
}

static struct err find_known(struct pg *pg, const struct plan_request *request, bool *known)
{
    struct pg_param params[PARAMS];
    bind_terms(request, params);
    TRY(pg_exec(pg,
                "SELECT (" TERMS ") IS NOT DISTINCT FROM ($4::text, $5::text, $6::integer,"
                " $7::integer, $8::text, $9::text, $10::text, $11::integer, $12::bigint,"
                " lower($13::text), $14::boolean, $15::text)"
                " AND (kind = 'create' OR whop_plan_id = $3::text)"
                " FROM whop_plan_requests WHERE tenant_id = $1 AND request_id = $2",
                params, PARAMS));
    *known = pg_rows(pg) == 1;
    if (!*known || pg_get_flag(pg, 0, 0))
        return ERR_NONE;
    return err_make(ERR_REFUSED,
                    "request %.60s was made with other terms: see whopline credits plans requests,"
                    " or take another id",
                    request->request);
}

static struct err check_alone(struct pg *pg, const struct plan_request *request)
{
    TRY(PG_EXEC(pg,
                "SELECT request_id FROM whop_plan_requests WHERE tenant_id = $1"
                " AND whop_plan_id = $2 AND state = 'requested'",
                pg_integer(request->tenant), pg_text(request->plan.id)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    return err_make(ERR_REFUSED,
                    "request %.60s for this plan is under way: wait for its end, or see whopline"
                    " credits plans requests",
                    pg_get(pg, 0, 0));
}

/* What is changed here in the end could be changed now. */
static struct err try_update(struct pg *pg, const struct plan_request *request)
{
    enum plan_result result;
    TRY(pg_exec(pg, "SAVEPOINT tried", NULL, 0));
    TRY(plan_update(pg, request->tenant, &request->plan, &result));
    return pg_exec(pg, "ROLLBACK TO SAVEPOINT tried", NULL, 0);
}

static struct err check_is_ours(struct pg *pg, const struct plan_request *request)
{
    TRY(PG_EXEC(pg, "SELECT FROM whop_plans WHERE tenant_id = $1 AND whop_plan_id = $2 LIMIT 1",
                pg_integer(request->tenant), pg_text(request->plan.id)));
    return pg_rows(pg) == 1 ? ERR_NONE
                            : err_make(ERR_NOT_FOUND,
                                       "no plan %.60s is known here: see whopline"
                                       " credits plans",
                                       request->plan.id);
}

static struct err check_here(struct pg *pg, const struct plan_request *request)
{
    if (request->kind == PLAN_REQUEST_CREATE)
        return plan_check_new(pg, request->tenant, &request->plan);
    TRY(check_alone(pg, request));
    return request->kind == PLAN_REQUEST_UPDATE ? try_update(pg, request)
                                                : check_is_ours(pg, request);
}

static struct err insert(struct pg *pg, const struct plan_request *request)
{
    struct pg_param params[PARAMS + 3];
    char job[UUID_TEXT_SIZE];
    random_uuid(job);
    bind_terms(request, params);
    params[PARAMS] = pg_text(job);
    params[PARAMS + 1] = pg_text(request->actor);
    params[PARAMS + 2] = pg_text(request->reason);
    TRY(pg_exec(pg,
                "INSERT INTO whop_plan_requests (tenant_id, request_id, whop_plan_id, " TERMS
                ", job_id, actor, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
                " $12, lower($13), $14, $15, $16, $17, $18)",
                params, PARAMS + 3));
    TRY(add_job(pg, request, job));
    static const char *const actions[] = {"plans.create", "plans.update_at_whop",
                                          "plans.retire_at_whop"};
    const struct audit audit = {.actor = request->actor,
                                .action = actions[request->kind],
                                .target = request->request,
                                .reason = request->reason};
    return audit_add(pg, &audit);
}

static struct err ask(struct pg *pg, const struct plan_request *request, bool *is_new)
{
    bool known;
    /* Changes of a tenant's plans take turns, and so do requests for them. */
    TRY(PG_EXEC(pg, "SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE",
                pg_integer(request->tenant)));
    TRY(find_known(pg, request, &known));
    *is_new = !known;
    if (known)
        return ERR_NONE;
    TRY(check_here(pg, request));
    return insert(pg, request);
}

/* Ends the transaction that the caller has begun, either way. */
static struct err conclude(struct pg *pg, struct err err)
{
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

struct err plan_whop_ask(struct pg *pg, const struct plan_request *request, bool *is_new)
{
    *is_new = false;
    TRY(check(request));
    TRY(pg_begin(pg));
    return conclude(pg, ask(pg, request, is_new));
}

/* --- dropping -------------------------------------------------------------------------------- */

/* Held until the end: whoever puts it in again waits, and then it finds the request dropped. */
static struct err check_rests(struct pg *pg, const char *request, const char *job)
{
    TRY(PG_EXEC(pg, "SELECT state FROM jobs WHERE id = $1::uuid FOR SHARE", pg_text(job)));
    if (pg_rows(pg) == 1 && strcmp(pg_get(pg, 0, 0), "queued") == 0)
        return err_make(ERR_REFUSED, "request %.60s is under way: wait for its end", request);
    return ERR_NONE;
}

static struct err check_not_asked(struct pg *pg, int64_t tenant, const char *request)
{
    TRY(PG_EXEC(pg,
                "SELECT FROM outbound WHERE tenant_id = $1 AND business_key = 'plan:' || $2::text"
                " AND operation IN ('plans.create', 'plans.update')"
                " AND state NOT IN ('pending', 'refused')",
                pg_integer(tenant), pg_text(request)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    return err_make(ERR_REFUSED,
                    "Whop was asked for it, so it may be there: see whopline outbound ls; once that"
                    " is settled, whopline jobs requeue goes on with request %.40s",
                    request);
}

static struct err drop(struct pg *pg, int64_t tenant, const char *request, const char *actor,
                       const char *reason)
{
    char job[UUID_TEXT_SIZE];
    TRY(PG_EXEC(pg,
                "SELECT id, state, job_id FROM whop_plan_requests"
                " WHERE tenant_id = $1 AND request_id = $2 FOR NO KEY UPDATE",
                pg_integer(tenant), pg_text(request)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no request %.60s for a plan", request);
    if (strcmp(pg_get(pg, 0, 1), "requested") != 0)
        return err_make(ERR_REFUSED, "request %.60s is %.20s already", request, pg_get(pg, 0, 1));
    int64_t id = pg_get_integer(pg, 0, 0);
    snprintf(job, sizeof job, "%s", pg_get(pg, 0, 2));
    TRY(check_rests(pg, request, job));
    TRY(check_not_asked(pg, tenant, request));
    TRY(PG_EXEC(pg,
                "UPDATE whop_plan_requests SET state = 'dropped', answer = $2,"
                " ended_at = whopline_now() WHERE id = $1",
                pg_integer(id), pg_text(reason)));
    const struct audit audit = {
        .actor = actor, .action = "plans.drop", .target = request, .reason = reason};
    return audit_add(pg, &audit);
}

struct err plan_whop_drop(struct pg *pg, int64_t tenant, const char *request, const char *actor,
                          const char *reason)
{
    TRY(pg_begin(pg));
    return conclude(pg, drop(pg, tenant, request, actor, reason));
}
