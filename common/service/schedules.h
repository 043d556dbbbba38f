#ifndef WHOPLINE_SCHEDULES_H
#define WHOPLINE_SCHEDULES_H
/* Schedules: each nominal slot fires once, whatever number of schedulers there is and whenever they
 * die. Blocking; the connection's thread; the clock is whopline_now().
 *
 * A firing is one transaction: the row of schedule_firings (schedule and slot are its key), the
 * job, and the schedule's next slot. Rows are taken FOR UPDATE SKIP LOCKED, so schedulers share the
 * work. When slots are is said in service/schedule_rule.h. */
#include "base/random.h"
#include "service/schedule_rule.h"

enum { SCHEDULE_NAME_MAX = 100 };

/* The built-in schedules (schema/schedules.def) into the table; new ones, and those whose cron or
 * zone has changed there and was not changed here. enabled: false: new ones rest. */
MUST_CHECK struct err schedules_install(struct pg *pg, bool enabled);

/* What a step has done; the names are those of schedule_firings.how, but for the first two. */
enum schedules_outcome {
    SCHEDULES_NOTHING, /* nothing is due */
    SCHEDULES_PLANNED, /* only the next slot was worked out */
    SCHEDULES_BROKEN,  /* the next slot cannot be worked out: it rests until somebody changes it */
    SCHEDULES_DUE,     /* fired in time, give or take SCHEDULE_GRACE_MS */
    SCHEDULES_MISSED,  /* fired later */
    SCHEDULES_SKIPPED, /* one or more slots left out, by its policy */
    SCHEDULES_OUTCOME_COUNT,
};
const char *schedules_outcome_name(enum schedules_outcome outcome);

struct schedules_step {
    enum schedules_outcome outcome;
    char name[SCHEDULE_NAME_MAX + 1]; /* cut off, if need be */
    int64_t late_ms;                  /* from the nominal slot to now */
    struct err why;                   /* with BROKEN */
};

/* Deals with the schedule that is overdue the most, in a transaction of its own. grace_ms: a slot
 * later than that was missed. */
MUST_CHECK struct err schedules_take_step(struct pg *pg, int64_t grace_ms,
                                          struct schedules_step *out);

/* Schedules whose next slot is later than their rule says, because the clock was ahead when it was
 * worked out: worked out anew, unless that slot was dealt with (or left out by hand) already.
 * *mended: how many. Statements of its own. */
MUST_CHECK struct err schedules_mend(struct pg *pg, size_t *mended);

/* In the caller's transaction, of a schedule locked by it: the row of the firing and, but with
 * SKIPPED, its job. how: as in the table. *fired: false if that slot was dealt with before. */
MUST_CHECK struct err schedules_add_firing(struct pg *pg, int64_t id, const char *slot,
                                           const char *how, char job_id[UUID_TEXT_SIZE],
                                           bool *fired);

#endif
