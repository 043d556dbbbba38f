#include "service/outside_local.h"

#include "service/outside_shared.h"

/* What is waited for may come while the loop runs its timers, and UV_RUN_ONCE would then wait for
 * something else to happen: so whatever comes stops the loop. */

/* --- scripts --------------------------------------------------------------------------------- */

struct eval {
    uv_loop_t *loop;
    size_t left;
    const struct outside_script *script;
    struct err err;
};

static void on_evaluated(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct eval *eval = data;
    const struct outside_script *script = eval->script;
    eval->left = 0;
    eval->err = err != NULL ? *err : ERR_NONE;
    for (size_t i = 0; err == NULL && i < script->out_count; i++)
        script->out[i] = redis_reply_integer(redis_reply_at(reply, i));
    uv_stop(eval->loop);
}

static struct err run_script(struct outside_local *local, const struct outside_script *script)
{
    struct eval eval = {.loop = local->loop, .left = 1, .script = script};
    TRY(redis_wait_ready(local->redis));
    redis_eval(local->redis, script->script, script->key_count, script->args, script->count,
               on_evaluated, &eval);
    redis_settle(local->redis, &eval.left);
    return eval.err;
}

/* --- waiting, calls -------------------------------------------------------------------------- */

static void on_over(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
    uv_stop(timer->loop);
}

static struct err local_wait(void *data, int64_t ms)
{
    struct outside_local *local = data;
    bool over = false;
    local->timer.data = &over;
    uv_update_time(local->loop);
    uv_timer_start(&local->timer, on_over, (uint64_t)ms, 0);
    while (!over)
        uv_run(local->loop, UV_RUN_ONCE);
    return ERR_NONE;
}

struct call {
    uv_loop_t *loop;
    bool over;
    struct http_response *response;
};

static void on_called(struct http_response *response, void *data)
{
    struct call *call = data;
    *call->response = *response;
    call->over = true;
    uv_stop(call->loop);
}

static void local_http(void *data, const struct http_request *request,
                       struct http_response *response)
{
    struct outside_local *local = data;
    struct call call = {.loop = local->loop, .response = response};
    http_client_start(local->http, request, on_called, &call);
    while (!call.over)
        uv_run(local->loop, UV_RUN_ONCE);
}

static struct err local_eval(void *data, const struct outside_script *script,
                             struct outside_follow *follow)
{
    TRY(run_script(data, script));
    if (follow == NULL || !follow->may_go(follow->data, script->out))
        return ERR_NONE;
    local_http(data, follow->request, follow->response);
    follow->called = true;
    return ERR_NONE;
}

static const struct outside_ops ops = {.eval = local_eval, .wait = local_wait, .http = local_http};

/* --- life ------------------------------------------------------------------------------------ */

struct err outside_local_open(struct outside_local *local, const struct config *config,
                              uv_loop_t *loop, struct redis *redis)
{
    const struct http_client_options options = {
        .loop = loop,
        .connect_timeout_ms = config->http_connect_timeout_ms,
        .max_connections = (size_t)config->http_keep_connections,
        .allow_private = config->http_allow_private,
        .ca_file = config->http_ca_file,
    };
    *local = (struct outside_local){.loop = loop, .redis = redis};
    TRY(http_client_new(&options, &local->http));
    uv_timer_init(loop, &local->timer);
    local->outside = (struct outside){
        .ops = &ops, .data = local, .config = config, .shared = outside_shared_new(config)};
    return ERR_NONE;
}

void outside_local_close(struct outside_local *local)
{
    if (local->http == NULL)
        return;
    http_client_close(local->http);
    local->http = NULL;
    uv_close((uv_handle_t *)&local->timer, NULL);
    outside_shared_free(local->outside.shared);
}
