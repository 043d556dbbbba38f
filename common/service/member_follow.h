#ifndef WHOPLINE_MEMBER_FOLLOW_H
#define WHOPLINE_MEMBER_FOLLOW_H
/* What follows from a change of members, for every worker that tells service/members something:
 * events (workers/members.c) and looks through Whop's books (workers/sync.c) alike.
 *
 * Blocking; the connection's thread; errors are those of io/pg. */
#include "service/members.h"
#include "service/outside.h"
#include "service/queue.h"

/* Jobs to be added in the same transaction (slot_add_jobs); in the arena. */
struct member_jobs {
    struct outgoing *jobs;
    size_t count;
};

/* In the transaction that has changed the students: all of it, or nothing, becomes true. They are
 * hidden from applications until access_show, which is the caller's to do after COMMIT. */
MUST_CHECK struct err member_follow(struct pg *pg, struct outside *outside, struct arena *arena,
                                    struct member_outcome *outcome, struct member_jobs *out);

#endif
