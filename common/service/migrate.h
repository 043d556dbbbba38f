#ifndef WHOPLINE_MIGRATE_H
#define WHOPLINE_MIGRATE_H
/* The schema and its history: the numbered files of schema/sql, embedded in the programs, and the
 * table schema_migrations, which says what a database has been given and when.
 *
 * History goes forward only. A file that has been applied never changes: its SHA-256 is kept, and a
 * difference is refused. Each file is one transaction under an advisory lock of that transaction,
 * so that runners started at once take turns and nothing is held by one that dies. A database newer
 * than the program is left alone and may be used: each release must run on the next one's schema.
 * The caller's thread; pg is borrowed and must not be in a transaction. */
#include "io/pg.h"

struct migrate_status {
    int known;     /* files this program has */
    int applied;   /* of these, how many the database has */
    int newer;     /* rows of the database that this program does not know */
    char last[96]; /* the database's newest, "002_credits"; "" if none */
};

/* A file has been applied. name: "002_credits". */
typedef void migrate_callback(const char *name, int64_t elapsed_ms, void *data);

/* Applies what is missing. PG_SCHEMA if the history is not ours (a changed file, a gap); the text
 * names the file and says what to do. on_applied may be NULL; status is filled in on success. */
MUST_CHECK struct err migrate_apply(struct pg *pg, migrate_callback *on_applied, void *data,
                                    struct migrate_status *status);

/* Changes nothing. PG_SCHEMA if the history is not ours. status: also says what is missing. */
MUST_CHECK struct err migrate_inspect(struct pg *pg, struct migrate_status *status);

/* For programs at start: PG_SCHEMA also when something is missing; a newer schema is accepted with
 * a warning in the log. */
MUST_CHECK struct err migrate_check(struct pg *pg);

#endif
