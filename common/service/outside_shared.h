#ifndef WHOPLINE_OUTSIDE_SHARED_H
#define WHOPLINE_OUTSIDE_SHARED_H
/* What all calls of a process to the outside share: breakers (service/breaker.h), and figures for
 * /metrics, by operation (schema/operations.def). Any thread. */
#include "base/config.h"
#include "base/metric.h"
#include "service/outside.h"

enum outside_limit { OUTSIDE_BUDGET, OUTSIDE_FROZEN, OUTSIDE_BREAKER, OUTSIDE_LIMIT_COUNT };

struct outside_shared *outside_shared_new(const struct config *config);
void outside_shared_free(struct outside_shared *shared); /* NULL is no harm */

/* How long the target's host is to be left alone, ms; 0: call. */
int64_t outside_shared_look(struct outside_shared *shared, const struct outside_target *target);
/* The same, and a call follows. */
int64_t outside_shared_begin(struct outside_shared *shared, const struct outside_target *target);
/* What came of the call. */
void outside_shared_tell(struct outside_shared *shared, const struct outside_target *target,
                         const struct http_response *response);
void outside_shared_limited(struct outside_shared *shared, const struct outside_target *target,
                            enum outside_limit why);

/* What a run of service/outbound has made of a call with effect. */
enum outside_ending {
    OUTSIDE_ENDED_DONE,
    OUTSIDE_ENDED_FOUND, /* by looking */
    OUTSIDE_ENDED_REFUSED,
    OUTSIDE_ENDED_UNKNOWN,
    OUTSIDE_ENDED_PARKED,
    OUTSIDE_ENDED_NOT_MADE, /* nothing has happened */
    OUTSIDE_ENDING_COUNT
};
void outside_shared_ended(struct outside_shared *shared, const struct outside_target *target,
                          enum outside_ending ending);

void outside_shared_write(struct outside_shared *shared, struct metric_page *page);

#endif
