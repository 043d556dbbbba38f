/* The job credits.plan: what plan_whop.c was asked for is asked of Whop, and entered here. */
#include "service/plan_whop.h"

#include "codec/json.h"
#include "codec/money.h"
#include "service/audit.h"
#include "service/outbound.h"
#include "service/whop_effects.h"

#include <stdio.h>

/* How far Whop's clock and ours may be apart where something is looked for by its time. */
enum { CLOCKS_APART_MS = 120000, KEY_SIZE = 160 };

struct wanted {
    int64_t id;
    const char *state;
    const char *token;
    enum plan_request_kind kind;
    struct plan plan;
    int64_t period_days;
    int64_t trial_days;
    const char *visibility;
    const char *price; /* major units; NULL: none */
    int64_t asked_ms;
    const char *actor;
    const char *reason;
};

/* What a call and its looking back share. */
struct calling {
    const struct order_work *work;
    struct tenant_whop client;
    struct wanted wanted;
    const char *request;
    const char *note;          /* the new plan's internal notes */
    struct whop_plan_input at; /* UPDATE, RETIRE: what shall be at Whop */
};

/* --- what was asked for ----------------------------------------------------------------------- */

static const char *text_of(const struct order_work *work, size_t column)
{
    return pg_is_null(work->pg, 0, column) ? NULL
                                           : arena_strdup(work->arena, pg_get(work->pg, 0, column));
}

static int64_t number_of(const struct order_work *work, size_t column, int64_t none)
{
    return pg_is_null(work->pg, 0, column) ? none : pg_get_integer(work->pg, 0, column);
}

static enum plan_request_kind kind_of(const char *name)
{
    return strcmp(name, "create") == 0   ? PLAN_REQUEST_CREATE
           : strcmp(name, "update") == 0 ? PLAN_REQUEST_UPDATE
                                         : PLAN_REQUEST_RETIRE;
}

static void take_wanted(const struct order_work *work, struct wanted *out)
{
    struct pg *pg = work->pg;
    char price[MONEY_TEXT_SIZE];
    *out = (struct wanted){
        .id = pg_get_integer(pg, 0, 0),
        .state = arena_strdup(work->arena, pg_get(pg, 0, 1)),
        .token = arena_strdup(work->arena, pg_get(pg, 0, 2)),
        .kind = kind_of(pg_get(pg, 0, 3)),
        .plan = {.id = text_of(work, 4),
                 .product = text_of(work, 5),
                 .name = text_of(work, 9),
                 .pack = text_of(work, 10),
                 .credits = number_of(work, 11, -1),
                 .price_minor = number_of(work, 12, -1),
                 .currency = text_of(work, 13),
                 .if_free = pg_is_null(pg, 0, 14)    ? PLAN_KEEP
                            : pg_get_flag(pg, 0, 14) ? PLAN_YES
                                                     : PLAN_NO,
                 .proration = text_of(work, 15)},
        .period_days = number_of(work, 6, 0),
        .trial_days = number_of(work, 7, 0),
        .visibility = text_of(work, 8),
        .actor = text_of(work, 16),
        .reason = text_of(work, 17),
        .asked_ms = pg_get_integer(pg, 0, 18),
    };
    if (out->plan.price_minor < 0)
        return;
    money_format_minor(out->plan.price_minor, out->plan.currency, price);
    out->price = arena_strdup(work->arena, price);
}

