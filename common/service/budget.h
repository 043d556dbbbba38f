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
    bool granted;
    bool frozen;     /* not granted: by a 429 */
    int64_t wait_us; /* until the moment, or before asking again */
};

/* The answer in a script's reply, for may_go of struct outside_follow. */
struct budget_answer budget_read(const int64_t *reply);
/* A moment for a call, which is counted. follow: NULL, or the call that may go at once. */
MUST_CHECK struct err budget_reserve(struct outside *outside, const struct outside_target *target,
                                     struct outside_follow *follow, struct budget_answer *out);
/* When the moment has come: whether it is frozen after all. Changes nothing. */
MUST_CHECK struct err budget_pass(struct outside *outside, const struct outside_target *target,
                                  struct outside_follow *follow, struct budget_answer *out);
MUST_CHECK struct err budget_freeze(struct outside *outside, const struct outside_target *target,
                                    int64_t ms);

#endif
