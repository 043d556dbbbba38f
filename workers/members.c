/* whopline-members: what Whop tells of memberships becomes a register of who has access.
 *
 * Each event adds to what is known; then the students it is about are worked out anew
 * (service/members), so that it does not matter which event comes first, or how often. What gained,
 * lost and changed means is decided here and nowhere else; what follows from it is inserted in the
 * same transaction. Where events contradict each other, Whop is asked. */
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/access.h"
#include "service/mails.h"
#include "service/member_follow.h"
#include "service/members_whop.h"

#define ACTOR "whopline-members"

enum { GONE_AFTER = 4 }; /* attempts: five minutes in all */

/* --- what follows ---------------------------------------------------------------------------- */

/* In the transaction that has changed the students. */
static struct err follow(struct slot *slot, struct member_outcome *outcome)
{
    struct member_jobs jobs;
    TRY(member_follow(slot->db, slot->outside, &slot->arena, outcome, &jobs));
    return slot_add_jobs(slot, jobs.jobs, jobs.count);
}

/* After COMMIT. */
static void show(struct slot *slot, const struct member_outcome *outcome)
{
    access_show(slot->db, slot->outside, &slot->arena, outcome);
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

/* Whoever has done them may have died before Redis could show what became of the students. */
static void show_again(struct slot *slot, const struct batch_item *items, size_t count)
{
    struct pg_array tenants;
    struct pg_array memberships;
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    pg_array_init(&memberships, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        const struct event *event = items[i].payload;
        pg_array_add_integer(&tenants, items[i].job->tenant);
        pg_array_add_text(&memberships, event->membership);
    }
    access_renew(slot->db, slot->outside, &slot->arena, &tenants, &memberships);
    pg_array_close(&tenants);
    pg_array_close(&memberships);
}

static struct err memberships(struct slot *slot, struct batch_item *items, size_t count)
{
    struct member_news *news;
    struct member_outcome outcome = {0};
    size_t told = gather(slot, items, count, &news);
    if (told > 0)
        TRY(members_note(slot->db, &slot->arena, news, told, ACTOR, &outcome));
    TRY(follow(slot, &outcome));
    TRY(slot_commit_batch(slot, items, count));
    show(slot, &outcome);
    return ERR_NONE;
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
    TRY(slot_commit_batch(slot, items, count));
    show(slot, &outcome);
    return ERR_NONE;
}

/* --- asking Whop ----------------------------------------------------------------------------- */

static struct err take(struct slot *slot, const struct member_news *news, size_t count)
{
    struct member_outcome outcome;
    TRY(pg_begin(slot->db));
    TRY(members_note(slot->db, &slot->arena, news, count, ACTOR, &outcome));
    TRY(follow(slot, &outcome));
    TRY(slot_commit(slot, JOB_STATE_DONE, ""));
    show(slot, &outcome);
    return ERR_NONE;
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
    access_include(&slot->arena, &outcome, slot->job->tenant, member->user);
    TRY(follow(slot, &outcome));
    TRY(slot_commit(slot, JOB_STATE_DONE, ""));
    show(slot, &outcome);
    return ERR_NONE;
}

/* --- for applications ------------------------------------------------------------------------ */

/* Nothing is known now that was not before. */
static struct err end_unanswered(struct slot *slot, const char *id, const struct err *err)
{
    bool may_not = err->code == ERR_FORBIDDEN;
    TRY(pg_begin(slot->db));
    /* A lost permission is not the members' fault; for the rest the time runs that they may go on.
     */
    if (may_not)
        TRY(access_give_up(slot->db, slot->job->tenant, id));
    return slot_commit(slot, JOB_STATE_SKIPPED, may_not ? "no_permission" : "whop_does_not_answer");
}

static struct err end_answered(struct slot *slot, const struct member_news *news, size_t count,
                               const char *id, const struct member_answers *answers)
{
    struct member_outcome outcome = {0};
    int64_t tenant = slot->job->tenant;
    TRY(pg_begin(slot->db));
    if (count > 0)
        TRY(members_note(slot->db, &slot->arena, news, count, ACTOR, &outcome));
    TRY(access_answered(slot->db, tenant, id, answers->asked_ms));
    if (answers->complete)
        TRY(access_doubt_missing(slot->db, &slot->arena, tenant, id, answers, &outcome));
    for (size_t i = 0; i < count; i++)
        access_include(&slot->arena, &outcome, tenant, news[i].event->user);
    TRY(follow(slot, &outcome));
    TRY(slot_commit(slot, JOB_STATE_DONE, ""));
    show(slot, &outcome);
    return ERR_NONE;
}

/* An application waits for the answer: a failure is left to its next question, soon. */
static bool is_hopeless(const struct slot *slot, const struct err *err)
{
    enum err_class class = err_class_of(err->code);
    return class == ERR_CLASS_AUTH || class == ERR_CLASS_PARK || class == ERR_CLASS_PERMANENT ||
           ((class == ERR_CLASS_TRANSIENT || class == ERR_CLASS_UNKNOWN) &&
            slot->job->attempt >= GONE_AFTER);
}

/* Errors of the outside only: the database's are the job's. */
static struct err ask_one(struct slot *slot, const char *id)
{
    const struct member_question question = {
        .tenant = slot->job->tenant, .membership = id, .user = "", .stranger = true};
    struct member_answers answers = {0};
    struct member_news news;
    struct err err = members_ask(slot->db, slot->outside, &slot->arena, &question, &news);
    if (err.code == ERR_WHOP_NOT_FOUND) {
        members_say_gone(&slot->arena, &question, &news);
        answers.asked_ms = news.asked_ms;
        answers.complete = true;
        return end_answered(slot, NULL, 0, id, &answers);
    }
    TRY(err);
    answers.asked_ms = news.asked_ms;
    return end_answered(slot, &news, 1, id, &answers);
}

static struct err ask_user(struct slot *slot, const char *id)
{
    const struct member_question question = {
        .tenant = slot->job->tenant, .membership = "", .user = id};
    struct member_answers answers;
    struct err err = members_ask_user(slot->db, slot->outside, &slot->arena, &question, &answers);
    if (err.code == ERR_WHOP_NOT_FOUND)
        answers.complete = true;
    else
        TRY(err);
    return end_answered(slot, answers.news, answers.count, id, &answers);
}

static struct err ask(struct slot *slot, const void *payload)
{
    const struct member *member = payload;
    bool by_user = !text_is_empty(member->user);
    const char *id = by_user ? member->user : member->membership;
    struct err err = by_user ? ask_user(slot, id) : ask_one(slot, id);
    if (!err_failed(&err) || !is_hopeless(slot, &err) || pg_in_transaction(slot->db))
        return err;
    return end_unanswered(slot, id, &err);
}

/* --- by the clock ---------------------------------------------------------------------------- */

/* Grace that has ended long ago though nobody looked, and access that has been gone for long. */
static struct err sweep(struct slot *slot, const void *payload)
{
    int64_t archived;
    int64_t forgotten;
    struct member_outcome outcome;
    (void)payload;
    do {
        TRY(pg_begin(slot->db));
        TRY(members_end_grace(slot->db, &slot->arena, ACTOR, &outcome));
        TRY(follow(slot, &outcome));
        TRY(pg_commit(slot->db));
        show(slot, &outcome);
    } while (outcome.change_count > 0);
    do {
        TRY(members_archive(slot->db, ACTOR, &archived));
    } while (archived > 0);
    do {
        TRY(access_forget(slot->db, &forgotten));
    } while (forgotten > 0);
    TRY(pg_begin(slot->db));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static const struct handler handlers[] = {
    {JOB_members_membership, .handle_batch = memberships, .handle_skipped = show_again},
    {JOB_members_bill, .handle_batch = bills, .handle_skipped = show_again},
    {JOB_members_read, .handle = read_one},
    {JOB_members_recheck, .handle = recheck},
    {JOB_members_ask, .handle = ask},
    {JOB_members_sweep, .handle = sweep},
};

static struct err prepare(struct slot *slot)
{
    return access_prepare(slot->db, slot->config);
}

static const struct worker members = {
    .name = "whopline-members",
    .purpose = "keeps the register of who has access",
    .queue = QUEUE_members,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .prepare = prepare,
    .outside = &outside_face,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &members);
}
