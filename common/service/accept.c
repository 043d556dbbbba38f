#include "service/accept.h"

#include "service/scripts.h"

#include <stdio.h>

static void on_reply(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct accept_request *request = data;
    if (err != NULL)
        request->verdict = ACCEPT_FAILED;
    else
        request->verdict = redis_reply_integer(reply) == 1 ? ACCEPT_NEW : ACCEPT_DUPLICATE;
    request->callback(request->verdict, request->data);
}

struct err accept_event(struct accept *accept, const struct event *event, struct span body,
                        struct accept_request *request)
{
    char ttl[24];
    char version[12];
    char received[24];
    char occurred[24];
    const struct job_type *type = job_type(JOB_journal_event);

    buf_clear(&accept->packed);
    TRY(payload_encode(type->payload, event, &accept->packed));
    if (text_is_empty(accept->stream)) {
        key_stream(accept->prefix, QUEUE_events, accept->stream);
        key_seen_prefix(accept->prefix, accept->seen);
    }
    buf_clear(&accept->key);
    buf_add_text(&accept->key, accept->seen);
    buf_add_text(&accept->key, event->id);
    snprintf(ttl, sizeof ttl, "%lld", (long long)accept->ttl_s);
    snprintf(version, sizeof version, "%d", type->version);
    snprintf(received, sizeof received, "%lld", (long long)event->received_ms);
    snprintf(occurred, sizeof occurred, "%lld", (long long)event->occurred_ms);

    struct span args[] = {
        span_of(accept->stream),
        buf_span(&accept->key),
        span_of(ttl),
        SPAN("id"),
        span_of(event->id),
        SPAN("kind"),
        span_of(type->kind),
        SPAN("ver"),
        span_of(version),
        SPAN("attempt"),
        SPAN("0"),
        SPAN("occurred_ms"),
        span_of(occurred),
        SPAN("enqueued_ms"),
        span_of(received),
        SPAN("trace"),
        span_of(event->id),
        SPAN("payload"),
        buf_span(&accept->packed),
        SPAN("body"),
        body,
    };
    redis_eval(accept->redis, SCRIPT_ACCEPT, 2, args, ARRAY_LEN(args), on_reply, request);
    return ERR_NONE;
}

void accept_close(struct accept *accept)
{
    buf_close(&accept->packed);
    buf_close(&accept->key);
}
