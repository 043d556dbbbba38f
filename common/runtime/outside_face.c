#include "runtime/outside_face.h"

#include "runtime/loop.h"
#include "service/outside_shared.h"

#include <stdlib.h>

/* --- calls ----------------------------------------------------------------------------------- */

static void on_called(struct http_response *response, void *data)
{
    struct outside_request *request = data;
    request->call = NULL;
    *request->response = *response;
    slot_outside_answer(request);
}

static void start_call(struct loop *loop, struct outside_request *request)
{
    request->call = http_client_start(loop->http, request->http, on_called, request);
}

/* --- scripts --------------------------------------------------------------------------------- */

/* Outlives its request if that is cancelled. */
struct eval {
    struct loop *loop;
    struct outside_request *request; /* NULL: nobody waits any more */
};

static bool call_follows(struct outside_request *request)
{
    struct outside_follow *follow = request->follow;
    if (follow == NULL || err_failed(&request->err) ||
        !follow->may_go(follow->data, request->script->out))
        return false;
    follow->called = true;
    return true;
}

static void on_evaluated(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct eval eval = *(struct eval *)data;
    struct outside_request *request = eval.request;
    free(data);
    if (request == NULL)
        return;
    request->eval = NULL;
    request->err = err != NULL ? *err : ERR_NONE;
    for (size_t i = 0; err == NULL && i < request->script->out_count; i++)
        request->script->out[i] = redis_reply_integer(redis_reply_at(reply, i));
    if (call_follows(request))
        start_call(eval.loop, request);
    else
        slot_outside_answer(request);
}

static void start_eval(struct loop *loop, struct outside_request *request)
{
    const struct outside_script *script = request->script;
    request->eval = mem_alloc(sizeof *request->eval);
    *request->eval = (struct eval){.loop = loop, .request = request};
    redis_eval(loop->redis, script->script, script->key_count, script->args, script->count,
               on_evaluated, request->eval);
}

/* --- requests -------------------------------------------------------------------------------- */

static void refuse(struct outside_request *request)
{
    struct err why = err_make(ERR_CANCELLED, "stopped before the call to the outside");
    request->err = why;
    if (request->kind == OUTSIDE_HTTP) {
        why = err_make(ERR_HTTP_NOT_SENT, "the call could not be made: it was cancelled");
        *request->response = (struct http_response){
            .outcome = HTTP_NOT_BEGUN, .retry_after_ms = -1, .cancelled = true, .why = why};
    }
    slot_outside_answer(request);
}

static void take(struct loop *loop, struct outside_request *request)
{
    if (slot_outside_is_stopped(request->from)) {
        refuse(request);
        return;
    }
    request->taken = true;
    if (request->kind == OUTSIDE_EVAL)
        start_eval(loop, request);
    else
        start_call(loop, request);
}

static void cancel(struct outside_request *request)
{
    if (request->eval != NULL) {
        request->eval->request = NULL;
        request->eval = NULL;
        refuse(request);
    } else if (request->call != NULL) {
        http_client_cancel(request->call);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static struct err face_open(struct loop *loop)
{
    const struct config *config = loop->config;
    const struct http_client_options options = {
        .loop = &loop->process.loop,
        .connect_timeout_ms = config->http_connect_timeout_ms,
        .max_connections = (size_t)config->http_keep_connections,
        .allow_private = config->http_allow_private,
        .ca_file = config->http_ca_file,
    };
    return http_client_new(&options, &loop->http);
}

static void face_close(struct loop *loop)
{
    http_client_close(loop->http);
}

static void face_write(const struct loop *loop, struct metric_page *page)
{
    outside_shared_write(loop->slots.shared, page);
}

const struct outside_face outside_face = {
    .open = face_open, .close = face_close, .take = take, .cancel = cancel, .write = face_write};
