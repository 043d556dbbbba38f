#ifndef WHOPLINE_CRON_H
#define WHOPLINE_CRON_H
/* Cron expressions: five fields (minute, hour, day of month, month, day of week) or @hourly and the
 * like, as Vixie cron reads them. Pure: any thread, nothing is owned.
 *
 * Lists, ranges, steps over a range or *, names of months and days (three letters, any case; 0 and
 * 7 are Sunday). If neither the day of month nor the day of week begins with *, a day matches that
 * is either; else it must be both.
 *
 * Times in here are *local minutes*: minutes from 1970-01-01 00:00 by the wall clock of some time
 * zone, as if it had no changes. Which moment a local minute is, and what becomes of one that does
 * not exist or exists twice, is service/schedules.h's business; for that cron_window gives all that
 * may matter around a moment. */
#include "base/err.h"

struct cron {
    uint64_t minutes; /* a bit for each value of a field that matches */
    uint32_t hours;
    uint32_t days;   /* bits 1 to 31 */
    uint32_t months; /* bits 1 to 12 */
    uint32_t weekdays;
    bool either_day; /* day of month OR day of week */
};

/* USAGE names the field that is wrong; also for days that never come, such as 30 February. */
MUST_CHECK struct err cron_parse(const char *text, struct cron *out);

/* The first local minute after that one that matches. false: there is none within CRON_YEARS, or
 * not before the year 9999. */
enum { CRON_YEARS = 9 }; /* from 29 February 2096 to that of 2104 are 8 */
bool cron_next(const struct cron *cron, int64_t after, int64_t *out);

/* Whether all hours match: then a schedule is thought of as "each hour", not "at that time". */
bool cron_is_hourly(const struct cron *cron);

/* The matching local minutes among which is that of the next moment after the one that has the
 * local minute `local`, at a change of the clock too, if that is by no more than
 * CRON_CHANGE_MINUTES. Ascending; returns how many. */
enum {
    CRON_CHANGE_MINUTES = 180,
    CRON_WINDOW_MAX = 4 * CRON_CHANGE_MINUTES, /* room for them */
};
size_t cron_window(const struct cron *cron, int64_t local, int64_t out[CRON_WINDOW_MAX]);

#endif
