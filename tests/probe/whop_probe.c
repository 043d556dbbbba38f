/* whopline-whop-probe OPERATION [ID...] [NAME=VALUE...]: one call of service/whop, for
 * tests/integration/test_whop.py.
 *
 * What came of it is JSON, an object a line: each thing that was read, {"page": next} after each
 * page of a list, or {"error": ...}. NAME=VALUE are a list's filters, or what a call with effect is
 * made of; after=CURSOR and pages=N say where a list begins and ends. Such a call is sent once,
 * without service/outbound, with the key of idempotency=KEY.
 *
 * The token is PROBE_TOKEN; PROBE_NEW_TOKEN is what renewing gives, if it is set. */
#include "base/config.h"
#include "base/log.h"
#include "codec/json.h"
#include "service/outside_local.h"
#include "service/outside_shared.h"
#include "service/scripts.h"
#include "service/whop.h"
#include "service/whop_effects.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { REDIS_TIMEOUT_MS = 5000, IDS = 2 };

struct probe {
    struct whop whop;
    enum whop_operation operation;
    const char *ids[IDS];
    size_t id_count;
    struct whop_filter filters[WHOP_FILTERS_MAX];
    size_t filter_count;
};

static void show(struct buf *line)
{
    puts(buf_text(line));
    buf_close(line);
}

static void show_object(enum whop_object object, const void *it)
{
    struct buf line = {0};
    whop_write(object, it, &line);
    show(&line);
}

static void show_error(const struct err *err)
{
    struct buf line = {0};
    struct json_writer writer = {.out = &line};
    json_begin_object(&writer, NULL);
    json_put_text(&writer, "error", err_name(err->code));
    json_put_text(&writer, "class", err_class_name(err_class_of(err->code)));
    json_put_text(&writer, "text", err_text(err));
    json_put_integer(&writer, "after_ms", err->after_ms);
    json_end_object(&writer);
    show(&line);
}

/* The value of NAME=VALUE, which is no filter then; NULL: not said. */
static const char *take(struct probe *probe, const char *name)
{
    for (size_t i = 0; i < probe->filter_count; i++) {
        if (strcmp(probe->filters[i].name, name) != 0)
            continue;
        const char *value = probe->filters[i].value;
        probe->filters[i] = probe->filters[--probe->filter_count];
        return value;
    }
    return NULL;
}

static struct err renew(void *data, struct whop *whop)
{
    (void)data;
    whop->token = getenv("PROBE_NEW_TOKEN");
    return ERR_NONE;
}

