/* whopline-credits: a paid payment becomes credits, once.
 *
 * Who: the Whop user the payment names. How much: what the plan table says for the plan (or pack)
 * at the time it was paid, never what the event claims. Once: the ledger's unique key. What cannot
 * be decided by these rules goes to the review list, for a person. */
#include "service/credits.h"
#include "codec/money.h"
#include "runtime/worker.h"

#include <stdio.h>

/* Why this payment is for a person to look at; NULL if it is not. */
static const char *find_doubt(const struct event *event, const struct credits_payment *payment,
                              bool has_plan)
{
    bool paid = text_is_empty(event->status) || strcmp(event->status, "paid") == 0 ||
                strcmp(event->status, "succeeded") == 0;
    bool settled = text_is_empty(event->substatus) || strcmp(event->substatus, "succeeded") == 0;
    if (!paid || !settled)
        return "not_paid";
    if (!has_plan)
        return "unknown_plan";
    if (text_is_empty(payment->user))
        return "unknown_user";
    if (money_sign(event->amount) == MONEY_ODD)
        return "odd_amount";
    if (strcmp(event->billing_reason, "subscription_update") == 0)
        return "proration"; /* part of a price: how much of the credits is not ours to say */
    return NULL;
}

static const char *flag_of(const struct event *event, const struct credits_plan *plan)
{
    char credits[24];
    snprintf(credits, sizeof credits, "%lld", (long long)plan->credits);
    bool differs =
        !text_is_empty(event->credits_claimed) && strcmp(event->credits_claimed, credits) != 0;
    return differs ? "metadata_mismatch" : "";
}

static struct err review(struct slot *slot, const struct event *event, const char *reason)
{
    TRY(credits_review_payment(slot->db, slot->job->tenant, event->payment, event->id, reason));
    return slot_commit(slot, JOB_STATE_DONE, arena_printf(&slot->arena, "in review: %s", reason));
}

static struct err grant(struct slot *slot, const struct event *event,
                        const struct credits_payment *payment, const struct credits_plan *plan)
{
    const struct credits_grant wanted = {
        .tenant = slot->job->tenant,
        .user = payment->user,
        .payment = event->payment,
        .event_id = event->id,
        .plan = plan,
        .flag = flag_of(event, plan),
    };
    bool granted;
    TRY(credits_grant_payment(slot->db, &wanted, &granted));
    if (!granted)
        return slot_commit(slot, JOB_STATE_SKIPPED, "already_granted");
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err payment_succeeded(struct slot *slot, const void *payload)
{
    const struct event *event = payload;
    int64_t tenant = slot->job->tenant;
    struct credits_payment payment;
    struct credits_plan plan;
    bool has_plan;
    bool granted;

    if (text_is_empty(event->payment))
        return err_make(ERR_MALFORMED, "payment.succeeded without a payment's id");
    TRY(pg_begin(slot->db));
    TRY(credits_record_payment(slot->db, &slot->arena, tenant, event, &payment));
    TRY(credits_is_granted(slot->db, tenant, event->payment, &granted));
    if (granted)
        return slot_commit(slot, JOB_STATE_SKIPPED, "already_granted");

    int64_t paid_ms = payment.paid_ms != 0 ? payment.paid_ms : event->occurred_ms;
    TRY(credits_find_plan(slot->db, &slot->arena, tenant, payment.plan, payment.pack_id, paid_ms,
                          &plan, &has_plan));
    const char *doubt = find_doubt(event, &payment, has_plan);
    if (doubt != NULL)
        return review(slot, event, doubt);
    if (plan.credits == 0)
        return slot_commit(slot, JOB_STATE_SKIPPED, "sells_no_credits");
    if (money_sign(event->amount) == MONEY_ZERO && !plan.when_free)
        return slot_commit(slot, JOB_STATE_SKIPPED, "free_payment");
    return grant(slot, event, &payment, &plan);
}

static const struct handler handlers[] = {
    {JOB_credits_payment_succeeded, .handle = payment_succeeded},
};

static const struct worker credits = {
    .name = "whopline-credits",
    .purpose = "turns payments into credits",
    .queue = QUEUE_credits,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &credits);
}
