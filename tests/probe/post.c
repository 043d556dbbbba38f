#include "tests/probe/post.h"

#include "codec/json.h"
#include "service/tenant_whop.h"
#include "service/whop_effects.h"

#include <stdlib.h>

struct post {
    struct slot *slot;
    const char *url;
};

/* Whether "things" of the answer has one, and its id. */
static enum outbound_finding find_thing(struct arena *arena, struct span body, struct buf *id)
{
    static const char *const names[] = {"things"};
    static const char *const members[] = {"id"};
    const struct json_value *things = NULL;
    const struct json_value *found = NULL;
    struct json_doc *doc = json_parse(body);
    enum outbound_finding finding = OUTBOUND_CANNOT_TELL;
    if (doc != NULL && json_pick(json_root(doc), names, 1, &things) && json_is_array(things)) {
        finding = json_is_empty(things) ? OUTBOUND_NOT_FOUND : OUTBOUND_FOUND;
        (void)json_pick(json_first(things), members, 1, &found);
        buf_add_text(id, json_text(found, arena, NULL));
    }
    json_free(doc);
    return finding;
}

static struct err look_for_thing(void *data, const struct outbound_unknown *unknown,
                                 enum outbound_finding *finding, struct buf *remote_id)
{
    struct post *post = data;
    struct arena *arena = &post->slot->arena;
    const struct outside_target target = {
        .credential = "probe", .operation = "messages.list", .host = "things", .interval_us = 1000};
    const struct http_request request = {
        .method = "GET",
        .url = arena_printf(arena, "%s?key=%s", post->url, unknown->business_key),
        .timeout_ms = post->slot->config->http_timeout_ms,
        .body_max_bytes = (size_t)post->slot->config->http_answer_max};
    struct http_response response;
    TRY(outside_call(post->slot->outside, &target, &request, &response));
    struct err err = ERR_NONE;
    if (response.outcome != HTTP_ANSWERED)
        err = err_make(ERR_HTTP_NOT_SENT, "looking: %.120s", response.why.text);
    else if (response.status >= 500)
        err = err_make(ERR_HTTP_NOT_SENT, "looking met status %d", response.status);
    else if (response.status == 200)
        *finding = find_thing(arena, buf_span(&response.body), remote_id);
    else
        *finding = OUTBOUND_CANNOT_TELL;
    buf_close(&response.body);
    return err;
}

static void read_thing(void *data, struct span body, struct buf *remote_id)
{
    static const char *const members[] = {"id"};
    struct post *post = data;
    const struct json_value *id = NULL;
    struct json_doc *doc = json_parse(body);
    if (doc != NULL && json_pick(json_root(doc), members, 1, &id))
        buf_add_text(remote_id, json_text(id, &post->slot->arena, NULL));
    json_free(doc);
}

/* A handler reads the answer, where there is one: it must be that of a call that was done. */
static struct err check(struct post *post, struct outbound_result *result)
{
    struct buf id = {0};
    bool found = result->status == 0 && result->body.len == 0;
    read_thing(post, buf_span(&result->body), &id);
    bool same = strcmp(buf_text(&id), buf_text(&result->remote_id)) == 0;
    buf_close(&id);
    return found || same ? ERR_NONE
                         : err_make(ERR_MALFORMED, "the answer, of status %d, is of another call",
                                    result->status);
}

struct err post_thing(struct slot *slot, const char *kind, enum outbound_operation operation,
                      const char *key)
{
    static const char *const headers[] = {"Content-Type: application/json"};
    const char *base = getenv("PROBE_URL");
    if (base == NULL)
        return err_make(ERR_MALFORMED, "probe.post_... needs PROBE_URL");
    struct post post = {.slot = slot,
                        .url = arena_printf(&slot->arena, "%s/things/%s", base, kind)};
    const struct outbound_call call = {
        .operation = operation,
        .tenant = slot->job->tenant,
        .business_key = key,
        .job = slot->job->id,
        .target = {.credential = "probe",
                   .operation = outbound_operation_text(operation),
                   .host = "things",
                   .interval_us = 1000},
        .request = {.method = "POST",
                    .url = post.url,
                    .headers = headers,
                    .header_count = ARRAY_LEN(headers),
                    .body = span_of(arena_printf(&slot->arena, "{\"key\": \"%s\"}", key)),
                    .timeout_ms = slot->config->http_timeout_ms,
                    .body_max_bytes = (size_t)slot->config->http_answer_max},
        .verify = operation == OUTBOUND_OPERATION_probe_verify ? look_for_thing : NULL,
        .read_id = read_thing,
        .data = &post,
    };
    struct outbound_result result;
    struct err err = outbound_run(slot->db, slot->outside, &call, &result);
    if (!err_failed(&err))
        err = check(&post, &result);
    outbound_result_close(&result);
    return err;
}

static struct err refund(struct slot *slot, struct whop *whop, const char *payment, bool reads)
{
    struct whop_call *call;
    struct outbound_result result = {0};
    struct whop_payment seen;
    TRY(whop_prepare_refund(whop, payment, NULL, &call));
    if (reads)
        TRY(whop_get_payment(whop, payment, &seen));
    const struct outbound_call once = {
        .operation = OUTBOUND_OPERATION_probe_park,
        .tenant = slot->job->tenant,
        .business_key = payment,
        .job = slot->job->id,
        .target = call->target,
        .request = call->request,
        .read_id = whop_read_id,
        .read_wait = whop_read_wait,
    };
    struct err err = outbound_run(slot->db, slot->outside, &once, &result);
    outbound_result_close(&result);
    return err;
}

struct err post_refund(struct slot *slot, const char *payment, bool reads)
{
    struct tenant_whop client;
    TRY(tenant_whop_open(&client, slot->db, slot->outside, &slot->arena, slot->job->tenant,
                         CREDENTIAL_FOR_WORK));
    return tenant_whop_close(&client, refund(slot, &client.whop, payment, reads));
}
