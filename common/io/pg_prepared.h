#ifndef WHOPLINE_PG_PREPARED_H
#define WHOPLINE_PG_PREPARED_H
/* Which statements of a connection come again and so are worth preparing, and their names there.
 *
 * A name is made of a hash of the statement's text, so that a name never means two texts, whichever
 * process or version of ours prepared it. Statements beyond the first PG_PREPARED_MAX are not
 * prepared. Part of struct pg, used by its thread. */
#include "base/base.h"

enum { PG_PREPARED_MAX = 128 };

struct pg_statement {
    uint64_t hash;
    char *sql;     /* own copy */
    char name[24]; /* wl_ and 16 hex digits */
    bool there;    /* the server has it */
};

struct pg_prepared {
    struct pg_statement statements[PG_PREPARED_MAX];
    size_t count;
};

/* Borrowed until pg_prepared_clear. NULL: seen for the first time, or there is no room. */
struct pg_statement *pg_prepared_use(struct pg_prepared *prepared, const char *sql);
void pg_prepared_clear(struct pg_prepared *prepared); /* the connection is gone, and all with it */

#endif
