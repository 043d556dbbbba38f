/* whopline-credits: what Whop tells of payments, refunds and disputes becomes credits.
 *
 * Each event adds to what is known (service/payments); then the ledger is brought in line with that
 * (service/credits): who is credited, how much, once, and what refunds and disputes take of it. So
 * it does not matter which event comes first, or how often. What cannot be decided by rule goes to
 * the review list, for a person. */
#include "service/credits.h"
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/order_whop.h"
#include "service/payments.h"
#include "service/plan_whop.h"

#include <stdlib.h>

#define ACTOR "whopline-credits"

static const struct event *event_of(const struct batch_item *item)
{
    return item->payload;
}

static bool is_kind(const struct batch_item *item, enum job_kind kind)
{
    return strcmp(item->job->kind, job_type(kind)->kind) == 0;
}

/* Without ids there is nothing to hold on to, and one would be taken for another. */
static bool is_whole(struct batch_item *item)
{
    const struct event *event = event_of(item);
    if (text_is_empty(event->payment))
        item->reason = "names no payment";
    else if (is_kind(item, JOB_credits_refund) && text_is_empty(event->refund))
        item->reason = "names no refund";
    else if (is_kind(item, JOB_credits_dispute) && text_is_empty(event->dispute))
        item->reason = "names no dispute";
    else
        return true;
    item->state = JOB_STATE_DEAD;
    return false;
}

static int by_payment(const void *one, const void *other)
{
    const struct batch_item *first = *(struct batch_item *const *)one;
    const struct batch_item *second = *(struct batch_item *const *)other;
    if (first->job->tenant != second->job->tenant)
        return first->job->tenant < second->job->tenant ? -1 : 1;
    return strcmp(event_of(first)->payment, event_of(second)->payment);
}

/* The whole ones by payment, which is the order in which their rows are locked. */
static struct batch_item **sort(struct slot *slot, struct batch_item *items, size_t *count)
{
    struct batch_item **sorted = arena_alloc(&slot->arena, *count * sizeof(struct batch_item *));
    size_t whole = 0;
    for (size_t i = 0; i < *count; i++)
        if (is_whole(&items[i]))
            sorted[whole++] = &items[i];
    qsort(sorted, whole, sizeof *sorted, by_payment);
    *count = whole;
    return sorted;
}

/* What became of the job, for its row. */
static struct err conclude(struct slot *slot, struct batch_item *item,
                           const struct credits_outcome *outcome)
{
    const struct event *event = event_of(item);
    const char *review = outcome->result == CREDITS_IN_REVIEW ? outcome->why : NULL;
    bool claims_paid = strcmp(event->kind, "payment.succeeded") == 0;
    if (outcome->result == CREDITS_NOT_PAID && claims_paid) {
        review = "not_paid";
        TRY(credits_review_payment(slot->db, item->job->tenant, event->payment, event->id, review));
    }
    if (review != NULL) {
        item->reason = arena_printf(&slot->arena, "in review: %s", review);
    } else if (outcome->result == CREDITS_NOTHING) {
        item->state = JOB_STATE_SKIPPED;
        item->reason = outcome->why;
    } else if (outcome->result == CREDITS_UNCHANGED && claims_paid) {
        figures_count(&slot->figures, CREDITS_FIGURE_DUPLICATES, 1);
        item->state = JOB_STATE_SKIPPED;
        item->reason = "already_granted";
    }
    return ERR_NONE;
}

static struct err settle(struct slot *slot, struct batch_item *items, size_t count)
{
    struct credits_payment *payments = arena_alloc(&slot->arena, count * sizeof *payments);
    struct credits_outcome *outcomes = arena_alloc(&slot->arena, count * sizeof *outcomes);
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i].state == JOB_STATE_DONE)
            payments[used++] =
                (struct credits_payment){items[i].job->tenant, event_of(&items[i])->payment};
    TRY(credits_settle(slot->db, &slot->arena, payments, used, ACTOR, &slot->figures, outcomes));
    used = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i].state == JOB_STATE_DONE)
            TRY(conclude(slot, &items[i], &outcomes[used++]));
    return slot_commit_batch(slot, items, count);
}

/* What the whole ones tell, by payment; returns how many. */
static size_t gather(struct slot *slot, struct batch_item *items, size_t count,
                     struct payment_news **out)
{
    struct batch_item **sorted = sort(slot, items, &count);
    *out = arena_alloc(&slot->arena, count * sizeof **out);
    for (size_t i = 0; i < count; i++)
        (*out)[i] = (struct payment_news){sorted[i]->job->tenant, event_of(sorted[i])};
    return count;
}

