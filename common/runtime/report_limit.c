#include "runtime/report_limit.h"

enum { MINUTE_MS = 60000 };

void report_limit_init(struct report_limit *limit, size_t max_per_minute, int64_t repeat_ms)
{
    memset(limit, 0, sizeof *limit);
    limit->repeat_ms = repeat_ms;
    limit->max_per_minute =
        max_per_minute < REPORT_PER_MINUTE_MAX ? max_per_minute : REPORT_PER_MINUTE_MAX;
}

static struct report_group *find(struct report_limit *limit, const struct report *report)
{
    for (size_t i = 0; i < REPORT_GROUPS_MAX; i++) {
        struct report_group *group = &limit->groups[i];
        if (group->used && strcmp(group->last.kind, report->kind) == 0 &&
            strcmp(group->last.error, report->error) == 0)
            return group;
    }
    return NULL;
}

static struct report_group *find_free(struct report_limit *limit, int64_t now_ms)
{
    for (size_t i = 0; i < REPORT_GROUPS_MAX; i++) {
        struct report_group *group = &limit->groups[i];
        if (group->used && (group->waiting > 0 || group->next_ms > now_ms))
            continue;
        limit->dropped += group->left_out;
        *group = (struct report_group){.used = true, .next_ms = now_ms};
        return group;
    }
    return NULL;
}

void report_limit_add(struct report_limit *limit, const struct report *report, int64_t now_ms)
{
    struct report_group *group = find(limit, report);
    if (group == NULL)
        group = find_free(limit, now_ms);
    limit->dropped += report->dropped;
    if (group == NULL) {
        limit->dropped++;
        return;
    }
    group->last = *report;
    group->waiting++;
}

/* When the minute's number allows another. */
static int64_t minute_allows_ms(const struct report_limit *limit)
{
    if (limit->sent_count < limit->max_per_minute)
        return 0;
    return limit->sent_ms[limit->sent_count % limit->max_per_minute] + MINUTE_MS;
}

static int64_t all_allow_ms(const struct report_limit *limit)
{
    int64_t minute_ms = minute_allows_ms(limit);
    return minute_ms > limit->hold_until_ms ? minute_ms : limit->hold_until_ms;
}

/* The one that has waited longest. */
static const struct report_group *first_waiting(const struct report_limit *limit)
{
    const struct report_group *first = NULL;
    for (size_t i = 0; i < REPORT_GROUPS_MAX; i++) {
        const struct report_group *group = &limit->groups[i];
        if (group->waiting > 0 && (first == NULL || group->next_ms < first->next_ms))
            first = group;
    }
    return first;
}

bool report_limit_next(struct report_limit *limit, int64_t now_ms, bool at_end, struct report *out,
                       int64_t *left_out)
{
    const struct report_group *first = first_waiting(limit);
    if (first == NULL || now_ms < all_allow_ms(limit) || (first->next_ms > now_ms && !at_end))
        return false;
    struct report_group *group = &limit->groups[first - limit->groups];
    *out = group->last;
    out->dropped = limit->dropped;
    *left_out = group->left_out + group->waiting - 1;
    limit->dropped = 0;
    group->waiting = 0;
    group->left_out = 0;
    group->next_ms = now_ms + limit->repeat_ms;
    limit->sent_ms[limit->sent_count++ % limit->max_per_minute] = now_ms;
    return true;
}

void report_limit_failed(struct report_limit *limit, const struct report *report, int64_t left_out)
{
    struct report_group *group = find(limit, report);
    limit->dropped += report->dropped;
    if (group != NULL)
        group->left_out += left_out + 1;
    else
        limit->dropped += left_out + 1;
}

void report_limit_hold(struct report_limit *limit, int64_t until_ms)
{
    limit->hold_until_ms = until_ms;
}

int64_t report_limit_wait(const struct report_limit *limit, int64_t now_ms)
{
    const struct report_group *first = first_waiting(limit);
    if (first == NULL)
        return -1;
    int64_t at_ms = all_allow_ms(limit);
    if (first->next_ms > at_ms)
        at_ms = first->next_ms;
    return at_ms > now_ms ? at_ms - now_ms : 0;
}

int64_t report_limit_unsent(const struct report_limit *limit)
{
    int64_t count = limit->dropped;
    for (size_t i = 0; i < REPORT_GROUPS_MAX; i++)
        count += limit->groups[i].waiting + limit->groups[i].left_out;
    return count;
}
