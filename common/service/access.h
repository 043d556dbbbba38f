#ifndef WHOPLINE_ACCESS_H
#define WHOPLINE_ACCESS_H
/* What applications are told of members: the functions of schema/sql/015_access.sql answer from the
 * register, and Redis holds copies of it under keys of their own (docs/access.md), which nobody who
 * has lost his access may be found in for longer than a moment.
 *
 *   students locked ─> access_hide ─> COMMIT ─> access_show
 *                      a tombstone              the answer, if it is still that tombstone
 *
 * Without the tombstone there is no COMMIT; whoever may have something newer to show has put one of
 * his own since. So it does not matter who dies or is slow, where, and for how long: at worst there
 * is nothing in Redis, and applications ask the register. Whoever changes students hides and shows
 * them.
 *
 * Blocking; the connection's thread. */
#include "io/pg.h"
#include "service/members_whop.h"
#include "service/outside.h"

/* Students named in outcome->changes, whose rows the open transaction has locked. An error (Redis
 * away, or not answering in time): do not commit, come again. */
MUST_CHECK struct err access_hide(struct pg *pg, struct outside *outside, struct arena *arena,
                                  struct member_outcome *outcome);
/* After COMMIT. What cannot be shown is asked for. */
void access_show(struct pg *pg, struct outside *outside, struct arena *arena,
                 const struct member_outcome *outcome);
/* Hides and shows, as they are, those who hold these memberships (bigint[], text[]); in a
 * transaction of its own. What cannot be shown is asked for. */
void access_renew(struct pg *pg, struct outside *outside, struct arena *arena,
                  struct pg_array *tenants, struct pg_array *memberships);
/* A student of whom there may be nothing to tell but that it is so: is hidden and shown with the
 * others of the outcome. His row must be locked, or not be there. */
void access_include(struct arena *arena, struct member_outcome *outcome, int64_t tenant,
                    const char *user);

/* Whop was asked at that moment, and has answered. In the transaction that takes it down. */
MUST_CHECK struct err access_answered(struct pg *pg, int64_t tenant, const char *id,
                                      int64_t asked_ms);
/* Memberships that give access here, and which Whop has not shown when it was asked about id (a
 * user or a membership): they become doubts of the outcome, to be asked about one by one. */
MUST_CHECK struct err access_doubt_missing(struct pg *pg, struct arena *arena, int64_t tenant,
                                           const char *id, const struct member_answers *answers,
                                           struct member_outcome *outcome);
/* Whop cannot be asked about it: what is known goes on. */
MUST_CHECK struct err access_give_up(struct pg *pg, int64_t tenant, const char *id);

/* Writes down, for the functions, what the environment says. */
MUST_CHECK struct err access_prepare(struct pg *pg, const struct config *config);
/* Forgets a portion of what applications asked long ago; *forgotten is how many. */
MUST_CHECK struct err access_forget(struct pg *pg, int64_t *forgotten);

/* What `whopline members allow` lets a role do, or no more. A transaction of its own. */
MUST_CHECK struct err access_allow(struct pg *pg, const char *role, bool revoke, const char *actor);

#endif