static struct err payments(struct slot *slot, struct batch_item *items, size_t count)
{
    struct payment_news *news;
    size_t whole = gather(slot, items, count, &news);
    TRY(payments_note(slot->db, news, whole));
    return settle(slot, items, count);
}

static struct err failures(struct slot *slot, struct batch_item *items, size_t count)
{
    struct payment_news *news;
    size_t whole = gather(slot, items, count, &news);
    TRY(payments_note(slot->db, news, whole));
    TRY(credits_payments_failed(slot->db, news, whole, ACTOR));
    return settle(slot, items, count);
}

typedef struct err note_function(struct pg *pg, int64_t tenant, const struct event *event);

static struct err note_each(struct slot *slot, struct batch_item *items, size_t count,
                            note_function *note)
{
    struct batch_item **sorted = sort(slot, items, &count);
    for (size_t i = 0; i < count; i++)
        TRY(note(slot->db, sorted[i]->job->tenant, event_of(sorted[i])));
    return ERR_NONE;
}

static struct err refunds(struct slot *slot, struct batch_item *items, size_t count)
{
    TRY(note_each(slot, items, count, payments_note_refund));
    return settle(slot, items, count);
}

static struct err disputes(struct slot *slot, struct batch_item *items, size_t count)
{
    TRY(note_each(slot, items, count, payments_note_dispute));
    return settle(slot, items, count);
}

/* A warning tells, and moves nothing: there may be no payment to settle. */
static struct err alerts(struct slot *slot, struct batch_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text_is_empty(event_of(&items[i])->dispute)) {
            items[i].state = JOB_STATE_DEAD;
            items[i].reason = "names no dispute alert";
            continue;
        }
        TRY(payments_note_dispute_alert(slot->db, items[i].job->tenant, event_of(&items[i])));
        if (pg_affected(slot->db) == 0) {
            items[i].state = JOB_STATE_SKIPPED;
            items[i].reason = "told_before";
        }
    }
    return slot_commit_batch(slot, items, count);
}

/* --- calls to Whop, and what time brings ------------------------------------------------------ */

static struct err end(struct slot *slot, const char *why)
{
    TRY(pg_begin(slot->db));
    return slot_commit(slot, JOB_STATE_DONE, why);
}

static struct order_work work_of(struct slot *slot)
{
    return (struct order_work){slot->db, slot->outside, &slot->arena, slot->job, &slot->figures};
}

static struct err checkout(struct slot *slot, const void *payload)
{
    const struct order_call *call = payload;
    const struct order_work work = work_of(slot);
    const char *why;
    TRY(order_whop_make_checkout(&work, call->order, &why));
    return end(slot, why);
}

static struct err refund_call(struct slot *slot, const void *payload)
{
    const struct order_call *call = payload;
    const struct order_work work = work_of(slot);
    const char *why;
    TRY(order_whop_make_refund(&work, call->request, &why));
    return end(slot, why);
}

static struct err plan(struct slot *slot, const void *payload)
{
    const struct plan_call *call = payload;
    const struct order_work work = work_of(slot);
    const char *why;
    TRY(plan_whop_work(&work, call->request, &why));
    return end(slot, why);
}

/* Orders nobody has paid and holds nobody has ended. */
static struct err expire(struct slot *slot, const void *payload)
{
    int64_t expired;
    (void)payload;
    do {
        TRY(credits_expire(slot->db, &expired));
    } while (expired > 0);
    do {
        TRY(order_whop_expire(slot->db, &expired));
    } while (expired > 0);
    return end(slot, "");
}

static const struct handler handlers[] = {
    {JOB_credits_payment_succeeded, .handle_batch = payments},
    {JOB_credits_payment_seen, .handle_batch = payments},
    {JOB_credits_payment_failed, .handle_batch = failures},
    {JOB_credits_refund, .handle_batch = refunds},
    {JOB_credits_dispute, .handle_batch = disputes},
    {JOB_credits_dispute_alert, .handle_batch = alerts},
    {JOB_credits_checkout, .handle = checkout},
    {JOB_credits_refund_call, .handle = refund_call},
    {JOB_credits_plan, .handle = plan},
    {JOB_credits_expire, .handle = expire},
};

static const struct worker credits = {
    .name = "whopline-credits",
    .purpose = "turns payments, refunds and disputes into credits",
    .queue = QUEUE_credits,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .outside = &outside_face,
    .figures = &credits_figures,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &credits);
}
