#ifndef WHOPLINE_VERDICT_H
#define WHOPLINE_VERDICT_H
/* What follows from a handler's error. Pure: time and chance are arguments. */
#include "base/err.h"

struct verdict_limits {
    int max_attempts; /* failed attempts until a job is dead */
    int64_t max_age_ms;
    int64_t backoff_base_ms;
    int64_t backoff_max_ms;
};

enum verdict_action {
    VERDICT_DONE, /* with or without effect */
    VERDICT_SKIP,
    VERDICT_PARK,
    VERDICT_DEAD,
    VERDICT_RETRY,
};

struct verdict {
    enum verdict_action action;
    int64_t delay_ms; /* RETRY */
    int attempt;      /* failed attempts so far, this one included if it counts */
    char reason[96];  /* SKIP, PARK and DEAD: a word for the row; whole characters of UTF-8 */
};

/* attempt: failed ones before this. age_ms: since the job was first enqueued. chance: 0 .. 65535.
 * The wait after the n-th failure is min(backoff_max, backoff_base * 2^n), half of it fixed and
 * half random. */
struct verdict verdict_decide(const struct err *err, int attempt, int64_t age_ms,
                              const struct verdict_limits *limits, uint32_t chance);

#endif
