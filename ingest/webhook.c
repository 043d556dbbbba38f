#include "ingest/webhook.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "ingest/replay.h"

#include <stdio.h>
#include <strings.h>

#define MODULE "webhook"

/* --- settings -------------------------------------------------------------------------------- */

void webhook_check(const struct config *config, struct buf *problems)
{
    endpoint_table_check(config, problems);
}

void webhook_init(struct webhook *webhook, const struct config *config, struct metrics *metrics)
{
    *webhook = (struct webhook){
        .config = config,
        .metrics = metrics,
        .accept = {.prefix = config->stream_prefix, .ttl_s = config->dedupe_ttl_hours * 3600},
    };
    arena_init(&webhook->scratch);
    endpoint_table_init(&webhook->endpoints, config);
}

void webhook_close(struct webhook *webhook)
{
    endpoint_table_close(&webhook->endpoints);
    accept_close(&webhook->accept);
    arena_close(&webhook->scratch);
}

bool webhook_is_ready(const struct webhook *webhook)
{
    return webhook->redis_is_safe && webhook->accept.redis != NULL &&
           redis_is_ready(webhook->accept.redis);
}

/* --- before the body ------------------------------------------------------------------------- */

/* A media type ends at ';' or blanks: "application/json; charset=utf-8". */
static bool is_json(struct span type)
{
    const struct span json = SPAN("application/json");
    if (type.len < json.len || strncasecmp(type.ptr, json.ptr, json.len) != 0)
        return false;
    return type.len == json.len || strchr("; \t", type.ptr[json.len]) != NULL;
}

static bool is_identity(struct span coding)
{
    return coding.ptr == NULL || (coding.len == 8 && strncasecmp(coding.ptr, "identity", 8) == 0);
}

/* The value of a header that may occur once. */
static struct span single(const struct http1_request *request, const char *name, bool *repeated)
{
    size_t count = 0;
    struct span value = http1_header(request, name, &count);
    *repeated |= count > 1;
    return value;
}

/* One line a second at most: whoever floods us must not fill the disk as well. */
static void log_refused(struct webhook *webhook, const char *why, int64_t now_s)
{
    if (now_s == webhook->warned_s) {
        webhook->suppressed++;
        return;
    }
    log_warning(MODULE, "signature refused", LOG_TEXT("why", why),
                LOG_INT("suppressed", webhook->suppressed));
    webhook->warned_s = now_s;
    webhook->suppressed = 0;
}

static int refuse(struct webhook *webhook, enum signature_result result, int64_t now_s)
{
    webhook->metrics->verifications[result]++;
    log_refused(webhook, signature_result_name(result), now_s);
    return 401;
}

int webhook_check_head(struct webhook *webhook, const struct http1_request *request,
                       struct webhook_request *incoming)
{
    bool ours = false;
    const struct endpoint *endpoint =
        endpoint_table_find(&webhook->endpoints, request->path, &ours);
    if (!ours)
        return 404;
    if (request->method != HTTP1_POST)
        return 405;
    if (request->content_length < 0 && !request->chunked)
        return 411;
    if (request->content_length > webhook->config->http_max_body)
        return 413;
    bool repeated = false;
    struct span type = single(request, "content-type", &repeated);
    struct span coding = single(request, "content-encoding", &repeated);
    incoming->headers = (struct signature_headers){
        .id = single(request, "webhook-id", &repeated),
        .timestamp = single(request, "webhook-timestamp", &repeated),
        .signature = single(request, "webhook-signature", &repeated),
        .whop_signature = single(request, "x-whop-signature", &repeated),
    };
    if (repeated)
        return 400;
    if (!is_json(type) || !is_identity(coding))
        return 415;
    int64_t now_s = clock_wall_ms() / 1000;
    if (endpoint == NULL) {
        log_refused(webhook, "unknown endpoint", now_s);
        return 401;
    }
    enum signature_result result =
        signature_precheck(&incoming->headers, endpoint->schemes, now_s,
                           webhook->config->webhook_tolerance_seconds, &incoming->check);
    if (result != SIGNATURE_OK)
        return refuse(webhook, result, now_s);
    if (!webhook_is_ready(webhook) ||
        webhook->unanswered >= (size_t)webhook->config->http_max_unanswered)
        return 503;
    return 0;
}

/* --- the body -------------------------------------------------------------------------------- */

static void copy_text(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);
    memcpy(out, text, len);
    out[len] = '\0';
}

int webhook_take(struct webhook *webhook, const struct http1_request *request,
                 struct webhook_request *incoming)
{
    int64_t now_ms = clock_wall_ms();
    bool ours = false;
    /* Again: while the body came in, the endpoints may have been read anew. */
    const struct endpoint *endpoint =
        endpoint_table_find(&webhook->endpoints, request->path, &ours);
    if (endpoint == NULL)
        return refuse(webhook, SIGNATURE_MISMATCH, now_ms / 1000);
    enum signature_result result =
        signature_verify(endpoint->keys, &incoming->headers, request->body, &incoming->check);
    if (result == SIGNATURE_OK && !endpoint_allows(endpoint, incoming->check.secret, now_ms))
        result = SIGNATURE_MISMATCH;
    if (result != SIGNATURE_OK)
        return refuse(webhook, result, now_ms / 1000);
    webhook->metrics->verifications[SIGNATURE_OK]++;

    struct event event;
    struct event_source source = {
        .endpoint = endpoint->name,
        .endpoint_company = endpoint->company,
        .webhook_id = incoming->headers.id,
        .check = &incoming->check,
        .received_ms = now_ms,
        .body = request->body,
    };
    event_normalise(&source, &webhook->scratch, &event);
    bool quarantined = !text_is_empty(event.quarantine);
    copy_text(incoming->event_id, sizeof incoming->event_id, event.id);
    copy_text(incoming->kind, sizeof incoming->kind, event.kind);
    incoming->body_bytes = request->body.len;

    int status = 0;
    /* While the body came in, Redis may have gone or others may have filled the queue. */
    if (FAULT(before_accept) || !webhook_is_ready(webhook) ||
        webhook->unanswered >= (size_t)webhook->config->http_max_unanswered) {
        status = 503;
    } else {
        struct accept_record record;
        struct err err = accept_pack(&webhook->accept, &event, request->body, &record);
        if (err_failed(&err)) {
            log_error(MODULE, "event cannot be packed", LOG_TEXT("event", incoming->event_id),
                      LOG_TEXT("why", err_text(&err)));
            status = 503;
        } else {
            if (webhook->replay != NULL)
                replay_keep(webhook->replay, &record);
            accept_packed(&webhook->accept, &record, &incoming->accept);
            webhook->unanswered++;
            webhook->metrics->quarantined += quarantined;
        }
    }
    arena_reset(&webhook->scratch);
    return status;
}

int webhook_settle(struct webhook *webhook, struct webhook_request *incoming,
                   enum accept_verdict verdict)
{
    static const char *const names[] = {
        [ACCEPT_NEW] = "new", [ACCEPT_DUPLICATE] = "duplicate", [ACCEPT_FAILED] = "failed"};
    webhook->unanswered--;
    webhook->metrics->accepts[verdict]++;
    log_debug(MODULE, "event", LOG_TEXT("event", incoming->event_id),
              LOG_TEXT("kind", incoming->kind), LOG_TEXT("verdict", names[verdict]),
              LOG_INT("body_bytes", incoming->body_bytes));
    if (verdict == ACCEPT_FAILED || FAULT(after_accept_before_200))
        return 503;
    return 200;
}