static struct err load_wanted(const struct order_work *work, const char *request,
                              struct wanted *out)
{
    TRY(PG_EXEC(work->pg,
                "SELECT id, state, token, kind, whop_plan_id, whop_product_id, period_days,"
                " trial_days, visibility, plan_name, pack_id, credits_amount, price_cents,"
                " currency, credits_when_free, proration_rule, actor, reason,"
                " (extract(epoch FROM created_at) * 1000)::bigint"
                " FROM whop_plan_requests WHERE tenant_id = $1 AND request_id = $2",
                pg_integer(work->job->tenant), pg_text(request)));
    if (pg_rows(work->pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no request %.60s for a plan", request);
    take_wanted(work, out);
    return ERR_NONE;
}

/* --- the ends of a request -------------------------------------------------------------------- */

static struct err conclude(struct pg *pg, struct err err)
{
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

/* *mine: false if another run has ended it. */
static struct err end_request(struct calling *calling, const char *state, const char *plan,
                              const char *url, const char *answer, bool *mine)
{
    TRY(PG_EXEC(
        calling->work->pg,
        "UPDATE whop_plan_requests SET state = $2, whop_plan_id = coalesce($3, whop_plan_id),"
        " purchase_url = $4, answer = $5, ended_at = whopline_now()"
        " WHERE id = $1 AND state = 'requested'",
        pg_integer(calling->wanted.id), pg_text(state), pg_text(plan), pg_text_or_null(url),
        pg_text(answer)));
    *mine = pg_affected(calling->work->pg) == 1;
    return ERR_NONE;
}

static struct err refuse(struct calling *calling, const char *why)
{
    bool mine;
    return end_request(calling, "refused", NULL, "", why, &mine);
}

static struct err note_deed(struct calling *calling, const char *action, const char *plan)
{
    const struct wanted *wanted = &calling->wanted;
    const struct audit audit = {
        .actor = wanted->actor,
        .action = action,
        .target = plan,
        .reason = arena_printf(calling->work->arena, "request %s%s%s", calling->request,
                               text_is_empty(wanted->reason) ? "" : ": ", wanted->reason)};
    return audit_add(calling->work->pg, &audit);
}

static struct err change_here(struct calling *calling, const struct plan *plan)
{
    static const char *const actions[] = {"plans.add", "plans.update", "plans.retire"};
    const struct order_work *work = calling->work;
    enum plan_request_kind kind = calling->wanted.kind;
    enum plan_result result = PLAN_CHANGED;
    switch (kind) {
    case PLAN_REQUEST_CREATE: TRY(plan_put(work->pg, work->job->tenant, plan, &result)); break;
    case PLAN_REQUEST_UPDATE: TRY(plan_update(work->pg, work->job->tenant, plan, &result)); break;
    case PLAN_REQUEST_RETIRE: TRY(plan_retire(work->pg, work->job->tenant, plan->id)); break;
    }
    return result == PLAN_SAME ? ERR_NONE : note_deed(calling, actions[kind], plan->id);
}

static struct err enter(struct calling *calling, const struct plan *plan, const char *url,
                        const char *answer)
{
    bool mine;
    TRY(pg_begin(calling->work->pg));
    /* First the request, so that the pack it is promised is free for it. */
    struct err err = end_request(calling, "done", plan->id, url, answer, &mine);
    if (!err_failed(&err) && mine)
        err = change_here(calling, plan);
    return conclude(calling->work->pg, err);
}

/* The change at Whop stands; what cannot be done here any more is told. */
static struct err enter_rest(struct calling *calling, const char *url, const struct err *why)
{
    const struct order_work *work = calling->work;
    struct plan plan = calling->wanted.plan;
    bool mine;
    if (calling->wanted.kind == PLAN_REQUEST_CREATE) {
        plan.pack = "";
        return enter(calling, &plan, url,
                     arena_printf(work->arena, "entered without its pack: %s", err_text(why)));
    }
    if (calling->wanted.kind == PLAN_REQUEST_RETIRE)
        return end_request(calling, "done", plan.id, url, "", &mine); /* retired here already */
    return end_request(calling, "done", plan.id, url,
                       arena_printf(work->arena, "changed at Whop and not here: %s", err_text(why)),
                       &mine);
}

static struct err enter_all(struct calling *calling, const char *id, const char *url)
{
    struct plan *plan = &calling->wanted.plan;
    plan->id = id;
    struct err err = enter(calling, plan, url, "");
    return err_class_of(err.code) == ERR_CLASS_PERMANENT ? enter_rest(calling, url, &err) : err;
}

/* --- looking whether it has happened ---------------------------------------------------------- */

static bool is_made_for(const struct whop_plan *plan, const struct calling *calling)
{
    static const char *const names[] = {"whopline_request"};
    const struct json_value *value = NULL;
    struct json_doc *doc = json_parse(span_of(plan->metadata));
    struct arena scratch;
    arena_init(&scratch);
    bool same = doc != NULL && json_pick(json_root(doc), names, 1, &value) &&
                strcmp(json_text(value, &scratch, NULL), calling->wanted.token) == 0;
    arena_close(&scratch);
    json_free(doc);
    return same || strcmp(plan->internal_notes, calling->note) == 0;
}

/* The request's token is in the metadata of its plan, and of no other. */
static struct err find_created(void *data, const struct outbound_unknown *unknown,
                               enum outbound_finding *finding, struct buf *remote_id)
{
    struct calling *calling = data;
    char since[WHOP_TIME_SIZE];
    const struct whop_filter filters[] = {
        {"product_ids[]", calling->wanted.plan.product},
        {"created_after", whop_time_text(unknown->since_ms - CLOCKS_APART_MS, since)}};
    struct whop_list list;
    struct whop_page page;
    whop_list(&list, &calling->client.whop, WHOP_OPERATION_plans_list, filters, 2, "");
    *finding = OUTBOUND_NOT_FOUND;
    do {
        TRY(whop_next_page(&list, &page));
        const struct whop_plan *plans = page.items;
        for (size_t i = 0; i < page.count; i++) {
            if (!is_made_for(&plans[i], calling))
                continue;
            buf_add_text(remote_id, plans[i].id);
            *finding = OUTBOUND_FOUND;
            return ERR_NONE;
        }
    } while (page.more);
    return ERR_NONE;
}

static bool is_as(const char *wished, const char *is)
{
    return wished == NULL || strcmp(wished, is) == 0;
}

static bool is_priced(const char *wished, const char *is)
{
    return wished == NULL || money_is_equal(wished, is);
}

/* A change so old that it is not simply said again: is it as it was to be? */
static struct err find_changed(void *data, const struct outbound_unknown *unknown,
                               enum outbound_finding *finding, struct buf *remote_id)
{
    struct calling *calling = data;
    const struct whop_plan_input *at = &calling->at;
    struct whop_plan plan;
    (void)unknown;
    TRY(whop_get_plan(&calling->client.whop, calling->wanted.plan.id, &plan));
    bool same = is_as(at->title, plan.title) && is_as(at->visibility, plan.visibility) &&
                is_as(at->currency, plan.currency) &&
                is_priced(at->initial_price, plan.initial_price) &&
                is_priced(at->renewal_price, plan.renewal_price);
    *finding = same ? OUTBOUND_FOUND : OUTBOUND_NOT_FOUND;
    if (same)
        buf_add_text(remote_id, plan.id);
    return ERR_NONE;
}

/* --- the call ----------------------------------------------------------------------------------
 */

/* What Whop's reference prints; an answer that says less is no help to whoever has to grant it. */
static struct err explain(struct err err, const struct outbound_call *call)
{
    bool creates = call->operation == OUTBOUND_OPERATION_plan_create;
    if (err.code != ERR_FORBIDDEN)
        return err;
    return err_make(ERR_FORBIDDEN,
                    "403: the credential needs %s, plan:basic:read and"
                    " access_pass:basic:read",
                    creates ? "plan:create" : "plan:update");
}

/* *refused: why Whop says no, in its words; NULL otherwise. */
static struct err run(struct calling *calling, struct whop_call *prepared,
                      struct outbound_call *call, struct whop_plan *made, const char **refused)
{
    const struct order_work *work = calling->work;
    struct outbound_result result = {0};
    struct whop_problem problem;
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "plan:%s", calling->request);
    call->tenant = work->job->tenant;
    call->business_key = key;
    call->job = work->job->id;
    call->target = prepared->target;
    call->request = prepared->request;
    call->read_wait = whop_read_wait;
    call->data = calling;
    *refused = NULL;
    *made = (struct whop_plan){.id = "", .purchase_url = ""};
    struct err err = outbound_run(work->pg, work->outside, call, &result);
    if (err.code == ERR_CALL_REFUSED) {
        whop_read_problem(buf_span(&result.body), &problem);
        *refused = text_is_empty(problem.message)
                       ? arena_strdup(work->arena, err_text(&err))
                       : arena_printf(work->arena, "Whop says (status %d): %s", result.status,
                                      problem.message);
    } else if (!err_failed(&err)) {
        /* One that was found, or whose answer is no plan, has its id alone. */
        struct err odd = whop_read(WHOP_OBJECT_plan, buf_span(&result.body), work->arena, made);
        if (err_failed(&odd))
            *made = (struct whop_plan){.id = "", .purchase_url = ""};
        made->id = arena_strdup(work->arena, buf_text(&result.remote_id));
    }
    outbound_result_close(&result);
    return explain(err, call);
}

/* The address is good to have: without it the plan is no less there. */
static const char *find_url(struct calling *calling, const struct whop_plan *made)
{
    struct whop_plan plan;
    if (!text_is_empty(made->purchase_url))
        return made->purchase_url;
    struct err err = whop_get_plan(&calling->client.whop, made->id, &plan);
    return err_failed(&err) ? "" : plan.purchase_url;
}

static const char *write_metadata(struct arena *arena, const char *token)
{
    struct buf text = {0};
    struct json_writer writer = {.out = &text};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "whopline_request", token);
    json_end_object(&writer);
    const char *copy = arena_strdup(arena, buf_text(&text));
    buf_close(&text);
    return copy;
}

/* Answered with a 2xx that names nothing: it is made, and the list has it, or will have. */
static struct err find_unnamed(struct calling *calling, struct whop_plan *made)
{
    const struct outbound_unknown unknown = {.since_ms = calling->wanted.asked_ms};
    enum outbound_finding finding;
    struct buf id = {0};
    if (!text_is_empty(made->id))
        return ERR_NONE;
    struct err err = find_created(calling, &unknown, &finding, &id);
    made->id = arena_strdup(calling->work->arena, buf_text(&id));
    buf_close(&id);
    TRY(err);
    return finding == OUTBOUND_FOUND
               ? ERR_NONE
               : err_make(ERR_WHOP_NOT_FOUND, "Whop has made the plan without saying its id, and"
                                              " its list does not show it");
}

static struct err call_create(struct calling *calling, const char **why)
{
    const struct wanted *wanted = &calling->wanted;
    struct arena *arena = calling->work->arena;
    struct whop_call *prepared;
    struct whop_plan made;
    bool renews = wanted->period_days > 0;
    calling->note = arena_printf(arena, "whopline request %s", wanted->token);
    const struct whop_plan_input input = {
        .product = wanted->plan.product,
        .plan_type = renews ? "renewal" : "one_time",
        .release_method = "buy_now",
        .visibility = wanted->visibility,
        .currency = wanted->plan.currency,
        .initial_price = renews ? NULL : wanted->price,
        .renewal_price = renews ? wanted->price : NULL,
        .billing_period_days = wanted->period_days,
        .trial_days = wanted->trial_days,
        .title = wanted->plan.name,
        .internal_notes = calling->note,
        .metadata = write_metadata(arena, wanted->token),
    };
    TRY(whop_prepare_plan(&calling->client.whop, &input, &prepared));
    struct outbound_call call = {.operation = OUTBOUND_OPERATION_plan_create,
                                 .verify = find_created,
                                 .read_id = whop_read_id};
    struct err err = run(calling, prepared, &call, &made, why);
    if (err.code == ERR_CALL_REFUSED)
        return refuse(calling, *why);
    TRY(err);
    TRY(find_unnamed(calling, &made));
    return enter_all(calling, made.id, find_url(calling, &made));
}

/* What is to be at Whop. A plan that renews costs its renewal's price, any other its first one. */
static struct err fill_change(struct calling *calling, const char **refused)
{
    const struct wanted *wanted = &calling->wanted;
    struct whop_plan plan;
    *refused = NULL;
    if (wanted->kind == PLAN_REQUEST_RETIRE) {
        calling->at = (struct whop_plan_input){.visibility = "archived"};
        return ERR_NONE;
    }
    calling->at = (struct whop_plan_input){.title = wanted->plan.name};
    if (wanted->price == NULL)
        return ERR_NONE;
    struct err err = whop_get_plan(&calling->client.whop, wanted->plan.id, &plan);
    if (err.code == ERR_WHOP_NOT_FOUND || err.code == ERR_WHOP_API) {
        *refused = arena_printf(calling->work->arena, "Whop says: %s", err_text(&err));
        return ERR_NONE;
    }
    TRY(err);
    calling->at.currency = wanted->plan.currency;
    if (strcmp(plan.plan_type, "renewal") == 0)
        calling->at.renewal_price = wanted->price;
    else
        calling->at.initial_price = wanted->price;
    return ERR_NONE;
}

static struct err call_change(struct calling *calling, const char **why)
{
    const char *id = calling->wanted.plan.id;
    struct whop_call *prepared;
    struct whop_plan made;
    TRY(fill_change(calling, why));
    if (*why != NULL)
        return refuse(calling, *why);
    TRY(whop_prepare_plan_change(&calling->client.whop, id, &calling->at, &prepared));
    struct outbound_call call = {.operation = OUTBOUND_OPERATION_plan_update,
                                 .verify = find_changed};
    struct err err = run(calling, prepared, &call, &made, why);
    if (err.code == ERR_CALL_REFUSED)
        return refuse(calling, *why);
    TRY(err);
    return enter_all(calling, id, "");
}

struct err plan_whop_work(const struct order_work *work, const char *request, const char **why)
{
    struct calling calling = {.work = work, .request = request, .wanted = {.state = ""}};
    *why = "";
    TRY(load_wanted(work, request, &calling.wanted));
    if (strcmp(calling.wanted.state, "requested") != 0) {
        *why = arena_printf(work->arena, "the request is %s", calling.wanted.state);
        return ERR_NONE;
    }
    TRY(tenant_whop_open(&calling.client, work->pg, work->outside, work->arena, work->job->tenant,
                         CREDENTIAL_FOR_WORK));
    bool creates = calling.wanted.kind == PLAN_REQUEST_CREATE;
    struct err err = creates ? call_create(&calling, why) : call_change(&calling, why);
    if (*why == NULL)
        *why = "";
    return tenant_whop_close(&calling.client, err);
}
