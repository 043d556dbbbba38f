#include "service/order_whop.h"

#include "codec/json.h"
#include "codec/money.h"
#include "service/credits.h"
#include "service/outbound.h"
#include "service/payments.h"
#include "service/whop_effects.h"
#include "service/whop_news.h"

#include <stdio.h>

#define ACTOR "whopline-credits"

/* How far Whop's clock and ours may be apart where something is looked for by its time. */
enum { CLOCKS_APART_MS = 120000, KEY_SIZE = 160 };

/* What a call and its looking back share. */
struct calling {
    const struct order_work *work;
    struct tenant_whop client;
    const char *id; /* the order's, or the payment's */
    const char *amount;
};

static struct err open_client(struct calling *calling, const struct order_work *work)
{
    calling->work = work;
    return tenant_whop_open(&calling->client, work->pg, work->outside, work->arena,
                            work->job->tenant, CREDENTIAL_FOR_WORK);
}

/* What a refusal says, in Whop's words. */
static const char *read_refusal(const struct order_work *work, const struct outbound_result *result,
                                const struct err *err)
{
    struct whop_problem problem;
    whop_read_problem(buf_span(&result->body), &problem);
    if (text_is_empty(problem.message))
        return arena_strdup(work->arena, err_text(err));
    return arena_printf(work->arena, "Whop says (status %d): %s", result->status, problem.message);
}

/* --- a checkout ------------------------------------------------------------------------------ */

struct terms {
    const char *state;
    const char *plan; /* Whop's; "" for terms of the order's own */
    const char *name;
    const char *price;
    const char *currency;
    const char *credits;
};

