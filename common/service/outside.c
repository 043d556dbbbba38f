#include "service/outside.h"

#include "base/clock.h"
#include "base/random.h"
#include "service/budget.h"
#include "service/outside_shared.h"

enum {
    US_PER_MS = 1000,
    LATE_MAX_MS = 1000, /* a moment that was missed by more is gone */
    /* RESERVE looks at the freeze too. Of one that comes so soon after it a call that is on the way
     * to the other side would not hear either. */
    FRESH_MS = 50,
    AFTER_MAX_MS = 7 * 86400000, /* what anybody is told to wait */
    /* Part of the wait by which those who come back together are scattered. */
    SCATTER = 8,
};

/* PASS and what follows must not come early: the clocks here and of Redis may run apart a little.
 */
static int64_t up_to_ms(int64_t us)
{
    return (us + US_PER_MS - 1) / US_PER_MS;
}

static struct err limited(struct outside *outside, const struct outside_target *target,
                          enum outside_limit why, int64_t wait_ms)
{
    static const char *const words[] = {
        [OUTSIDE_BUDGET] = "the budget of calls is used up",
        [OUTSIDE_FROZEN] = "the other side asked to wait",
        [OUTSIDE_BREAKER] = "the other side fails too often",
    };
    int64_t after_ms = wait_ms < AFTER_MAX_MS ? wait_ms : AFTER_MAX_MS;
    after_ms += random_below((uint32_t)after_ms / SCATTER + 1) + 1;
    outside_shared_limited(outside->shared, target, why);
    struct err err = err_make(why == OUTSIDE_BREAKER ? ERR_BREAKER_OPEN : ERR_LIMITED,
                              "%s: no %s with %s for %lld ms", words[why], target->operation,
                              target->credential, (long long)wait_ms);
    err.after_ms = (uint32_t)after_ms;
    return err;
}

static struct err refused(struct outside *outside, const struct outside_target *target,
                          const struct budget_answer *answer)
{
    return limited(outside, target, answer->frozen ? OUTSIDE_FROZEN : OUTSIDE_BUDGET,
                   up_to_ms(answer->wait_us));
}

/* A call on the heels of a script. */
struct passage {
    struct outside *outside;
    const struct outside_target *target;
    int64_t until_ms; /* it may go at once; later its caller has to look */
};

static bool may_go(void *data, const int64_t *reply)
{
    struct passage *passage = data;
    struct budget_answer answer = budget_read(reply);
    return answer.granted && answer.wait_us == 0 && clock_mono_ms() <= passage->until_ms &&
           outside_shared_begin(passage->outside->shared, passage->target) == 0;
}

/* follow: NULL, or the call, if the moment is at once. */
static struct err reserve(struct outside *outside, const struct outside_target *target,
                          struct outside_follow *follow, struct outside_ticket *out)
{
    struct budget_answer answer;
    int64_t fresh_until_ms = clock_mono_ms() + FRESH_MS;
    struct passage passage = {outside, target, fresh_until_ms};
    *out = (struct outside_ticket){0};
    int64_t broken_ms = outside_shared_look(outside->shared, target);
    if (broken_ms > 0)
        return limited(outside, target, OUTSIDE_BREAKER, broken_ms);
    if (follow != NULL)
        follow->data = &passage;
    TRY(budget_reserve(outside, target, follow, &answer));
    if (!answer.granted)
        return refused(outside, target, &answer);
    out->at_mono_ms = clock_mono_ms() + up_to_ms(answer.wait_us);
    out->fresh_until_ms = answer.wait_us == 0 ? fresh_until_ms : 0;
    return ERR_NONE;
}

/* follow: NULL, or the call, if nothing speaks against it. */
static struct err pass(struct outside *outside, const struct outside_target *target,
                       const struct outside_ticket *ticket, struct outside_follow *follow)
{
    struct budget_answer answer;
    struct passage passage = {outside, target, ticket->at_mono_ms + LATE_MAX_MS};
    if (follow != NULL)
        follow->data = &passage;
    TRY(budget_pass(outside, target, follow, &answer));
    return answer.granted ? ERR_NONE : refused(outside, target, &answer);
}

/* All of outside_wait; the call may have followed. */
static struct err await(struct outside *outside, const struct outside_target *target,
                        const struct outside_ticket *ticket, struct outside_follow *follow)
{
    int64_t early_ms = ticket->at_mono_ms - clock_mono_ms();
    if (early_ms > 0)
        TRY(outside->ops->wait(outside->data, early_ms));
    if (clock_mono_ms() > ticket->fresh_until_ms)
        TRY(pass(outside, target, ticket, follow));
    if (follow != NULL && follow->called)
        return ERR_NONE;
    /* Moments are for others too: who comes late makes a crowd of two. */
    if (clock_mono_ms() - ticket->at_mono_ms > LATE_MAX_MS)
        return limited(outside, target, OUTSIDE_BUDGET, up_to_ms(target->interval_us));
    int64_t broken_ms = outside_shared_begin(outside->shared, target);
    return broken_ms > 0 ? limited(outside, target, OUTSIDE_BREAKER, broken_ms) : ERR_NONE;
}

struct err outside_reserve(struct outside *outside, const struct outside_target *target,
                           struct outside_ticket *out)
{
    return reserve(outside, target, NULL, out);
}

struct err outside_wait(struct outside *outside, const struct outside_target *target,
                        const struct outside_ticket *ticket)
{
    return await(outside, target, ticket, NULL);
}

void outside_send(struct outside *outside, const struct outside_target *target,
                  const struct http_request *request, struct http_response *response)
{
    outside->ops->http(outside->data, request, response);
    outside_shared_tell(outside->shared, target, response);
}

struct err outside_freeze(struct outside *outside, const struct outside_target *target, int64_t ms)
{
    return budget_freeze(outside, target, ms);
}

struct err outside_call(struct outside *outside, const struct outside_target *target,
                        const struct http_request *request, struct http_response *response)
{
    struct outside_ticket ticket = {0};
    struct outside_follow follow = {.request = request, .response = response, .may_go = may_go};
    TRY(reserve(outside, target, &follow, &ticket));
    if (!follow.called)
        TRY(await(outside, target, &ticket, &follow));
    if (follow.called)
        outside_shared_tell(outside->shared, target, response);
    else
        outside_send(outside, target, request, response);
    return ERR_NONE;
}
