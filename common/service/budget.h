#ifndef WHOPLINE_BUDGET_H
#define WHOPLINE_BUDGET_H
/* Budgets of calls, shared by all processes in Redis: one for each credential and operation.
 *
 * Calls are an interval apart, without bursts, and the interval is a little longer than the other
 * side asks for: moments are kept late by up to a second and the network, and no 60 s of the other
 * side's clock may hold more than its rate. Who asks gets a moment at most a second ahead or is
 * sent away with a time to come back: one by one, a little faster than calls are let pass. Bulk
 * calls have a second budget within the first, and reserve only what is about to come, so that an
 * event never waits behind more than that. The keys' fields are described in
 * schema/redis/reserve.lua. Any thread, as the outside given. */
#include "service/outside.h"

struct budget_answer {
    bool reserved;
    bool frozen;     /* not reserved: by a 429 */
    int64_t wait_us; /* until the moment, or before asking again */
};

MUST_CHECK struct err budget_reserve(struct outside *outside, const struct outside_target *target,
                                     struct budget_answer *out);
/* Just before the call: us for which it is frozen after all, else 0, and the call is counted. */
MUST_CHECK struct err budget_pass(struct outside *outside, const struct outside_target *target,
                                  int64_t *frozen_us);
MUST_CHECK struct err budget_freeze(struct outside *outside, const struct outside_target *target,
                                    int64_t ms);

#endif
