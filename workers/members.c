/* whopline-members: what Whop tells of memberships becomes a register of who has access.
 *
 * Each event adds to what is known; then the students it is about are worked out anew
 * (service/members), so that it does not matter which event comes first, or how often. What gained,
 * lost and changed means is decided here and nowhere else; what follows from it is inserted in the
 * same transaction. Where events contradict each other, Whop is asked. */
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/mails.h"
#include "service/member_follow.h"
#include "service/members_whop.h"

#define ACTOR "whopline-members"

enum { GONE_AFTER = 4 }; /* attempts: five minutes in all */

/* --- what follows ---------------------------------------------------------------------------- */

/* In the transaction that has changed the students. */
static struct err follow(struct slot *slot, const struct member_outcome *outcome)
{
    struct member_jobs jobs;
    TRY(member_follow(slot->db, &slot->arena, outcome, &jobs));
    return slot_add_jobs(slot, jobs.jobs, jobs.count);
}

/* --- events ---------------------------------------------------------------------------------- */

/* Those that name a membership; the others are told what is the matter with them. */
static size_t gather(struct slot *slot, struct batch_item *items, size_t count,
                     struct member_news **out)
{
    size_t used = 0;
    *out = arena_zalloc(&slot->arena, (count + 1) * sizeof **out);
    for (size_t i = 0; i < count; i++) {
        const struct event *event = items[i].payload;
        if (text_is_empty(event->membership)) {
            items[i].state = JOB_STATE_SKIPPED;
            items[i].reason = "names_no_membership";
            continue;
        }
        (*out)[used++] = (struct member_news){
            .tenant = items[i].job->tenant, .source = MEMBER_EVENT, .event = event};
    }
    return used;
}

static struct err memberships(struct slot *slot, struct batch_item *items, size_t count)
{
    struct member_news *news;
    struct member_outcome outcome = {0};
    size_t told = gather(slot, items, count, &news);
    if (told > 0)
        TRY(members_note(slot->db, &slot->arena, news, told, ACTOR, &outcome));
    TRY(follow(slot, &outcome));
    return slot_commit_batch(slot, items, count);
}

static struct err bills(struct slot *slot, struct batch_item *items, size_t count)
{
    struct member_news *news;
    struct member_outcome outcome = {0};
    size_t told = gather(slot, items, count, &news);
    if (told > 0)
        TRY(members_note_bills(slot->db, &slot->arena, news, told, ACTOR, &outcome));
    TRY(mails_follow_bills(slot->db, &slot->arena, news, told));
    TRY(follow(slot, &outcome));
    return slot_commit_batch(slot, items, count);
}

/* --- asking Whop ----------------------------------------------------------------------------- */

static struct err take(struct slot *slot, const struct member_news *news, size_t count)
{
    struct member_outcome outcome;
    TRY(pg_begin(slot->db));
    TRY(members_note(slot->db, &slot->arena, news, count, ACTOR, &outcome));
    TRY(follow(slot, &outcome));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* A membership that has just begun may not be readable yet. */
static struct err read_one(struct slot *slot, const void *payload)
{
    const struct member *member = payload;
    const struct member_question question = {.tenant = slot->job->tenant,
                                             .membership = member->membership,
                                             .user = member->user,
                                             .bulk = member->backfill,
                                             .backfill = member->backfill};
    struct member_news news;
    struct err err = members_ask(slot->db, slot->outside, &slot->arena, &question, &news);
    if (err.code == ERR_WHOP_NOT_FOUND && slot->job->attempt >= GONE_AFTER)
        members_say_gone(&slot->arena, &question, &news);
    else
        TRY(err);
    return take(slot, &news, 1);
}

/* Who cannot be asked about goes by what is known. */
static bool cannot_ask(const struct err *err)
{
    enum err_class class = err_class_of(err->code);
    return class == ERR_CLASS_AUTH || class == ERR_CLASS_PARK || err->code == ERR_WHOP_NOT_FOUND;
}

/* Asks about each membership that only grace keeps. */
static struct err ask_about(struct slot *slot, const struct member *member,
                            const struct member_ids *waiting, struct member_news **out,
                            size_t *count)
{
    *count = 0;
    *out = arena_alloc(&slot->arena, (waiting->count + 1) * sizeof **out);
    for (size_t i = 0; i < waiting->count; i++) {
        const struct member_question question = {
            .tenant = slot->job->tenant, .membership = waiting->ids[i], .user = member->user};
        struct err err =
            members_ask(slot->db, slot->outside, &slot->arena, &question, &(*out)[*count]);
        if (!err_failed(&err))
            ++*count;
        else if (!cannot_ask(&err))
            return err;
    }
    return ERR_NONE;
}

/* Grace has ended: the payment may have come in another way, so Whop has the last word. */
static struct err recheck(struct slot *slot, const void *payload)
{
    const struct member *member = payload;
    struct member_ids waiting;
    struct member_news *news;
    struct member_outcome outcome = {0};
    size_t count;
    TRY(members_list_in_grace(slot->db, &slot->arena, slot->job->tenant, member->user, &waiting));
    TRY(ask_about(slot, member, &waiting, &news, &count));
    TRY(pg_begin(slot->db));
    if (count > 0) {
        TRY(members_note(slot->db, &slot->arena, news, count, ACTOR, &outcome));
        TRY(follow(slot, &outcome));
    }
    TRY(members_look_again(slot->db, &slot->arena, slot->job->tenant, member->user, ACTOR,
                           &outcome));
    TRY(follow(slot, &outcome));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* --- by the clock ---------------------------------------------------------------------------- */

/* Grace that has ended long ago though nobody looked, and access that has been gone for long. */
static struct err sweep(struct slot *slot, const void *payload)
{
    int64_t archived;
    struct member_outcome outcome;
    (void)payload;
    do {
        TRY(pg_begin(slot->db));
        TRY(members_end_grace(slot->db, &slot->arena, ACTOR, &outcome));
        TRY(follow(slot, &outcome));
        TRY(pg_commit(slot->db));
    } while (outcome.change_count > 0);
    do {
        TRY(members_archive(slot->db, ACTOR, &archived));
    } while (archived > 0);
    TRY(pg_begin(slot->db));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static const struct handler handlers[] = {
    {JOB_members_membership, .handle_batch = memberships},
    {JOB_members_bill, .handle_batch = bills},
    {JOB_members_read, .handle = read_one},
    {JOB_members_recheck, .handle = recheck},
    {JOB_members_sweep, .handle = sweep},
};

static const struct worker members = {
    .name = "whopline-members",
    .purpose = "keeps the register of who has access",
    .queue = QUEUE_members,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .outside = &outside_face,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &members);
}
