#include "io/pg.h"

#include "base/clock.h"
#include "base/fault.h"
#include "io/pg_prepared.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PARAMS_MAX = 40,
    CANCEL_WAIT_MS = 2000,
    CANCEL_LOOK_MS = 50, /* how soon a waiting statement notices pg_cancel */
};

static const char CONNECT_TIMEOUT_S[] = "5";

struct pg {
    const char *url;
    PGconn *conn;
    PGresult *result;
    bool in_transaction;
    bool prepares;
    bool renew; /* once no transaction is open: its prepared statements are of no more use */
    struct pg_prepared prepared;
    int64_t cancel_wait_ms;
    int64_t limit_ms;     /* of a statement; 0: none */
    int64_t lock_wait_ms; /* of a statement in a transaction; 0: as the server has it */
    atomic_bool cancelled;
    atomic_bool connecting;
    bool cancelling; /* the thread is there */
    pthread_t canceller;
};

struct pg *pg_new(const char *url)
{
    struct pg *pg = mem_zalloc(sizeof *pg);
    pg->url = url;
    pg->cancel_wait_ms = CANCEL_WAIT_MS;
    return pg;
}

static void forget_result(struct pg *pg)
{
    PQclear(pg->result);
    pg->result = NULL;
}

static void disconnect(struct pg *pg)
{
    forget_result(pg);
    PQfinish(pg->conn);
    pg->conn = NULL;
    pg->in_transaction = false;
    pg->renew = false;
    pg_prepared_clear(&pg->prepared);
}

void pg_free(struct pg *pg)
{
    if (pg == NULL)
        return;
    disconnect(pg);
    free(pg);
}

/* --- errors ---------------------------------------------------------------------------------- */

/* One line of what libpq says, without the trailing newline. */
static struct err make_err(enum err_code code, const char *what, const char *message)
{
    int len = (int)strcspn(message, "\n");
    return err_make(code, "%s: %.*s", what, len, message);
}

