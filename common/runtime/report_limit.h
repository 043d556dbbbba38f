#ifndef WHOPLINE_REPORT_LIMIT_H
#define WHOPLINE_REPORT_LIMIT_H
/* How many reports go out, and when. Pure: time is an argument, in milliseconds of any clock that
 * does not step back.
 *
 * Reports of one kind of job and one error are a group. A group's first report goes out at once; of
 * those that follow within repeat_ms one goes out at the end of that time, with the number of the
 * others. All groups together send at most max_per_minute in any 60 s. */
#include "codec/report.h"

enum {
    REPORT_GROUPS_MAX = 64,
    REPORT_PER_MINUTE_MAX = 600, /* of the setting */
};

struct report_group {
    struct report last; /* the newest: kind and error are the group's name */
    int64_t waiting;    /* not sent yet, last among them if not 0 */
    int64_t left_out;   /* sent in vain, to be counted in the next */
    int64_t next_ms;    /* not sooner */
    bool used;
};

struct report_limit {
    int64_t repeat_ms;
    size_t max_per_minute;
    int64_t hold_until_ms; /* the server asked for it */
    int64_t dropped;       /* for which there was no group, or no room before they came here */
    size_t sent_count;     /* all */
    int64_t sent_ms[REPORT_PER_MINUTE_MAX]; /* a ring of max_per_minute */
    struct report_group groups[REPORT_GROUPS_MAX];
};

void report_limit_init(struct report_limit *limit, size_t max_per_minute, int64_t repeat_ms);
void report_limit_add(struct report_limit *limit, const struct report *report, int64_t now_ms);
/* The next that may go out now, which counts as sent from then on. at_end: without waiting for
 * repeat_ms, since there will be no later. */
bool report_limit_next(struct report_limit *limit, int64_t now_ms, bool at_end, struct report *out,
                       int64_t *left_out);
/* It was not taken: the group's next one counts it. */
void report_limit_failed(struct report_limit *limit, const struct report *report, int64_t left_out);
void report_limit_hold(struct report_limit *limit, int64_t until_ms);
/* How many there were for which nothing has gone out: what is lost, should this be the end. */
int64_t report_limit_unsent(const struct report_limit *limit);
/* How long until report_limit_next has one; -1: nothing is waiting. */
int64_t report_limit_wait(const struct report_limit *limit, int64_t now_ms);

#endif
