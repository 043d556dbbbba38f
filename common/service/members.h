#ifndef WHOPLINE_MEMBERS_H
#define WHOPLINE_MEMBERS_H
/* The register of members: what memberships are told to be, and what follows for the people who
 * hold them. The rules are SQL (schema/sql/013_members.sql), where they hold for whoever touches
 * the tables.
 *
 * Blocking; the connection's thread; errors are those of io/pg. Every verb is part of a transaction
 * that the caller has begun, in which rows stay locked: students first, then memberships. */
#include "base/arena.h"
#include "base/random.h"
#include "codec/job.h"
#include "codec/whop.h"
#include "io/pg.h"

enum member_source {
    MEMBER_EVENT,
    MEMBER_READ, /* Whop's own answer */
    MEMBER_GONE, /* Whop knows of no such membership */
};

/* A telling of a membership. Texts are borrowed, "" where nothing was said. */
struct member_news {
    int64_t tenant;
    enum member_source source;
    const struct event *event; /* of an answer: as whop_news_of_membership makes one */
    int64_t asked_ms;          /* of an answer: when Whop was asked, by the database's clock */
    bool backfill;             /* found by a look through the books: nobody is written to */
};

/* What became of a student. */
struct member_change {
    int64_t tenant;
    const char *user;
    int64_t id;         /* member_changes.id; 0: only to be looked at again */
    const char *change; /* gained, returned, lost, archived, changed */
    const char *access; /* none, active, grace, revoked, archived */
    const char *tier;
    const char *tier_source; /* plan:..., product:..., default, override */
    const char *membership;  /* that was told of; "" if none */
    int64_t recheck_ms;      /* Unix; when grace ends; 0: it does not */
    bool backfill;
};

/* A membership about which Whop is to be asked. */
struct member_doubt {
    int64_t tenant;
    const char *user; /* "" if nobody has said */
    const char *membership;
    bool backfill;
};

/* In the arena. */
struct member_outcome {
    struct member_change *changes;
    size_t change_count;
    struct member_doubt *doubts;
    size_t doubt_count;
    size_t changed_count;        /* tellings that changed what was known of their membership */
    char hidden[UUID_TEXT_SIZE]; /* service/access: by which they are hidden in Redis */
};

/* Takes down what is told, and works out what follows for the students. actor: who is behind it. */
MUST_CHECK struct err members_note(struct pg *pg, struct arena *arena,
                                   const struct member_news *news, size_t count, const char *actor,
                                   struct member_outcome *out);
/* Payments of memberships that succeeded or failed; others are left alone. */
MUST_CHECK struct err members_note_bills(struct pg *pg, struct arena *arena,
                                         const struct member_news *news, size_t count,
                                         const char *actor, struct member_outcome *out);
/* Works it out once more, because time has passed. */
MUST_CHECK struct err members_look_again(struct pg *pg, struct arena *arena, int64_t tenant,
                                         const char *user, const char *actor,
                                         struct member_outcome *out);

/* Memberships of the user that only grace keeps, in the arena. */
struct member_ids {
    const char **ids;
    size_t count;
};
MUST_CHECK struct err members_list_in_grace(struct pg *pg, struct arena *arena, int64_t tenant,
                                            const char *user, struct member_ids *out);
/* Works out anew whose grace ended an hour ago and whom nobody has looked at since, a portion at a
 * time; in the caller's transaction. */
MUST_CHECK struct err members_end_grace(struct pg *pg, struct arena *arena, const char *actor,
                                        struct member_outcome *out);
/* Students who lost their access long ago, a portion at a time: *archived is how many; call again
 * while it is not 0. Makes a transaction of its own. */
MUST_CHECK struct err members_archive(struct pg *pg, const char *actor, int64_t *archived);

#endif
