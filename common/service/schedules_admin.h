#ifndef WHOPLINE_SCHEDULES_ADMIN_H
#define WHOPLINE_SCHEDULES_ADMIN_H
/* What an operator does to schedules by hand. Blocking; the connection's thread; each call is a
 * transaction of its own with its row of audit_log, and waits for a scheduler that is firing it.
 *
 * NOT_FOUND for a name that no schedule has. */
#include "service/schedules.h"

struct schedules_hand {
    const char *name; /* of the schedule */
    const char *actor;
    const char *reason; /* "" for none */
};

/* One more firing, whose slot is this moment; the next slot stays. Also of one that is disabled. */
MUST_CHECK struct err schedules_fire(struct pg *pg, const struct schedules_hand *hand,
                                     char job_id[UUID_TEXT_SIZE]);
/* The next slot is left out. Appends that slot and the one after it. */
MUST_CHECK struct err schedules_skip(struct pg *pg, const struct schedules_hand *hand,
                                     struct buf *skipped, struct buf *next);
/* Enabled again it goes on with the next slot from now; what was missed meanwhile stays so. Also
 * wakes one that rests because of an error. *changed: false if it was so already. */
MUST_CHECK struct err schedules_enable(struct pg *pg, const struct schedules_hand *hand,
                                       bool enabled, bool *changed);
/* Another time: cron and zone, either NULL to stay. Appends the next slot. */
MUST_CHECK struct err schedules_set(struct pg *pg, const struct schedules_hand *hand,
                                    const char *cron, const char *zone, struct buf *next);

#endif
