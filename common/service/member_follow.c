#include "service/member_follow.h"

#include "base/log.h"
#include "service/access.h"
#include "service/mails.h"
#include "service/timers.h"

static struct span pack(struct arena *arena, const struct member *member)
{
    struct buf packed = {0};
    /* Ids of Whop's: far below the limit. */
    struct err err = payload_encode(PAYLOAD_member, member, &packed);
    REQUIRE(!err_failed(&err));
    struct span span = {arena_copy(arena, packed.ptr, packed.len), packed.len};
    buf_close(&packed);
    return span;
}

static void ask_later(struct arena *arena, const struct member_outcome *outcome,
                      struct member_jobs *out)
{
    out->count = outcome->doubt_count;
    out->jobs = arena_alloc(arena, out->count * sizeof *out->jobs);
    for (size_t i = 0; i < out->count; i++) {
        const struct member_doubt *doubt = &outcome->doubts[i];
        const struct member member = {.membership = doubt->membership,
                                      .user = doubt->user,
                                      .why = "what is told does not go together",
                                      .backfill = doubt->backfill};
        out->jobs[i] = (struct outgoing){
            .kind = JOB_members_read,
            .tenant = doubt->tenant,
            .key = arena_printf(arena, "%lld/%s", (long long)doubt->tenant, doubt->user),
            .event_id = "",
            .trace = doubt->membership,
            .version = job_type(JOB_members_read)->version,
            .bulk = doubt->backfill,
            .payload = pack(arena, &member),
        };
    }
}

/* Access in grace ends by itself: the timer's sequence is the second it ends in. */
static struct err look_again_later(struct pg *pg, struct arena *arena,
                                   const struct member_outcome *outcome)
{
    for (size_t i = 0; i < outcome->change_count; i++) {
        const struct member_change *change = &outcome->changes[i];
        if (change->recheck_ms == 0)
            continue;
        const struct member member = {
            .membership = "", .user = change->user, .why = "grace ends", .backfill = false};
        const struct timer timer = {
            .kind = JOB_members_recheck,
            .tenant = change->tenant,
            .entity = arena_printf(arena, "%lld/%s", (long long)change->tenant, change->user),
            .sequence = change->recheck_ms / 1000,
            .at_ms = change->recheck_ms,
            .payload = pack(arena, &member),
        };
        TRY(timers_set(pg, &timer, NULL));
    }
    return ERR_NONE;
}

struct err member_follow(struct pg *pg, struct outside *outside, struct arena *arena,
                         struct member_outcome *outcome, struct member_jobs *out)
{
    for (size_t i = 0; i < outcome->change_count; i++) {
        const struct member_change *change = &outcome->changes[i];
        if (change->id != 0)
            log_info("members", "a member's access", LOG_INT("tenant", change->tenant),
                     LOG_TEXT("user", change->user), LOG_TEXT("change", change->change),
                     LOG_TEXT("access", change->access), LOG_TEXT("tier", change->tier));
    }
    TRY(mails_follow(pg, arena, outcome));
    ask_later(arena, outcome, out);
    TRY(look_again_later(pg, arena, outcome));
    return access_hide(pg, outside, arena, outcome);
}
