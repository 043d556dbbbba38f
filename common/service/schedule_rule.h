#ifndef WHOPLINE_SCHEDULE_RULE_H
#define WHOPLINE_SCHEDULE_RULE_H
/* When a schedule is due: its slots, which are moments. Blocking; the connection's thread.
 *
 * An interval's slots are its multiples since 1970. A cron expression's are the moments its local
 * minutes stand for, by PostgreSQL's time zones (whopline_slots in 006_schedules.sql):
 *   - a local time that does not exist, because the clock is put forward over it, runs once, at the
 *     moment it would have been: 02:30 in Berlin at 03:30 of that day;
 *   - one that exists twice runs once, the first time; unless the expression has all hours (*,
 * 0-23): then it means real hours, and runs at both;
 *   - two that stand for the same moment are one slot.
 * So "each hour" and what is finer neither skips nor doubles a real hour, and "at that time"
 * happens once a day. Where the change is half an hour (Lord Howe), full hours by that clock are
 * once 30 and once 90 minutes apart. Changes of more than three hours are not thought of. */
#include "io/pg.h"

struct schedule_rule {
    const char *cron;    /* "" where there is an interval */
    int64_t interval_ms; /* 0 where there is a cron */
    const char *zone;    /* a name PostgreSQL knows */
};

/* Appends the first slot after that moment; both are texts of a timestamptz. USAGE for an
 * expression that is wrong, PG_DATA for a zone that PostgreSQL does not know. */
MUST_CHECK struct err schedule_rule_next(struct pg *pg, const struct schedule_rule *rule,
                                         const char *after, struct buf *out);

#endif