static struct err list(struct probe *probe)
{
    struct whop_list list;
    struct whop_page page = {.more = true};
    const char *after = take(probe, "after");
    const char *pages = take(probe, "pages");
    long left = pages != NULL ? strtol(pages, NULL, 10) : -1;
    enum whop_object object = whop_operation_object(probe->operation);
    whop_list(&list, &probe->whop, probe->operation, probe->filters, probe->filter_count,
              after != NULL ? after : "");
    for (; page.more && left != 0; left--) {
        TRY(whop_next_page(&list, &page));
        switch (object) {
#define WHOP_OBJECT(name)                                                                          \
    case WHOP_OBJECT_##name:                                                                       \
        for (size_t i = 0; i < page.count; i++)                                                    \
            show_object(object, (const struct whop_##name *)page.items + i);                       \
        break;
#define WHOP_FIELD(name, sort, member, ...)
#define WHOP_END(name)
#define WHOP_OPERATION(name, text, result, method, path)
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION
        case WHOP_OBJECT_COUNT: break;
        }
        printf("{\"page\": \"%s\"}\n", page.next);
    }
    return ERR_NONE;
}

static struct err get(struct probe *probe)
{
    struct whop *whop = &probe->whop;
    const char *id = probe->ids[0];
    switch (probe->operation) {
#define GET(name, getter, object)                                                                  \
    case WHOP_OPERATION_##name: {                                                                  \
        struct whop_##object it;                                                                   \
        TRY(getter(whop, id, &it));                                                                \
        show_object(WHOP_OBJECT_##object, &it);                                                    \
        return ERR_NONE;                                                                           \
    }
        GET(companies_get, whop_get_company, company)
        GET(products_get, whop_get_product, product)
        GET(plans_get, whop_get_plan, plan)
        GET(users_get, whop_get_user, user)
        GET(members_get, whop_get_member, member)
        GET(memberships_get, whop_get_membership, membership)
        GET(payments_get, whop_get_payment, payment)
        GET(refunds_get, whop_get_refund, refund)
        GET(disputes_get, whop_get_dispute, dispute)
        GET(checkouts_get, whop_get_checkout, checkout)
#undef GET
    case WHOP_OPERATION_users_access: {
        struct whop_access it;
        TRY(whop_get_access(whop, id, probe->ids[1], &it));
        show_object(WHOP_OBJECT_access, &it);
        return ERR_NONE;
    }
    case WHOP_OPERATION_oauth_token: {
        struct whop_grant grant = {take(probe, "client_id"), take(probe, "client_secret"), id};
        struct whop_tokens it;
        TRY(whop_refresh_tokens(whop, &grant, &it));
        show_object(WHOP_OBJECT_tokens, &it);
        return ERR_NONE;
    }
    default:
        return err_make(ERR_USAGE, "%s is not for this", whop_operation_text(probe->operation));
    }
}

static struct err prepare(struct probe *probe, struct whop_call **out)
{
    struct whop_plan_input plan = {.product = take(probe, "product"),
                                   .plan_type = take(probe, "plan_type"),
                                   .initial_price = take(probe, "initial_price"),
                                   .title = take(probe, "title"),
                                   .metadata = take(probe, "metadata")};
    struct whop_checkout_input checkout = {.plan = take(probe, "plan"), .metadata = plan.metadata};
    switch (probe->operation) {
    case WHOP_OPERATION_plans_create: return whop_prepare_plan(&probe->whop, &plan, out);
    case WHOP_OPERATION_plans_update:
        return whop_prepare_plan_change(&probe->whop, probe->ids[0], &plan, out);
    case WHOP_OPERATION_payments_refund:
        return whop_prepare_refund(&probe->whop, probe->ids[0], take(probe, "amount"), out);
    default:
        checkout.inline_plan = checkout.plan == NULL ? &plan : NULL;
        return whop_prepare_checkout(&probe->whop, &checkout, out);
    }
}

static void show_sent(struct http_response *response)
{
    struct buf line = {0};
    struct buf id = {0};
    struct json_writer writer = {.out = &line};
    whop_read_id(NULL, buf_span(&response->body), &id);
    json_begin_object(&writer, NULL);
    json_put_integer(&writer, "outcome", (int64_t)response->outcome);
    json_put_integer(&writer, "status", response->status);
    json_put_flag(&writer, "replayed", response->replayed);
    json_put_text(&writer, "id", buf_text(&id));
    json_put_integer(&writer, "wait_ms", whop_read_wait(NULL, buf_span(&response->body)));
    json_end_object(&writer);
    show(&line);
    buf_close(&id);
    buf_close(&response->body);
}

static struct err send_once(struct probe *probe)
{
    struct whop_call *call = NULL;
    struct http_response response = {0};
    const char *key = take(probe, "idempotency");
    TRY(prepare(probe, &call));
    if (key != NULL) {
        const char **headers = arena_alloc(probe->whop.arena, sizeof *headers * 8);
        memcpy(headers, call->headers, sizeof *headers * call->request.header_count);
        headers[call->request.header_count++] =
            arena_printf(probe->whop.arena, "Idempotency-Key: %s", key);
        call->request.headers = headers;
    }
    TRY(outside_call(probe->whop.outside, &call->target, &call->request, &response));
    show_sent(&response);
    return ERR_NONE;
}

static struct err run(struct probe *probe)
{
    const char *text = whop_operation_text(probe->operation);
    if (strcmp(strchr(text, '.'), ".list") == 0)
        return list(probe);
    bool effect = strcmp(whop_operation_method(probe->operation), "GET") != 0 &&
                  probe->operation != WHOP_OPERATION_oauth_token;
    return effect ? send_once(probe) : get(probe);
}

static bool parse(struct probe *probe, int argc, char **argv)
{
    int operation = 0;
    while (argc > 1 && operation < WHOP_OPERATION_COUNT &&
           strcmp(argv[1], whop_operation_text((enum whop_operation)operation)) != 0)
        operation++;
    if (argc < 2 || operation == WHOP_OPERATION_COUNT)
        return false;
    probe->operation = (enum whop_operation)operation;
    for (int i = 2; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals == NULL && probe->id_count < IDS)
            probe->ids[probe->id_count++] = argv[i];
        else if (equals != NULL && probe->filter_count < WHOP_FILTERS_MAX) {
            *equals = '\0';
            probe->filters[probe->filter_count++] = (struct whop_filter){argv[i], equals + 1};
        }
    }
    return true;
}

static void call_out(struct probe *probe, const struct config *config, uv_loop_t *loop,
                     struct redis *redis)
{
    struct outside_local local;
    struct arena arena;
    struct err err = outside_local_open(&local, config, loop, redis);
    if (err_failed(&err)) {
        show_error(&err);
        return;
    }
    arena_init(&arena);
    probe->whop.outside = &local.outside;
    probe->whop.arena = &arena;
    err = run(probe);
    if (err_failed(&err))
        show_error(&err);
    probe->whop.outside = NULL;
    probe->whop.arena = NULL;
    arena_close(&arena);
    outside_local_close(&local);
}

int main(int argc, char **argv)
{
    struct probe probe = {.whop = {.credential = "c1"}};
    struct config config;
    struct buf problems = {0};
    struct buf notes = {0};
    struct redis *redis = NULL;
    uv_loop_t loop;
    if (!parse(&probe, argc, argv)) {
        fprintf(stderr, "usage: %s OPERATION [ID...] [NAME=VALUE...]\n", argv[0]);
        return 2;
    }
    config_load(&config, CONFIG_CLI, config_getenv, NULL, &problems, &notes);
    log_init("whopline-whop-probe", LOG_LEVEL_DEBUG, LOG_FORMAT_LOGFMT);
    probe.whop.token = getenv("PROBE_TOKEN");
    probe.whop.company = config.whop_company_id;
    probe.whop.renew = getenv("PROBE_NEW_TOKEN") != NULL ? renew : NULL;
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&loop);
    struct redis_options options = {.loop = &loop,
                                    .url = config.redis_url,
                                    .scripts = scripts_all(),
                                    .script_count = SCRIPT_COUNT,
                                    .timeout_ms = REDIS_TIMEOUT_MS};
    struct err err = redis_new(&options, &redis);
    if (err_failed(&err)) {
        show_error(&err);
    } else {
        call_out(&probe, &config, &loop, redis);
        redis_close(redis);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    buf_close(&problems);
    buf_close(&notes);
    config_close(&config);
    return 0;
}
