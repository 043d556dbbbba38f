#include "service/whop_news.h"

#include "codec/json.h"

static const char *hint(const struct json_value *value, struct arena *arena)
{
    bool odd = false;
    const char *text = json_text(value, arena, &odd);
    return odd ? "" : text;
}

static void read_metadata(const char *metadata, struct arena *arena, struct event *out)
{
    static const char *const names[] = {"order_id", "packId", "pack_id", "credits"};
    const struct json_value *values[ARRAY_LEN(names)];
    struct json_doc *doc = json_parse(span_of(metadata));
    if (doc == NULL)
        return;
    (void)json_pick(json_root(doc), names, ARRAY_LEN(names), values);
    out->order_id = hint(values[0], arena);
    out->pack_id = hint(values[1], arena);
    if (text_is_empty(out->pack_id))
        out->pack_id = hint(values[2], arena);
    out->credits_claimed = hint(values[3], arena);
    json_free(doc);
}

void whop_news_of_payment(const struct whop_payment *payment, struct arena *arena,
                          struct event *out)
{
    payload_init(PAYLOAD_event, out);
    out->id = arena_printf(arena, "api/%s", payment->id);
    out->kind = "payment.seen";
    out->payment = payment->id;
    out->user = payment->user;
    out->member = payment->member;
    out->membership = payment->membership;
    out->plan = payment->plan;
    out->product = payment->product;
    out->checkout = payment->checkout;
    out->company = payment->company;
    out->status = payment->status;
    out->substatus = payment->substatus;
    out->billing_reason = payment->billing_reason;
    out->amount = payment->total;
    out->currency = payment->currency;
    out->refunded = payment->refunded;
    out->email = text_is_empty(payment->user_email) ? payment->customer_email : payment->user_email;
    out->paid_ms = payment->paid_ms;
    out->occurred_ms = payment->updated_ms != 0 ? payment->updated_ms : payment->created_ms;
    out->occurred_known = payment->updated_ms != 0;
    read_metadata(payment->metadata, arena, out);
}

void whop_news_of_dispute(const struct whop_dispute *dispute, int64_t read_ms, struct arena *arena,
                          struct event *out)
{
    payload_init(PAYLOAD_event, out);
    out->id = arena_printf(arena, "api/%s", dispute->id);
    out->kind = "dispute.seen";
    out->dispute = dispute->id;
    out->payment = dispute->payment;
    out->plan = dispute->plan;
    out->company = dispute->company;
    out->status = dispute->status;
    out->amount = dispute->amount;
    out->currency = dispute->currency;
    out->occurred_ms = read_ms;
    out->occurred_known = true;
}

void whop_news_of_refund(const struct whop_refund *refund, struct arena *arena, struct event *out)
{
    payload_init(PAYLOAD_event, out);
    out->id = arena_printf(arena, "api/%s", refund->id);
    out->kind = "refund.seen";
    out->refund = refund->id;
    out->payment = refund->payment;
    out->status = refund->status;
    out->amount = refund->amount;
    out->currency = refund->currency;
    out->occurred_ms = refund->created_ms;
}

void whop_news_of_membership(const struct whop_membership *membership, int64_t asked_ms,
                             struct arena *arena, struct event *out)
{
    payload_init(PAYLOAD_event, out);
    out->id = arena_printf(arena, "api/%s", membership->id);
    out->kind = "membership.seen";
    out->membership = membership->id;
    out->user = membership->user;
    out->member = membership->member;
    out->plan = membership->plan;
    out->product = membership->product;
    out->company = membership->company;
    out->status = membership->status;
    out->username = membership->username;
    out->name = membership->name;
    out->email = membership->email;
    out->cancels = membership->cancel_at_period_end ? "true" : "false";
    out->period_start_ms = membership->period_start_ms;
    out->period_end_ms = membership->period_end_ms;
    out->received_ms = asked_ms;
    out->occurred_ms = membership->updated_ms != 0 ? membership->updated_ms : asked_ms;
    out->occurred_known = true;
}
