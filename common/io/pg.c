#include "io/pg.h"

#include "base/fault.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PARAMS_MAX = 40,
    /* PostgreSQL's own numbers, src/include/catalog/pg_type.dat */
    OID_BYTEA = 17,
    OID_BIGINT = 20,
    OID_TEXT = 25,
};

static const char CONNECT_TIMEOUT_S[] = "5";

struct pg {
    const char *url;
    PGconn *conn;
    PGresult *result;
    bool in_transaction;
};

struct pg *pg_new(const char *url)
{
    struct pg *pg = mem_zalloc(sizeof *pg);
    pg->url = url;
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
    static const char *const data[] = {"22", "23"};
    if (state == NULL || is_one_of(state, away, ARRAY_LEN(away)))
        return ERR_PG_DOWN;
    if (is_one_of(state, conflict, ARRAY_LEN(conflict)))
        return ERR_PG_CONFLICT;
    if (is_one_of(state, data, ARRAY_LEN(data)))
        return ERR_PG_DATA;
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
    pg->conn = PQconnectdbParams(names, values, 1);
    if (pg->conn == NULL || PQstatus(pg->conn) != CONNECTION_OK) {
        struct err err = make_err(ERR_PG_DOWN, "cannot connect to PostgreSQL",
                                  pg->conn != NULL ? PQerrorMessage(pg->conn) : "no memory");
        disconnect(pg);
        return err;
    }
    PQsetNoticeReceiver(pg->conn, on_notice, NULL);
    return ERR_NONE;
}

/* --- parameters ------------------------------------------------------------------------------ */

struct pg_param pg_text(const char *text)
{
    return (struct pg_param){.ptr = text, .len = text != NULL ? strlen(text) : 0};
}

struct pg_param pg_text_or_null(const char *text)
{
    return pg_text(text != NULL && text[0] != '\0' ? text : NULL);
}

struct pg_param pg_integer(int64_t number)
{
    struct pg_param param = {0};
    snprintf(param.digits, sizeof param.digits, "%lld", (long long)number);
    return param;
}

struct pg_param pg_flag(bool value)
{
    return pg_text(value ? "t" : "f");
}

struct pg_param pg_bytes(struct span bytes)
{
    return (struct pg_param){
        .ptr = bytes.ptr != NULL ? bytes.ptr : "", .len = bytes.len, .binary = true};
}

/* The binary form of arrays (src/backend/utils/adt/arrayfuncs.c, array_recv): dimensions, whether
 * there are NULLs, element type, then length and lower bound of the dimension; each element is its
 * length (-1 for NULL) and its bytes. All 32-bit big-endian. */
enum { ARRAY_HEADER_BYTES = 20 };

static void add_int32(struct buf *buf, uint32_t number)
{
    uint32_t big = htonl(number);
    buf_add(buf, &big, sizeof big);
}

void pg_array_init(struct pg_array *array, enum pg_element element)
{
    static const uint32_t oids[] = {OID_TEXT, OID_BYTEA, OID_BIGINT};
    *array = (struct pg_array){.element = element};
    add_int32(&array->bytes, 1);
    add_int32(&array->bytes, 1);
    add_int32(&array->bytes, oids[element]);
    add_int32(&array->bytes, 0);
    add_int32(&array->bytes, 1);
}

void pg_array_add(struct pg_array *array, struct span value)
{
    REQUIRE(value.len <= INT32_MAX);
    add_int32(&array->bytes, (uint32_t)value.len);
    buf_add(&array->bytes, value.ptr, value.len);
    array->count++;
}

void pg_array_add_text(struct pg_array *array, const char *text)
{
    pg_array_add(array, span_of(text));
}

void pg_array_add_integer(struct pg_array *array, int64_t number)
{
    uint64_t big = htobe64((uint64_t)number);
    pg_array_add(array, (struct span){(const char *)&big, sizeof big});
}

struct pg_param pg_array_param(struct pg_array *array)
{
    uint32_t count = htonl(array->count);
    memcpy(array->bytes.ptr + 12, &count, sizeof count);
    if (array->count == 0) { /* an empty array has no dimension */
        memset(array->bytes.ptr, 0, 4);
        return pg_bytes((struct span){array->bytes.ptr, 12});
    }
    return pg_bytes(buf_span(&array->bytes));
}

void pg_array_close(struct pg_array *array)
{
    buf_close(&array->bytes);
}

/* --- statements ------------------------------------------------------------------------------ */

static struct err check_result(struct pg *pg)
{
    ExecStatusType status = PQresultStatus(pg->result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
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
    return ensure_connected(pg);
}

struct err pg_exec(struct pg *pg, const char *sql, const struct pg_param *params, size_t count)
{
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX];
    int formats[PARAMS_MAX];
    REQUIRE(count <= PARAMS_MAX);
    TRY(ready(pg));
    for (size_t i = 0; i < count; i++) {
        bool digits = params[i].digits[0] != '\0';
        values[i] = digits ? params[i].digits : params[i].ptr;
        lengths[i] = (int)params[i].len;
        formats[i] = params[i].binary ? 1 : 0;
    }
    pg->result = PQexecParams(pg->conn, sql, (int)count, NULL, values, lengths, formats, 0);
    return check_result(pg);
}

struct err pg_script(struct pg *pg, const char *sql)
{
    TRY(ready(pg));
    pg->result = PQexec(pg->conn, sql);
    return check_result(pg);
}

struct err pg_begin(struct pg *pg)
{
    REQUIRE(!pg->in_transaction);
    TRY(pg_script(pg, "BEGIN"));
    pg->in_transaction = true;
    return ERR_NONE;
}

struct err pg_commit(struct pg *pg)
{
    REQUIRE(pg->in_transaction);
    if (FAULT(before_pg_commit))
        return err_make(ERR_PG_FAILED, "fault before COMMIT");
    struct err err = pg_script(pg, "COMMIT");
    pg->in_transaction = false;
    if (err_failed(&err))
        return err;
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
    pg->result = PQexec(pg->conn, "ROLLBACK");
    if (PQresultStatus(pg->result) != PGRES_COMMAND_OK)
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
