#include "service/accept.h"

#include "codec/envelope.h"
#include "service/scripts.h"

#include <stdio.h>

static void on_reply(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct accept_request *request = data;
    /* Only what ACCEPT answers is believed: a 200 must not rest on somebody else's reply. */
    if (err != NULL || !redis_reply_is_integer(reply))
        request->verdict = ACCEPT_FAILED;
    else
        request->verdict = redis_reply_integer(reply) == 1 ? ACCEPT_NEW : ACCEPT_DUPLICATE;
    request->callback(request->verdict, request->data);
}

struct err accept_pack(struct accept *accept, const struct event *event, struct span body,
                       struct accept_record *out)
{
    const struct job_type *type = job_type(JOB_journal_event);
    buf_clear(&accept->payload);
    TRY(payload_encode(type->payload, event, &accept->payload));
    *out = (struct accept_record){
        .id = span_of(event->id),
        .payload = buf_span(&accept->payload),
        .body = body,
        .version = type->version,
        .occurred_ms = event->occurred_ms,
        .received_ms = event->received_ms,
    };
    return ERR_NONE;
}

void accept_packed(struct accept *accept, const struct accept_record *record,
                   struct accept_request *request)
{
    char ttl[24];
    const struct envelope envelope = {
        .kind = span_of(job_type(JOB_journal_event)->kind),
        .version = record->version,
        .occurred_ms = record->occurred_ms,
        .enqueued_ms = record->received_ms,
        .trace = record->id,
        .payload = record->payload,
    };
    buf_clear(&accept->packed);
    envelope_encode(&envelope, &accept->packed);
    if (text_is_empty(accept->stream)) {
        key_stream(accept->prefix, QUEUE_events, accept->stream);
        key_seen_prefix(accept->prefix, accept->seen);
    }
    buf_clear(&accept->key);
    buf_add_text(&accept->key, accept->seen);
    buf_add(&accept->key, record->id.ptr, record->id.len);
    snprintf(ttl, sizeof ttl, "%lld", (long long)accept->ttl_s);

    struct span args[] = {
        span_of(accept->stream),
        buf_span(&accept->key),
        span_of(ttl),
        SPAN("id"),
        record->id,
        SPAN("job"),
        buf_span(&accept->packed),
        SPAN("body"),
        record->body,
    };
    redis_eval(accept->redis, SCRIPT_ACCEPT, 2, args, ARRAY_LEN(args), on_reply, request);
}

void accept_close(struct accept *accept)
{
    buf_close(&accept->payload);
    buf_close(&accept->packed);
    buf_close(&accept->key);
}