static bool is_one_of(const char *state, const char *const *prefixes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(state, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static enum err_code code_of_state(const char *state)
{
    /* What is wrong with the server, not with the statement: connection; out of disk or
     * connections; shutdown, start-up, a session ended by others; its own files; a standby, or
     * read-only. */
    static const char *const away[] = {"08", "53", "57P", "58", "25006"};
    /* Serialization, deadlock, a lock that was not to be had in time: again, and no blame. */
    static const char *const conflict[] = {"40001", "40P01", "55P03"};
    /* 54: e.g. a text that no index takes. */
    static const char *const data[] = {"22", "23", "54"};
    if (state == NULL || is_one_of(state, away, ARRAY_LEN(away)))
        return ERR_PG_DOWN;
    if (is_one_of(state, conflict, ARRAY_LEN(conflict)))
        return ERR_PG_CONFLICT;
    if (is_one_of(state, data, ARRAY_LEN(data)))
        return ERR_PG_DATA;
    if (strcmp(state, "57014") == 0)
        return ERR_PG_CANCELLED;
    return ERR_PG_FAILED;
}

static struct err result_err(struct pg *pg)
{
    if (pg->result == NULL || PQstatus(pg->conn) == CONNECTION_BAD) {
        struct err err = make_err(ERR_PG_DOWN, "PostgreSQL", PQerrorMessage(pg->conn));
        disconnect(pg);
        return err;
    }
    const char *state = PQresultErrorField(pg->result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(pg->result, PG_DIAG_MESSAGE_PRIMARY);
    return make_err(code_of_state(state), "PostgreSQL", message != NULL ? message : "no message");
}

/* --- connection ------------------------------------------------------------------------------ */

static void on_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result; /* "already exists, skipping" and its like */
}

static struct err ensure_connected(struct pg *pg)
{
    if (pg->conn != NULL && PQstatus(pg->conn) == CONNECTION_OK)
        return ERR_NONE;
    if (pg->conn != NULL)
        disconnect(pg);
    /* A host that vanishes without a word is noticed within half a minute, not within hours: the
     * loop would go on prolonging the lease of a job that waits for nobody. */
    static const char *const names[] = {"dbname",
                                        "connect_timeout",
                                        "application_name",
                                        "client_encoding",
                                        "tcp_user_timeout",
                                        "keepalives_idle",
                                        "keepalives_interval",
                                        "keepalives_count",
                                        NULL};
    const char *const values[] = {
        pg->url, CONNECT_TIMEOUT_S, "whopline", "UTF8", "15000", "10", "5", "3", NULL};
    atomic_store(&pg->connecting, true);
    pg->conn = PQconnectdbParams(names, values, 1);
    atomic_store(&pg->connecting, false);
    if (pg->conn == NULL || PQstatus(pg->conn) != CONNECTION_OK) {
        struct err err = make_err(ERR_PG_DOWN, "cannot connect to PostgreSQL",
                                  pg->conn != NULL ? PQerrorMessage(pg->conn) : "no memory");
        disconnect(pg);
        return err;
    }
    /* Or else sending waits, deaf to a cancel, until the server reads what it is sent. */
    if (PQsetnonblocking(pg->conn, 1) != 0) {
        disconnect(pg);
        return err_make(ERR_PG_DOWN, "cannot set the connection to PostgreSQL up");
    }
    PQsetNoticeReceiver(pg->conn, on_notice, NULL);
    return ERR_NONE;
}

/* --- waiting --------------------------------------------------------------------------------- */

void pg_cancel(struct pg *pg)
{
    atomic_store(&pg->cancelled, true);
}

bool pg_is_connecting(struct pg *pg)
{
    return atomic_load(&pg->connecting);
}

void pg_set_cancel_wait(struct pg *pg, int64_t ms)
{
    pg->cancel_wait_ms = ms;
}

void pg_allow(struct pg *pg)
{
    atomic_store(&pg->cancelled, false);
}

void pg_limit(struct pg *pg, int64_t ms)
{
    pg->limit_ms = ms;
}

void pg_set_lock_wait(struct pg *pg, int64_t ms)
{
    pg->lock_wait_ms = ms;
}

void pg_set_prepare(struct pg *pg, bool on)
{
    pg->prepares = on;
}

/* Blocks for as long as the server likes, so it has a thread of its own. */
static void *send_cancel(void *data)
{
    char message[256];
    PQcancel(data, message, sizeof message);
    PQfreeCancel(data);
    return NULL;
}

static void start_cancel(struct pg *pg)
{
    PGcancel *request = PQgetCancel(pg->conn);
    if (request == NULL)
        return;
    pg->cancelling = pthread_create(&pg->canceller, NULL, send_cancel, request) == 0;
    if (!pg->cancelling)
        PQfreeCancel(request); /* then the connection is hung up on */
}

/* The server signals the backend more than once, and has when it answers: until then the next
 * statement, which may be the one that writes the verdict, could be hit. */
static struct err end_cancel(struct pg *pg, int64_t until_ms)
{
    int64_t wait_ms = until_ms - clock_mono_ms();
    int64_t at_ms = clock_wall_ms() + (wait_ms > 0 ? wait_ms : 0);
    struct timespec at = {.tv_sec = at_ms / 1000, .tv_nsec = (long)(at_ms % 1000) * 1000000};
    if (!pg->cancelling)
        return ERR_NONE;
    pg->cancelling = false;
    if (pthread_timedjoin_np(pg->canceller, NULL, &at) == 0)
        return ERR_NONE;
    pthread_detach(pg->canceller);
    disconnect(pg);
    return err_make(ERR_PG_DOWN, "PostgreSQL did not answer a cancel");
}

/* Until there is something to read, or CANCEL_LOOK_MS. False: the connection is broken. */
static bool wait_a_while(struct pg *pg, bool unsent)
{
    struct pollfd fd = {.fd = PQsocket(pg->conn), .events = POLLIN};
    if (unsent)
        fd.events |= POLLOUT;
    if (poll(&fd, 1, CANCEL_LOOK_MS) > 0 && (fd.revents & ~POLLOUT) != 0)
        return PQconsumeInput(pg->conn) == 1;
    return true;
}

static bool must_end(const struct pg *pg, int64_t began_ms)
{
    return atomic_load(&pg->cancelled) ||
           (pg->limit_ms > 0 && clock_mono_ms() - began_ms >= pg->limit_ms);
}

/* Waits for the end of what was sent, whose last result, or first error, is pg->result then.
 * cancels: false only hangs up, for a statement that is short and whose cancel would come so late
 * as to meet the next one. */
static struct err await(struct pg *pg, bool cancels)
{
    int64_t began_ms = clock_mono_ms();
    int64_t give_up_ms = 0;
    for (;;) {
        int unsent = PQflush(pg->conn);
        if (unsent < 0)
            break;
        if (unsent == 0 && PQisBusy(pg->conn) == 0) {
            PGresult *next = PQgetResult(pg->conn);
            if (next == NULL)
                break;
            bool failed = PQresultStatus(pg->result) == PGRES_FATAL_ERROR && pg->result != NULL;
            PQclear(failed ? next : pg->result);
            pg->result = failed ? pg->result : next;
            continue;
        }
        if (!wait_a_while(pg, unsent > 0))
            break;
        if (!must_end(pg, began_ms) || (unsent == 0 && PQisBusy(pg->conn) == 0))
            continue;
        if (give_up_ms == 0) {
            give_up_ms = clock_mono_ms() + pg->cancel_wait_ms;
            if (cancels)
                start_cancel(pg);
        } else if (clock_mono_ms() >= give_up_ms) {
            (void)end_cancel(pg, 0);
            disconnect(pg);
            return err_make(ERR_PG_DOWN, "PostgreSQL did not react to a cancel");
        }
    }
    return end_cancel(pg, give_up_ms);
}

/* --- statements ------------------------------------------------------------------------------ */

static struct err check_result(struct pg *pg)
{
    ExecStatusType status = PQresultStatus(pg->result);
    if (pg->result != NULL && PQstatus(pg->conn) == CONNECTION_OK &&
        (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK))
        return ERR_NONE;
    return result_err(pg);
}

/* A lost connection ends the transaction with it: later statements must not begin a new life on a
 * fresh connection as if they were still inside. */
static struct err ready(struct pg *pg)
{
    forget_result(pg);
    if (pg->in_transaction && (pg->conn == NULL || PQstatus(pg->conn) != CONNECTION_OK)) {
        disconnect(pg);
        return err_make(ERR_PG_DOWN, "the connection to PostgreSQL was lost in a transaction");
    }
    if (atomic_load(&pg->cancelled))
        return err_make(ERR_PG_CANCELLED, "cancelled before the next statement");
    if (pg->renew && !pg->in_transaction)
        disconnect(pg);
    return ensure_connected(pg);
}

static struct err finish(struct pg *pg, int sent)
{
    if (sent == 1)
        TRY(await(pg, true));
    return check_result(pg);
}

/* A statement's parameters as libpq takes them. */
struct values {
    int count;
    const char *texts[PARAMS_MAX];
    int lengths[PARAMS_MAX];
    int formats[PARAMS_MAX];
};

static void values_of(const struct pg_param *params, size_t count, struct values *out)
{
    REQUIRE(count <= PARAMS_MAX);
    out->count = (int)count;
    for (size_t i = 0; i < count; i++) {
        bool digits = params[i].digits[0] != '\0';
        out->texts[i] = digits ? params[i].digits : params[i].ptr;
        out->lengths[i] = (int)params[i].len;
        out->formats[i] = params[i].binary ? 1 : 0;
    }
}

static struct err exec_once(struct pg *pg, const char *sql, const struct values *values)
{
    return finish(pg, PQsendQueryParams(pg->conn, sql, values->count, NULL, values->texts,
                                        values->lengths, values->formats, 0));
}

static struct err exec_prepared(struct pg *pg, struct pg_statement *statement,
                                const struct values *values)
{
    if (!statement->there) {
        TRY(finish(pg, PQsendPrepare(pg->conn, statement->name, statement->sql, 0, NULL)));
        statement->there = true;
        forget_result(pg);
    }
    return finish(pg, PQsendQueryPrepared(pg->conn, statement->name, values->count, values->texts,
                                          values->lengths, values->formats, 0));
}

/* The statement was not run, because what was prepared is not what the server has: a pooler gave us
 * another of its connections, and would again; or a migration changed what it returns. */
static bool was_mistaken(struct pg *pg)
{
    const char *state = PQresultErrorField(pg->result, PG_DIAG_SQLSTATE);
    if (state == NULL)
        return false;
    bool pooled = strcmp(state, "26000") == 0 || strcmp(state, "42P05") == 0;
    bool changed = strcmp(state, "0A000") == 0; /* also said of what cannot be done at all */
    if (pooled)
        pg->prepares = false;
    pg->renew = pg->renew || changed;
    return pooled || changed;
}

struct err pg_exec(struct pg *pg, const char *sql, const struct pg_param *params, size_t count)
{
    struct values values;
    values_of(params, count, &values);
    TRY(ready(pg));
    struct pg_statement *statement = pg->prepares ? pg_prepared_use(&pg->prepared, sql) : NULL;
    if (statement == NULL)
        return exec_once(pg, sql, &values);
    struct err err = exec_prepared(pg, statement, &values);
    if (!err_failed(&err) || !was_mistaken(pg))
        return err;
    if (pg->in_transaction)
        return err_make(ERR_PG_CONFLICT, "a prepared statement is no longer valid");
    TRY(ready(pg));
    return exec_once(pg, sql, &values);
}

struct err pg_script(struct pg *pg, const char *sql)
{
    TRY(ready(pg));
    return finish(pg, PQsendQuery(pg->conn, sql));
}

struct err pg_begin(struct pg *pg)
{
    char sql[64] = "BEGIN";
    REQUIRE(!pg->in_transaction);
    if (pg->lock_wait_ms > 0)
        snprintf(sql, sizeof sql, "BEGIN; SET LOCAL lock_timeout = %lld",
                 (long long)pg->lock_wait_ms);
    struct err err = pg_script(pg, sql);
    pg->in_transaction = pg->conn != NULL && PQtransactionStatus(pg->conn) != PQTRANS_IDLE;
    if (err_failed(&err))
        pg_rollback(pg); /* BEGIN may have been done, and only the rest cancelled */
    return err;
}

struct err pg_commit(struct pg *pg)
{
    REQUIRE(pg->in_transaction);
    if (FAULT(before_pg_commit))
        return err_make(ERR_PG_FAILED, "fault before COMMIT");
    struct err err = pg_script(pg, "COMMIT");
    /* Cancelled before it was sent, the transaction is still open, and the caller's to roll back.
     */
    pg->in_transaction = pg->conn != NULL && PQtransactionStatus(pg->conn) != PQTRANS_IDLE;
    TRY(err);
    if (FAULT(pg_commit_reply_lost)) {
        disconnect(pg);
        return err_make(ERR_PG_DOWN, "fault: the reply to COMMIT was lost");
    }
    /* COMMIT of a failed transaction answers ROLLBACK, and is no error to libpq. */
    if (strcmp(PQcmdStatus(pg->result), "COMMIT") != 0)
        return err_make(ERR_PG_FAILED, "PostgreSQL rolled the transaction back at COMMIT");
    (void)FAULT(after_pg_commit);
    return ERR_NONE;
}

void pg_rollback(struct pg *pg)
{
    if (!pg->in_transaction)
        return;
    pg->in_transaction = false;
    if (pg->conn == NULL || PQstatus(pg->conn) != CONNECTION_OK)
        return;
    forget_result(pg);
    if (PQsendQuery(pg->conn, "ROLLBACK") != 1) {
        disconnect(pg);
        return;
    }
    struct err err = await(pg, false);
    if (!err_failed(&err) && PQresultStatus(pg->result) != PGRES_COMMAND_OK)
        disconnect(pg);
}

bool pg_in_transaction(const struct pg *pg)
{
    return pg->in_transaction;
}

/* --- results --------------------------------------------------------------------------------- */

size_t pg_rows(const struct pg *pg)
{
    return (size_t)PQntuples(pg->result);
}

size_t pg_affected(const struct pg *pg)
{
    return (size_t)strtoull(PQcmdTuples(pg->result), NULL, 10);
}

size_t pg_columns(const struct pg *pg)
{
    return (size_t)PQnfields(pg->result);
}

const char *pg_column_name(const struct pg *pg, size_t column)
{
    return PQfname(pg->result, (int)column);
}

bool pg_is_null(const struct pg *pg, size_t row, size_t column)
{
    return PQgetisnull(pg->result, (int)row, (int)column) != 0;
}

const char *pg_get(const struct pg *pg, size_t row, size_t column)
{
    return PQgetvalue(pg->result, (int)row, (int)column);
}

int64_t pg_get_integer(const struct pg *pg, size_t row, size_t column)
{
    return strtoll(pg_get(pg, row, column), NULL, 10);
}

bool pg_get_flag(const struct pg *pg, size_t row, size_t column)
{
    return pg_get(pg, row, column)[0] == 't';
}

void pg_get_bytes(const struct pg *pg, size_t row, size_t column, struct buf *out)
{
    size_t len = 0;
    unsigned char *bytes = PQunescapeBytea((const unsigned char *)pg_get(pg, row, column), &len);
    REQUIRE(bytes != NULL);
    buf_clear(out);
    buf_add(out, bytes, len);
    PQfreemem(bytes);
}
