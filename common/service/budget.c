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

static struct err eval(struct outside *outside, struct call *call, size_t script, int64_t *out,
                       size_t out_count)
{
    return outside->ops->eval(outside->data, script, 1, call->args, call->count, out, out_count);
}

struct err budget_reserve(struct outside *outside, const struct outside_target *target,
                          struct budget_answer *out)
{
    struct call call;
    int64_t reply[3] = {0};
    int64_t interval_us = target->interval_us * (100 + MARGIN_PERCENT) / 100;
    int64_t apart_us = interval_us * 100 / outside->config->whop_bulk_share_percent;
    begin(&call, outside, target);
    add(&call, interval_us);
    add(&call, target->bulk ? BULK_AHEAD_US : AHEAD_US);
    add(&call, LINE_US);
    add(&call, target->bulk ? apart_us : 0);
    TRY(eval(outside, &call, SCRIPT_RESERVE, reply, ARRAY_LEN(reply)));
    *out = (struct budget_answer){
        .reserved = reply[0] == 1, .frozen = reply[2] == 1, .wait_us = reply[1]};
    return ERR_NONE;
}

struct err budget_pass(struct outside *outside, const struct outside_target *target,
                       int64_t *frozen_us)
{
    struct call call;
    begin(&call, outside, target);
    return eval(outside, &call, SCRIPT_PASS, frozen_us, 1);
}

struct err budget_freeze(struct outside *outside, const struct outside_target *target, int64_t ms)
{
    struct call call;
    int64_t frozen_us;
    begin(&call, outside, target);
    add(&call, ms * US_PER_MS);
    return eval(outside, &call, SCRIPT_FREEZE, &frozen_us, 1);
}
