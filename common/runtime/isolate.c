#include "base/clock.h"
#include "base/log.h"
#include "runtime/loop.h"

#include <stdlib.h>

enum { ISOLATION_LEASES = 3 /* so long may isolation hold up reading */ };

/* An entry that is ours and has not been started: it waits until it can run alone. */
struct suspect {
    struct suspect *next;
    char entry[LOOP_ENTRY_MAX];
};

void isolate_forget(struct loop *loop)
{
    while (loop->suspects != NULL) {
        struct suspect *suspect = loop->suspects;
        loop->suspects = suspect->next;
        free(suspect);
    }
}

bool isolate_give_up(struct loop *loop)
{
    int64_t now = clock_mono_ms();
    int64_t longest = ISOLATION_LEASES * loop->config->lease_ms;
    if (loop->isolating_ms == 0 || now - loop->isolating_ms < longest)
        return false;
    log_warning("worker", "a job does not end: reading goes on beside it");
    /* Suspects go to whoever is quiet: their leases run out. */
    isolate_forget(loop);
    loop->alone = false;
    loop->isolating_ms = 0;
    loop->reclaim_from_ms = now + longest;
    return true;
}

void isolate_add(struct loop *loop, struct span entry)
{
    struct suspect **last = &loop->suspects;
    struct suspect *suspect = mem_zalloc(sizeof *suspect);
    REQUIRE(entry.len < sizeof suspect->entry);
    memcpy(suspect->entry, entry.ptr, entry.len);
    while (*last != NULL)
        last = &(*last)->next;
    *last = suspect;
    log_warning("worker",
                "an entry has brought workers down, or ran beside one that did: it will "
                "run alone",
                LOG_TEXT("entry", suspect->entry));
}

bool isolate_has(const struct loop *loop, struct span entry)
{
    for (const struct suspect *suspect = loop->suspects; suspect != NULL; suspect = suspect->next)
        if (span_equal(span_of(suspect->entry), entry))
            return true;
    return false;
}

void isolate_lost(struct loop *loop, struct span entry)
{
    for (struct suspect **at = &loop->suspects; *at != NULL; at = &(*at)->next) {
        struct suspect *suspect = *at;
        if (!span_equal(span_of(suspect->entry), entry))
            continue;
        *at = suspect->next;
        free(suspect);
        return;
    }
}

size_t isolate_list(const struct loop *loop, struct span *entries, size_t max)
{
    size_t count = 0;
    for (const struct suspect *suspect = loop->suspects; suspect != NULL && count < max;
         suspect = suspect->next)
        entries[count++] = span_of(suspect->entry);
    return count;
}

bool isolate_next(struct loop *loop)
{
    struct suspect *suspect = loop->suspects;
    if (suspect == NULL && !loop->alone)
        loop->isolating_ms = 0;
    else if (loop->isolating_ms == 0)
        loop->isolating_ms = clock_mono_ms();
    if (suspect == NULL || loop->alone)
        return loop->alone;
    bool quiet = loop->busy == 0 && loop->ready.count == 0 && loop->starting == 0 &&
                 !loop->reading && !loop->reclaiming && !loop->held;
    if (quiet && redis_is_ready(loop->redis) && !intake_backs_off(loop)) {
        loop->alone = true;
        loop->isolating_ms = clock_mono_ms();
        loop->suspects = suspect->next;
        lease_start(loop, span_of(suspect->entry), true);
        free(suspect);
    }
    return true;
}
