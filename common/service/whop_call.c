#include "service/whop_call.h"

#include "base/config.h"

enum { STATUS_TIMEOUT = 408, STATUS_TOO_EARLY = 425, STATUS_LIMITED = 429 };

/* "api.whop.com" of an address; NULL: there is none in it. */
static const char *host_of(const char *url, struct arena *arena)
{
    const char *host = strstr(url, "://");
    if (host == NULL)
        return NULL;
    host += 3;
    size_t len = strcspn(host, "/?#");
    return len > 0 ? arena_copy(arena, host, len) : NULL;
}

/* These two are asked below WHOP_OAUTH_URL, and authenticate by their body. */
static bool is_oauth(enum whop_operation operation)
{
    return operation == WHOP_OPERATION_oauth_token || operation == WHOP_OPERATION_oauth_revoke;
}

static const char *authorize(const struct whop *whop)
{
    return arena_printf(whop->arena, "Authorization: Bearer %s", whop->token);
}

static void set_headers(struct whop *whop, struct whop_call *call, bool has_body)
{
    struct arena *arena = whop->arena;
    size_t count = 0;
    call->headers[count++] = "Accept: application/json";
    if (has_body)
        call->headers[count++] = "Content-Type: application/json";
    if (!is_oauth(call->operation)) {
        call->headers[count++] = arena_printf(arena, "Api-Version-Date: %s",
                                              whop->outside->config->whop_api_version_date);
        call->authorization = authorize(whop);
        call->headers[count++] = call->authorization;
    }
    call->request.headers = call->headers;
    call->request.header_count = count;
}

/* The same call with the credential that whop has by now: another one already, if a reading call
 * has met a 401 since this one was built. */
static struct err renew(void *data, struct outside_target *target, struct http_request *request)
{
    struct whop_call *call = data;
    struct whop *whop = call->whop;
    if (strcmp(authorize(whop), call->authorization) == 0)
        TRY(whop->renew(whop->data, whop));
    set_headers(whop, call, call->request.body.ptr != NULL);
    target->credential = whop->credential;
    request->headers = call->request.headers;
    request->header_count = call->request.header_count;
    return ERR_NONE;
}

struct err whop_call_build(struct whop *whop, enum whop_operation operation, const char *const *ids,
                           const struct whop_filter *filters, size_t filter_count,
                           const struct buf *body, struct whop_call **out)
{
    const struct config *config = whop->outside->config;
    bool oauth = is_oauth(operation);
    const char *base = oauth ? config->whop_oauth_url : config->whop_api_url;
    struct whop_call *call = arena_zalloc(whop->arena, sizeof *call);
    struct buf url = {0};
    struct err err = whop_build_url(operation, base, ids, filters, filter_count, &url);
    call->whop = whop;
    call->operation = operation;
    call->request.url = arena_strdup(whop->arena, buf_text(&url));
    buf_close(&url);
    TRY(err);
    call->target = (struct outside_target){.credential = whop->credential,
                                           .operation = whop_operation_text(operation),
                                           .host = host_of(call->request.url, whop->arena),
                                           .interval_us = 60000000 / config->whop_rate_per_min,
                                           .bulk = whop->bulk,
                                           .renew = whop->renew != NULL && !oauth ? renew : NULL,
                                           .renew_data = call};
    if (call->target.host == NULL)
        return err_make(ERR_CONFIG, "%s is no address such as https://api.whop.com/api/v1",
                        oauth ? "WHOP_OAUTH_URL" : "WHOP_API_URL");
    call->request.method = whop_operation_method(operation);
    if (body != NULL)
        call->request.body =
            (struct span){arena_copy(whop->arena, buf_span(body).ptr, body->len), body->len};
    call->request.timeout_ms = config->http_timeout_ms;
    call->request.body_max_bytes = (size_t)config->http_answer_max;
    set_headers(whop, call, body != NULL);
    *out = call;
    return ERR_NONE;
}

static enum err_code code_of(int status)
{
    switch (status) {
    case 401: return ERR_UNAUTHORISED;
    case 403: return ERR_FORBIDDEN;
    case 404: return ERR_WHOP_NOT_FOUND;
    case STATUS_LIMITED: return ERR_WHOP_LIMITED;
    default:
        return status >= 400 && status < 500 && status != STATUS_TIMEOUT &&
                       status != STATUS_TOO_EARLY
                   ? ERR_WHOP_API
                   : ERR_WHOP_DOWN;
    }
}

struct err whop_call_judge(const struct whop_call *call, const struct config *config,
                           const struct http_response *response, int64_t *wait_ms)
{
    struct whop_problem problem;
    whop_read_problem(buf_span(&response->body), &problem);
    enum err_code code = code_of(response->status);
    /* A refresh token that is not taken is a credential that is not: RFC 6749 makes it a 400. */
    if (is_oauth(call->operation) && code == ERR_WHOP_API &&
        (strcmp(problem.code, "invalid_grant") == 0 || strcmp(problem.code, "invalid_client") == 0))
        code = ERR_UNAUTHORISED;
    struct err err =
        err_make(code, "%s: %d %s%s%s", call->target.operation, response->status, problem.code,
                 *problem.code && *problem.message ? ": " : "", problem.message);
    /* A wait of nothing is none: one 429 would follow the other. */
    *wait_ms = response->retry_after_ms > 0 ? response->retry_after_ms : problem.wait_ms;
    if (*wait_ms <= 0)
        *wait_ms = config->whop_unsaid_wait_ms;
    if (code == ERR_WHOP_LIMITED)
        err.after_ms = (uint32_t)(*wait_ms < UINT32_MAX ? *wait_ms : UINT32_MAX);
    return err;
}
