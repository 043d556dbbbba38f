#include "service/budget.h"

#include "service/keys.h"
#include "service/scripts.h"

#include <stdio.h>

enum {
    US_PER_MS = 1000,
    AHEAD_US = 1000000,     /* how far ahead a moment is reserved at most */
    BULK_AHEAD_US = 500000, /* for bulk: an event does not wait behind more of it */
    LINE_US = 60000000,     /* beyond it nobody is told when his turn is */
    /* Calls leave up to a second late and the network adds to it: 60 s of the other side's may hold
     * what was meant for 61.7 s. */
    MARGIN_PERCENT = 3,
    NUMBER_SIZE = 24,
    ARGS_MAX = 5,
    REPLY_MAX = 3,
};

struct call {
    char key[KEY_MAX];
    char numbers[ARGS_MAX][NUMBER_SIZE];
    struct span args[ARGS_MAX];
    size_t count;
};

static void begin(struct call *call, const struct outside *outside,
                  const struct outside_target *target)
{
    key_budget(outside->config->stream_prefix, target->credential, target->operation, call->key);
    call->args[0] = span_of(call->key);
    call->count = 1;
}

static void add(struct call *call, int64_t number)
{
    char *text = call->numbers[call->count];
    int len = snprintf(text, NUMBER_SIZE, "%lld", (long long)number);
    call->args[call->count++] = (struct span){text, (size_t)len};
}

/* reply: REPLY_MAX places. */
static struct err eval(struct outside *outside, const struct call *call, size_t name,
                       int64_t *reply, struct outside_follow *follow)
{
    const struct outside_script script = {.script = name,
                                          .key_count = 1,
                                          .args = call->args,
                                          .count = call->count,
                                          .out = reply,
                                          .out_count = REPLY_MAX};
    return outside->ops->eval(outside->data, &script, follow);
}

struct budget_answer budget_read(const int64_t *reply)
{
    return (struct budget_answer){
        .granted = reply[0] == 1, .wait_us = reply[1], .frozen = reply[2] == 1};
}

struct err budget_reserve(struct outside *outside, const struct outside_target *target,
                          struct outside_follow *follow, struct budget_answer *out)
{
    struct call call;
    int64_t reply[REPLY_MAX] = {0};
    int64_t interval_us = target->interval_us * (100 + MARGIN_PERCENT) / 100;
    int64_t apart_us = interval_us * 100 / outside->config->whop_bulk_share_percent;
    begin(&call, outside, target);
    add(&call, interval_us);
    add(&call, target->bulk ? BULK_AHEAD_US : AHEAD_US);
    add(&call, LINE_US);
    add(&call, target->bulk ? apart_us : 0);
    TRY(eval(outside, &call, SCRIPT_RESERVE, reply, follow));
    *out = budget_read(reply);
    return ERR_NONE;
}

struct err budget_pass(struct outside *outside, const struct outside_target *target,
                       struct outside_follow *follow, struct budget_answer *out)
{
    struct call call;
    int64_t reply[REPLY_MAX] = {0};
    begin(&call, outside, target);
    TRY(eval(outside, &call, SCRIPT_PASS, reply, follow));
    *out = budget_read(reply);
    return ERR_NONE;
}

struct err budget_freeze(struct outside *outside, const struct outside_target *target, int64_t ms)
{
    struct call call;
    int64_t reply[REPLY_MAX] = {0};
    begin(&call, outside, target);
    add(&call, ms * US_PER_MS);
    return eval(outside, &call, SCRIPT_FREEZE, reply, NULL);
}