static struct err load_terms(const struct order_work *work, const char *order, struct terms *out)
{
    struct pg *pg = work->pg;
    TRY(PG_EXEC(pg,
                "SELECT state, CASE WHEN own_price THEN '' ELSE COALESCE(whop_plan_id, '') END,"
                " plan_name, trim_scale(price)::text, currency, credits_amount::text"
                " FROM credit_orders WHERE id = credits_uuid($1) AND tenant_id = $2",
                pg_text(order), pg_integer(work->job->tenant)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %.60s", order);
    *out = (struct terms){
        .state = arena_strdup(work->arena, pg_get(pg, 0, 0)),
        .plan = arena_strdup(work->arena, pg_get(pg, 0, 1)),
        .name = arena_strdup(work->arena, pg_get(pg, 0, 2)),
        .price = arena_strdup(work->arena, pg_get(pg, 0, 3)),
        .currency = arena_strdup(work->arena, pg_get(pg, 0, 4)),
        .credits = arena_strdup(work->arena, pg_get(pg, 0, 5)),
    };
    return ERR_NONE;
}

static bool is_for(const struct whop_checkout *checkout, const char *order)
{
    static const char *const names[] = {"order_id"};
    const struct json_value *value = NULL;
    struct json_doc *doc = json_parse(span_of(checkout->metadata));
    struct arena scratch;
    arena_init(&scratch);
    bool same = doc != NULL && json_pick(json_root(doc), names, 1, &value) &&
                strcmp(json_text(value, &scratch, NULL), order) == 0;
    arena_close(&scratch);
    json_free(doc);
    return same;
}

/* Our order's id is in the metadata of its checkout, and of no other. */
static struct err find_checkout(void *data, const struct outbound_unknown *unknown,
                                enum outbound_finding *finding, struct buf *remote_id)
{
    struct calling *calling = data;
    char since[WHOP_TIME_SIZE];
    const struct whop_filter filters[] = {
        {"created_after", whop_time_text(unknown->since_ms - CLOCKS_APART_MS, since)}};
    struct whop_list list;
    struct whop_page page;
    whop_list(&list, &calling->client.whop, WHOP_OPERATION_checkouts_list, filters, 1, "");
    *finding = OUTBOUND_NOT_FOUND;
    do {
        TRY(whop_next_page(&list, &page));
        const struct whop_checkout *checkouts = page.items;
        for (size_t i = 0; i < page.count; i++) {
            if (!is_for(&checkouts[i], calling->id))
                continue;
            buf_add_text(remote_id, checkouts[i].id);
            *finding = OUTBOUND_FOUND;
            return ERR_NONE;
        }
    } while (page.more);
    return ERR_NONE;
}

/* The metadata is copied to the payment: that is how we know it again. */
static const char *write_metadata(struct arena *arena, const char *order, const char *credits)
{
    struct buf text = {0};
    struct json_writer writer = {.out = &text};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "order_id", order);
    json_put_text(&writer, "credits", credits);
    json_end_object(&writer);
    const char *copy = arena_strdup(arena, buf_text(&text));
    buf_close(&text);
    return copy;
}

static struct err prepare_checkout(struct calling *calling, const struct terms *terms,
                                   struct whop_call **out)
{
    const struct order_work *work = calling->work;
    const char *redirect = work->outside->config->checkout_redirect_url;
    const struct whop_plan_input own = {
        .plan_type = "one_time",
        .release_method = "buy_now",
        .visibility = "hidden",
        .currency = terms->currency,
        .initial_price = terms->price,
        .title = arena_printf(work->arena, "%.30s", terms->name),
    };
    bool has_plan = !text_is_empty(terms->plan);
    const struct whop_checkout_input input = {
        .plan = has_plan ? terms->plan : NULL,
        .inline_plan = has_plan ? NULL : &own,
        .new_plan = !has_plan,
        .redirect_url = text_is_empty(redirect) ? NULL : redirect,
        .metadata = write_metadata(work->arena, calling->id, terms->credits),
    };
    return whop_prepare_checkout(&calling->client.whop, &input, out);
}

static struct err keep_checkout(struct calling *calling, const char *id)
{
    struct pg *pg = calling->work->pg;
    struct whop_checkout checkout;
    TRY(whop_get_checkout(&calling->client.whop, id, &checkout));
    return PG_EXEC(pg, "SELECT credit_orders_open(credits_uuid($1), $2, $3, $4, $5)",
                   pg_text(calling->id), pg_text(checkout.id), pg_text(checkout.purchase_url),
                   pg_text(checkout.plan), pg_text(ACTOR));
}

/* Whop says no: there will be no checkout for this order as it is. */
static struct err give_up_checkout(const struct order_work *work, const char *order,
                                   const char *why)
{
    return PG_EXEC(work->pg,
                   "SELECT credit_orders_move(id, 'cancelled', NULL, $2, $3) FROM credit_orders"
                   " WHERE id = credits_uuid($1) AND state = 'created'",
                   pg_text(order), pg_text(ACTOR), pg_text(why));
}

static struct err call_checkout(struct calling *calling, const struct terms *terms,
                                const char **why)
{
    const struct order_work *work = calling->work;
    struct outbound_result result = {0};
    struct whop_call *call;
    char key[KEY_SIZE];
    TRY(prepare_checkout(calling, terms, &call));
    snprintf(key, sizeof key, "order:%s", calling->id);
    const struct outbound_call once = {
        .operation = OUTBOUND_OPERATION_checkout,
        .tenant = work->job->tenant,
        .business_key = key,
        .job = work->job->id,
        .target = call->target,
        .request = call->request,
        .verify = find_checkout,
        .read_id = whop_read_id,
        .read_wait = whop_read_wait,
        .data = calling,
    };
    struct err err = outbound_run(work->pg, work->outside, &once, &result);
    const char *id = arena_strdup(work->arena, buf_text(&result.remote_id));
    *why = err.code == ERR_CALL_REFUSED ? read_refusal(work, &result, &err) : "";
    outbound_result_close(&result);
    if (err.code == ERR_CALL_REFUSED)
        return give_up_checkout(work, calling->id, *why);
    TRY(err);
    return keep_checkout(calling, id);
}

struct err order_whop_make_checkout(const struct order_work *work, const char *order,
                                    const char **why)
{
    struct calling calling = {.id = order};
    struct terms terms = {.state = ""};
    *why = "";
    TRY(load_terms(work, order, &terms));
    if (strcmp(terms.state, "created") != 0) {
        *why = arena_printf(work->arena, "the order is %s", terms.state);
        return ERR_NONE;
    }
    TRY(open_client(&calling, work));
    return tenant_whop_close(&calling.client, call_checkout(&calling, &terms, why));
}

/* --- a refund -------------------------------------------------------------------------------- */

/* Before the first sending: what there is already is not what we are about to make. */
static struct err list_refunds(struct calling *calling, struct buf *ids)
{
    const struct whop_filter filters[] = {{"payment_id", calling->id}};
    struct whop_list list;
    struct whop_page page;
    whop_list(&list, &calling->client.whop, WHOP_OPERATION_refunds_list, filters, 1, "");
    do {
        TRY(whop_next_page(&list, &page));
        const struct whop_refund *refunds = page.items;
        for (size_t i = 0; i < page.count; i++)
            buf_printf(ids, "%s ", refunds[i].id);
    } while (page.more);
    return ERR_NONE;
}

static bool is_listed(const char *ids, const char *id)
{
    size_t len = strlen(id);
    for (const char *at = ids; (at = strstr(at, id)) != NULL; at += len)
        if ((at == ids || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

/* A refund of this payment that was not there before, of this amount, and nobody else's. */
static struct err find_refund(void *data, const struct outbound_unknown *unknown,
                              enum outbound_finding *finding, struct buf *remote_id)
{
    struct calling *calling = data;
    const struct whop_filter filters[] = {{"payment_id", calling->id}};
    struct whop_list list;
    struct whop_page page;
    bool taken = false;
    whop_list(&list, &calling->client.whop, WHOP_OPERATION_refunds_list, filters, 1, "");
    *finding = OUTBOUND_NOT_FOUND;
    do {
        TRY(whop_next_page(&list, &page));
        const struct whop_refund *refunds = page.items;
        for (size_t i = 0; i < page.count; i++) {
            bool same =
                calling->amount == NULL || money_is_equal(refunds[i].amount, calling->amount);
            if (!same || is_listed(unknown->seen_before, refunds[i].id))
                continue;
            TRY(outbound_is_adopted(calling->work->pg, unknown->tenant, OUTBOUND_OPERATION_refund,
                                    refunds[i].id, &taken));
            if (taken)
                continue;
            buf_add_text(remote_id, refunds[i].id);
            *finding = OUTBOUND_FOUND;
            return ERR_NONE;
        }
    } while (page.more);
    return ERR_NONE;
}

struct wanted {
    const char *state;
    const char *order;
    const char *payment;
    const char *amount; /* NULL: all that is left */
};

static struct err load_wanted(const struct order_work *work, const char *request,
                              struct wanted *out)
{
    struct pg *pg = work->pg;
    TRY(PG_EXEC(pg,
                "SELECT state, order_id, whop_payment_id, trim_scale(amount)::text"
                " FROM credit_refund_requests WHERE request_id = $1 AND tenant_id = $2",
                pg_text(request), pg_integer(work->job->tenant)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no request %.60s for a refund", request);
    *out = (struct wanted){
        .state = arena_strdup(work->arena, pg_get(pg, 0, 0)),
        .order = arena_strdup(work->arena, pg_get(pg, 0, 1)),
        .payment = arena_strdup(work->arena, pg_get(pg, 0, 2)),
        .amount = pg_is_null(pg, 0, 3) ? NULL : arena_strdup(work->arena, pg_get(pg, 0, 3)),
    };
    return ERR_NONE;
}

/* What Whop says of the payment and its refunds now, and what follows for the credits. */
static struct err note_state(struct calling *calling)
{
    const struct order_work *work = calling->work;
    const struct whop_filter filters[] = {{"payment_id", calling->id}};
    const struct credits_payment settled = {work->job->tenant, calling->id};
    struct credits_outcome outcome;
    struct whop_payment payment;
    struct whop_list list;
    struct whop_page page;
    struct event news;
    struct event *refunds = NULL;
    size_t count = 0;
    TRY(whop_get_payment(&calling->client.whop, calling->id, &payment));
    whop_list(&list, &calling->client.whop, WHOP_OPERATION_refunds_list, filters, 1, "");
    do {
        TRY(whop_next_page(&list, &page));
        const struct whop_refund *found = page.items;
        struct event *all = arena_alloc(work->arena, (count + page.count + 1) * sizeof *all);
        if (count > 0)
            memcpy(all, refunds, count * sizeof *all);
        refunds = all;
        for (size_t i = 0; i < page.count; i++)
            whop_news_of_refund(&found[i], work->arena, &refunds[count++]);
    } while (page.more);
    whop_news_of_payment(&payment, work->arena, &news);
    TRY(pg_begin(work->pg));
    const struct payment_news told = {work->job->tenant, &news};
    TRY(payments_note(work->pg, &told, 1));
    for (size_t i = 0; i < count; i++)
        TRY(payments_note_refund(work->pg, work->job->tenant, &refunds[i]));
    TRY(credits_settle(work->pg, work->arena, &settled, 1, ACTOR, work->figures, &outcome));
    return pg_commit(work->pg);
}

static struct err end_request(const struct order_work *work, const char *request, const char *state,
                              const char *answer)
{
    return PG_EXEC(work->pg,
                   "UPDATE credit_refund_requests SET state = $3, answer = NULLIF($4, ''),"
                   " ended_at = whopline_now()"
                   " WHERE request_id = $1 AND tenant_id = $2 AND state = 'requested'",
                   pg_text(request), pg_integer(work->job->tenant), pg_text(state),
                   pg_text(answer));
}

static struct err call_refund(struct calling *calling, const char *request, const char **why)
{
    const struct order_work *work = calling->work;
    struct outbound_result result = {0};
    struct buf seen = {0};
    struct whop_call *call;
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "refund:%s", request);
    TRY(whop_prepare_refund(&calling->client.whop, calling->id, calling->amount, &call));
    struct err err = list_refunds(calling, &seen);
    const char *before = arena_strdup(work->arena, buf_text(&seen));
    buf_close(&seen);
    TRY(err);
    const struct outbound_call once = {
        .operation = OUTBOUND_OPERATION_refund,
        .tenant = work->job->tenant,
        .business_key = key,
        .job = work->job->id,
        .seen_before = before,
        .target = call->target,
        .request = call->request,
        .verify = find_refund,
        .read_wait = whop_read_wait,
        .data = calling,
    };
    err = outbound_run(work->pg, work->outside, &once, &result);
    *why = err.code == ERR_CALL_REFUSED ? read_refusal(work, &result, &err) : "";
    outbound_result_close(&result);
    if (err.code == ERR_CALL_REFUSED)
        return end_request(work, request, "refused", *why);
    TRY(err);
    TRY(end_request(work, request, "sent", ""));
    return note_state(calling);
}

struct err order_whop_make_refund(const struct order_work *work, const char *request,
                                  const char **why)
{
    struct wanted wanted = {.state = ""};
    *why = "";
    TRY(load_wanted(work, request, &wanted));
    struct calling calling = {.id = wanted.payment, .amount = wanted.amount};
    if (strcmp(wanted.state, "refused") == 0)
        return ERR_NONE;
    TRY(open_client(&calling, work));
    return tenant_whop_close(&calling.client, call_refund(&calling, request, why));
}
