#ifndef WHOPLINE_PG_H
#define WHOPLINE_PG_H
/* One connection to PostgreSQL, blocking, opened at the first use and again after a loss.
 *
 * One thread at a time. The result of a statement belongs to the connection and is valid until the
 * next statement. Works through a pooler in transaction mode: nothing here that must live longer
 * than a transaction does. Errors: PG_DOWN (cannot connect, connection lost, or a server that
 * cannot work now: full, read-only, shutting down; a transaction in progress is gone, and if it was
 * COMMIT nobody knows), PG_CONFLICT (40001, 40P01, 55P03: run the transaction again), PG_DATA
 * (classes 22 and 23: these values will never be accepted; so does 54), PG_CANCELLED (57014:
 * pg_cancel, an operator or a statement_timeout), PG_FAILED (all else). Texts hold PostgreSQL's
 * primary message, never the statement's values. */
#include "base/buf.h"
#include "base/err.h"

struct pg;

struct pg *pg_new(const char *url); /* borrowed; not connected yet */
void pg_free(struct pg *pg);

/* A statement's parameter. Text form unless binary. */
struct pg_param {
    const char *ptr; /* NULL: SQL NULL */
    size_t len;
    bool binary;
    char digits[24]; /* where integers are written */
};

struct pg_param pg_text(const char *text);         /* NULL: SQL NULL */
struct pg_param pg_text_or_null(const char *text); /* "" is SQL NULL too */
struct pg_param pg_integer(int64_t number);
struct pg_param pg_flag(bool value);
struct pg_param pg_bytes(struct span bytes); /* bytea */

/* A one-dimensional array as a parameter, in binary form. */
enum pg_element { PG_ELEMENT_TEXT, PG_ELEMENT_BYTEA, PG_ELEMENT_BIGINT };
struct pg_array {
    struct buf bytes;
    enum pg_element element;
    uint32_t count;
};
void pg_array_init(struct pg_array *array, enum pg_element element);
void pg_array_add(struct pg_array *array, struct span value);
void pg_array_add_text(struct pg_array *array, const char *text); /* "" stays "" */
void pg_array_add_integer(struct pg_array *array, int64_t number);
struct pg_param pg_array_param(struct pg_array *array); /* borrowed until pg_array_close */
void pg_array_close(struct pg_array *array);

/* Runs one statement. */
MUST_CHECK struct err pg_exec(struct pg *pg, const char *sql, const struct pg_param *params,
                              size_t count);
#define PG_EXEC(pg, sql, ...)                                                                      \
    pg_exec((pg), (sql), (const struct pg_param[]){__VA_ARGS__},                                   \
            sizeof((const struct pg_param[]){__VA_ARGS__}) / sizeof(struct pg_param))
/* Any thread: the statement that runs is cancelled, and every further one refused (PG_CANCELLED),
 * until pg_allow. A server that does not react in time (2 s, or as set) is hung up on (PG_DOWN): a
 * statement never outlasts its cancel by more than that, or than the time-out of connecting. */
void pg_cancel(struct pg *pg);
void pg_set_cancel_wait(struct pg *pg, int64_t ms); /* before the first use */
void pg_allow(struct pg *pg);                       /* the connection's thread */
/* Any thread: a connection is being made, which nothing cuts short, but which takes no longer than
 * 5 s for each host of the URL (its name's resolution aside). */
bool pg_is_connecting(struct pg *pg);
/* From now on a statement that takes longer is cancelled by itself; 0: none is. */
void pg_limit(struct pg *pg, int64_t ms);

/* A statement in a transaction that waits for a lock for longer fails with PG_CONFLICT, before the
 * transaction's owner is held to have taken too long; 0: waits. Before the first use. Set with
 * BEGIN for the transaction, so that it works behind a pooler; a statement outside of one waits. */
void pg_set_lock_wait(struct pg *pg, int64_t ms);

/* Statements that come again are prepared; before the first use. Of no harm behind a pooler in
 * transaction mode: names are made of the statements' texts, so a name that another of our
 * connections left means the same; and where the pooler does not keep track of names, the first
 * that is missed ends preparing here (PG_CONFLICT in a transaction, else it is sent again). */
void pg_set_prepare(struct pg *pg, bool on);

/* Several statements without parameters, e.g. a migration. */
MUST_CHECK struct err pg_script(struct pg *pg, const char *sql);

MUST_CHECK struct err pg_begin(struct pg *pg);
/* After an error the transaction may still be open: roll back. Fault points before_pg_commit,
 * pg_commit_reply_lost and after_pg_commit are here. */
MUST_CHECK struct err pg_commit(struct pg *pg);
void pg_rollback(struct pg *pg); /* no transaction: nothing happens */
bool pg_in_transaction(const struct pg *pg);

size_t pg_rows(const struct pg *pg);     /* of the last statement's result */
size_t pg_affected(const struct pg *pg); /* rows inserted, updated or deleted */
size_t pg_columns(const struct pg *pg);
const char *pg_column_name(const struct pg *pg, size_t column);
bool pg_is_null(const struct pg *pg, size_t row, size_t column);
const char *pg_get(const struct pg *pg, size_t row, size_t column); /* text; "" for NULL */
int64_t pg_get_integer(const struct pg *pg, size_t row, size_t column);
bool pg_get_flag(const struct pg *pg, size_t row, size_t column);
/* A bytea column, decoded into the buffer. */
void pg_get_bytes(const struct pg *pg, size_t row, size_t column, struct buf *out);

#endif
