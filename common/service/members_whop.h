#ifndef WHOPLINE_MEMBERS_WHOP_H
#define WHOPLINE_MEMBERS_WHOP_H
/* What Whop says of a membership, asked for because nobody else can decide. Blocking; the
 * connection's thread; no transaction may be open. */
#include "service/members.h"
#include "service/tenant_whop.h"

struct member_question {
    int64_t tenant;
    const char *membership;
    const char *user; /* who is said to hold it; "" if nobody has said */
    bool bulk;        /* goes behind what events ask */
    bool backfill;
    bool stranger; /* nothing says yet that it is this company's: another's is WHOP_NOT_FOUND */
};

/* *out, in the arena, is for members_note. Also after an error *out says when Whop was asked, if it
 * was. That Whop does not know the membership is an answer,
 * too: WHOP_NOT_FOUND is for the caller to wait a while before he believes it (members_say_gone).
 *
 * Where Whop's answer belongs to a status nobody knows, the user's access to the product is asked
 * for as well. */
MUST_CHECK struct err members_ask(struct pg *pg, struct outside *outside, struct arena *arena,
                                  const struct member_question *question, struct member_news *out);
/* Whop knows of no such membership, and has had its time. *out: as members_ask has left it, for
 * what has been told since then stands. */
void members_say_gone(struct arena *arena, const struct member_question *question,
                      struct member_news *out);

/* For whoever reads lists: where the status is one nobody knows, asks for the access and says it in
 * event->valid. False in *out: there is nothing to go by. whop: open; the texts are in its arena.
 */
MUST_CHECK struct err members_complete(struct whop *whop, struct event *event, bool *out);

/* What Whop lists of a user, in the arena. */
struct member_answers {
    struct member_news *news;
    size_t count;
    int64_t asked_ms; /* by the database's clock */
    bool complete;    /* false: there were too many pages */
};
/* All memberships of question->user in the tenant's company, for members_note. */
MUST_CHECK struct err members_ask_user(struct pg *pg, struct outside *outside, struct arena *arena,
                                       const struct member_question *question,
                                       struct member_answers *out);

#endif
