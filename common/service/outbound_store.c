#include "service/outbound_store.h"

#include "service/jobs_admin.h"

#include <stdio.h>

void outbound_row_close(struct outbound_row *row)
{
    buf_close(&row->idempotency_key);
    buf_close(&row->parked);
    buf_close(&row->seen_before);
    buf_close(&row->error);
    buf_close(&row->remote_id);
    buf_close(&row->response);
}

/* --- reading --------------------------------------------------------------------------------- */

/* In the order of enum column; times as ms from now. The answer of what has ended only: it may be
 * large. */
#define COLUMNS                                                                                    \
    "id, state, parked, attempts, resends, verifications, status,"                                 \
    " coalesce(ceil(extract(epoch FROM sending_until - whopline_now()) * 1000)::bigint, 0),"       \
    " coalesce(ceil(extract(epoch FROM look_at - whopline_now()) * 1000)::bigint, 0),"             \
    " coalesce((extract(epoch FROM sending_since) * 1000)::bigint, 0), coalesce(runner::text, "    \
    "''),"                                                                                         \
    " idempotency_key, seen_before, error, remote_id,"                                             \
    " CASE WHEN state IN ('done', 'refused') THEN response END,"                                   \
    " coalesce((extract(epoch FROM whopline_now() - sending_since) * 1000)::bigint, 0)"

enum column {
    COLUMN_ID,
    COLUMN_STATE,
    COLUMN_PARKED,
    COLUMN_ATTEMPTS,
    COLUMN_RESENDS,
    COLUMN_VERIFICATIONS,
    COLUMN_STATUS,
    COLUMN_ANSWER_MS,
    COLUMN_LOOK_MS,
    COLUMN_SENDING_SINCE,
    COLUMN_RUNNER,
    COLUMN_KEY,
    COLUMN_SEEN_BEFORE,
    COLUMN_ERROR,
    COLUMN_REMOTE_ID,
    COLUMN_RESPONSE,
    COLUMN_SENT_AGO_MS,
};

static void take_text(struct pg *pg, enum column column, struct buf *out)
{
    buf_clear(out);
    buf_add_text(out, pg_get(pg, 0, column));
}

static struct err take_row(struct pg *pg, const struct outbound_call *call,
                           struct outbound_row *row)
{
    struct outbound_view *view = &row->view;
    row->id = pg_get_integer(pg, 0, COLUMN_ID);
    if (!outbound_state_find(pg_get(pg, 0, COLUMN_STATE), &view->state))
        return err_make(ERR_PG_SCHEMA, "outbound %lld has a state this program does not know",
                        (long long)row->id);
    view->policy = outbound_operation_policy(call->operation);
    view->parked = !pg_is_null(pg, 0, COLUMN_PARKED);
    view->answer_ms = pg_get_integer(pg, 0, COLUMN_ANSWER_MS);
    view->look_ms = pg_get_integer(pg, 0, COLUMN_LOOK_MS);
    view->sent_ago_ms = pg_get_integer(pg, 0, COLUMN_SENT_AGO_MS);
    view->can_look = call->verify != NULL;
    view->resends = (int)pg_get_integer(pg, 0, COLUMN_RESENDS);
    view->verifications = (int)pg_get_integer(pg, 0, COLUMN_VERIFICATIONS);
    view->status = (int)pg_get_integer(pg, 0, COLUMN_STATUS);
    row->attempts = (int)pg_get_integer(pg, 0, COLUMN_ATTEMPTS);
    row->sending_since_ms = pg_get_integer(pg, 0, COLUMN_SENDING_SINCE);
    snprintf(row->runner, sizeof row->runner, "%s", pg_get(pg, 0, COLUMN_RUNNER));
    take_text(pg, COLUMN_KEY, &row->idempotency_key);
    take_text(pg, COLUMN_PARKED, &row->parked);
    take_text(pg, COLUMN_SEEN_BEFORE, &row->seen_before);
    take_text(pg, COLUMN_ERROR, &row->error);
    take_text(pg, COLUMN_REMOTE_ID, &row->remote_id);
    buf_clear(&row->response);
    if (!pg_is_null(pg, 0, COLUMN_RESPONSE))
        pg_get_bytes(pg, 0, COLUMN_RESPONSE, &row->response);
    return ERR_NONE;
}

/* Host and path: a query may hold what nobody should read. */
static void add_target(const char *url, struct buf *out)
{
    const char *begin = strstr(url, "://");
    begin = begin != NULL ? begin + 3 : url;
    size_t len = strcspn(begin, "?#");
    const char *at = memchr(begin, '@', strcspn(begin, "/?#"));
    if (at != NULL) {
        len -= (size_t)(at + 1 - begin);
        begin = at + 1;
    }
    buf_add(out, begin, len);
}

static struct span body_of(const struct http_request *request)
{
    return request->body.ptr != NULL ? request->body : SPAN("");
}

static const char *uuid_of_job(const struct outbound_call *call, char out[UUID_TEXT_SIZE])
{
    return call->job != NULL && jobs_admin_parse_id(call->job, out) ? out : NULL;
}

struct err outbound_store_load(struct pg *pg, const struct outbound_call *call,
                               struct outbound_row *row)
{
    enum { RACES_MAX = 5 }; /* another made it, and our snapshot does not have it yet */
    struct buf target = {0};
    char job[UUID_TEXT_SIZE];
    struct err err;
    add_target(call->request.url, &target);
    for (int i = 0; i < RACES_MAX; i++) {
        err = PG_EXEC(
            pg,
            "WITH made AS (INSERT INTO outbound (tenant_id, operation, business_key, policy,"
            " job_id, seen_before, method, target, request)"
            " VALUES ($1, $2, $3, $4, $5::uuid, $6, $7, $8, $9)"
            " ON CONFLICT (tenant_id, operation, business_key) DO NOTHING RETURNING " COLUMNS ")"
            " SELECT * FROM made UNION ALL SELECT " COLUMNS " FROM outbound"
            " WHERE tenant_id = $1 AND operation = $2 AND business_key = $3"
            " AND NOT EXISTS (SELECT 1 FROM made)",
            pg_integer(call->tenant), pg_text(outbound_operation_text(call->operation)),
            pg_text(call->business_key),
            pg_text(outbound_policy_name(outbound_operation_policy(call->operation))),
            pg_text(uuid_of_job(call, job)),
            pg_text_or_null(call->seen_before != NULL ? call->seen_before : ""),
            pg_text(call->request.method), pg_text(buf_text(&target)),
            pg_bytes(body_of(&call->request)));
        if (err_failed(&err) || pg_rows(pg) > 0)
            break;
    }
    buf_close(&target);
    TRY(err);
    if (pg_rows(pg) == 0)
        return err_make(ERR_PG_CONFLICT, "a row of outbound comes and goes");
    return take_row(pg, call, row);
}

/* --- changing -------------------------------------------------------------------------------- */

/* One statement in a transaction of its own, so that the fault points of a COMMIT are met. */
static struct err change(struct pg *pg, const char *sql, const struct pg_param *params,
                         size_t count, size_t *affected)
{
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = pg_exec(pg, sql, params, count);
    *affected = err_failed(&err) ? 0 : pg_affected(pg);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}
#define CHANGE(pg, affected, sql, ...)                                                             \
    change((pg), (sql), (const struct pg_param[]){__VA_ARGS__},                                    \
           sizeof((const struct pg_param[]){__VA_ARGS__}) / sizeof(struct pg_param), (affected))

struct err outbound_store_claim(struct pg *pg, const struct outbound_call *call,
                                struct outbound_row *row, const char *runner, int64_t window_ms,
                                bool *changed)
{
    struct buf target = {0};
    char job[UUID_TEXT_SIZE];
    size_t affected = 0;
    add_target(call->request.url, &target);
    struct err err =
        CHANGE(pg, &affected,
               "UPDATE outbound SET state = 'sending', attempts = attempts + 1,"
               " resends = resends + (state = 'unknown')::integer, runner = $4::uuid,"
               " sending_since = CASE WHEN state = 'unknown' THEN sending_since"
               "  ELSE whopline_now() END,"
               " sending_until = whopline_now() + $5::bigint * interval '1 millisecond',"
               " policy = $6, job_id = $7::uuid, method = $8, target = $9, request = $10,"
               " parked = NULL, status = NULL, error = NULL, updated_at = whopline_now()"
               " WHERE id = $1 AND attempts = $2::integer AND state = $3"
               " AND (state <> 'unknown' OR parked IS NULL)",
               pg_integer(row->id), pg_integer(row->attempts),
               pg_text(outbound_state_name(row->view.state)), pg_text(runner),
               pg_integer(window_ms), pg_text(outbound_policy_name(row->view.policy)),
               pg_text(uuid_of_job(call, job)), pg_text(call->request.method),
               pg_text(buf_text(&target)), pg_bytes(body_of(&call->request)));
    buf_close(&target);
    *changed = affected == 1;
    row->attempts++;
    return err;
}

struct err outbound_store_is_claimed(struct pg *pg, const struct outbound_row *row,
                                     const char *runner, bool *out)
{
    TRY(PG_EXEC(pg,
                "SELECT 1 FROM outbound WHERE id = $1 AND attempts = $2::integer"
                " AND state = 'sending' AND runner = $3::uuid",
                pg_integer(row->id), pg_integer(row->attempts), pg_text(runner)));
    *out = pg_rows(pg) > 0;
    return ERR_NONE;
}

static bool is_definite(enum outbound_state state)
{
    return state == OUTBOUND_DONE || state == OUTBOUND_REFUSED;
}

/* A receiver that keeps its answers by the key may keep a 403, too, and say it again once the
 * permission is there. With none before it unknown, nothing has come of that key: the next sending
 * has another. */
struct err outbound_store_record(struct pg *pg, const struct outbound_row *row,
                                 const struct outbound_outcome *outcome, bool *changed)
{
    const char *state = outbound_state_name(outcome->state);
    struct pg_param body = outcome->body.ptr != NULL ? pg_bytes(outcome->body) : pg_text(NULL);
    size_t affected = 0;
    TRY(CHANGE(pg, &affected,
               "UPDATE outbound SET state = $3, parked = $4, status = NULLIF($5::integer, 0),"
               " response = $6, remote_id = coalesce($7, remote_id), error = $8,"
               " resends = $9::integer,"
               " ordinal = ordinal + ($3 = 'pending' AND $5::integer = 403)::integer,"
               " look_at = CASE WHEN $3 = 'unknown'"
               "  THEN whopline_now() + $10::bigint * interval '1 millisecond' END,"
               " sending_until = CASE WHEN $3 = 'unknown'"
               "  THEN whopline_now() + $12::bigint * interval '1 millisecond'"
               "  ELSE sending_until END,"
               " finished_at = CASE WHEN $11 THEN whopline_now() END, updated_at = whopline_now()"
               " WHERE id = $1 AND attempts = $2::integer"
               " AND (state = 'sending' OR ($11::boolean AND state = 'unknown')"
               "  OR ($3 = 'done' AND state IN ('pending', 'refused') AND runner = $13::uuid))",
               pg_integer(row->id), pg_integer(row->attempts), pg_text(state),
               pg_text(outcome->parked), pg_integer(outcome->status), body,
               pg_text_or_null(outcome->remote_id), pg_text_or_null(outcome->error),
               pg_integer(outcome->resends), pg_integer(outcome->look_ms),
               pg_flag(is_definite(outcome->state)), pg_integer(outcome->settle_ms),
               pg_text(row->runner)));
    *changed = affected == 1;
    if (*changed)
        return ERR_NONE;
    TRY(PG_EXEC(pg,
                "SELECT 1 FROM outbound WHERE id = $1 AND attempts = $2::integer AND state = $3"
                " AND runner = $4::uuid",
                pg_integer(row->id), pg_integer(row->attempts), pg_text(state),
                pg_text(row->runner)));
    *changed = pg_rows(pg) > 0;
    return ERR_NONE;
}

struct err outbound_store_lose(struct pg *pg, const struct outbound_row *row)
{
    size_t affected = 0;
    return CHANGE(pg, &affected,
                  "UPDATE outbound SET state = 'unknown', look_at = whopline_now(),"
                  " error = 'the run that sent it ended before it could say what came of it',"
                  " updated_at = whopline_now()"
                  " WHERE id = $1 AND attempts = $2::integer AND state = 'sending'"
                  " AND sending_until <= whopline_now()",
                  pg_integer(row->id), pg_integer(row->attempts));
}

struct err outbound_store_retime(struct pg *pg, const struct outbound_row *row, int64_t window_ms)
{
    size_t affected = 0;
    return CHANGE(pg, &affected,
                  "UPDATE outbound SET sending_since = LEAST(sending_since,"
                  "  whopline_now() - $3::bigint * interval '1 millisecond'),"
                  " sending_until = LEAST(sending_until,"
                  "  whopline_now() + $3::bigint * interval '1 millisecond'),"
                  " look_at = LEAST(look_at, whopline_now()), updated_at = whopline_now()"
                  " WHERE id = $1 AND attempts = $2::integer AND state IN ('sending', 'unknown')",
                  pg_integer(row->id), pg_integer(row->attempts), pg_integer(window_ms));
}

/* Two that have found the same thing wait for each other: one of them gets it. */
static struct err adopt(struct pg *pg, const struct outbound_call *call,
                        const struct outbound_row *row, const char *remote_id, size_t *affected)
{
    const char *operation = outbound_operation_text(call->operation);
    TRY(pg_begin(pg));
    TRY(PG_EXEC(
        pg, "SELECT pg_advisory_xact_lock(hashtext('outbound/' || $1::text || '/' || $2::text))",
        pg_text(operation), pg_text(remote_id)));
    TRY(PG_EXEC(
        pg,
        "UPDATE outbound o SET state = 'done', remote_id = $3, error = NULL,"
        " parked = NULL, look_at = NULL, finished_at = whopline_now(), updated_at = whopline_now()"
        " WHERE id = $1 AND attempts = $2::integer AND state = 'unknown'"
        " AND NOT EXISTS (SELECT 1 FROM outbound other WHERE other.tenant_id = o.tenant_id"
        "  AND other.operation = o.operation AND other.remote_id = $3"
        "  AND other.id <> o.id)",
        pg_integer(row->id), pg_integer(row->attempts), pg_text(remote_id)));
    *affected = pg_affected(pg);
    return pg_commit(pg);
}

struct err outbound_store_adopt(struct pg *pg, const struct outbound_call *call,
                                const struct outbound_row *row, const char *remote_id,
                                bool *changed)
{
    size_t affected = 0;
    struct err err = adopt(pg, call, row, remote_id, &affected);
    pg_rollback(pg);
    *changed = affected == 1;
    return err;
}

struct err outbound_store_postpone(struct pg *pg, const struct outbound_row *row, bool counts,
                                   int64_t look_ms)
{
    size_t affected = 0;
    return CHANGE(pg, &affected,
                  "UPDATE outbound SET verifications = verifications + $4::boolean::integer,"
                  " look_at = whopline_now() + $5::bigint * interval '1 millisecond',"
                  " updated_at = whopline_now()"
                  " WHERE id = $1 AND attempts = $2::integer AND state = 'unknown'"
                  " AND verifications = $3::integer",
                  pg_integer(row->id), pg_integer(row->attempts),
                  pg_integer(row->view.verifications), pg_flag(counts), pg_integer(look_ms));
}

struct err outbound_store_park(struct pg *pg, const struct outbound_row *row, const char *why)
{
    size_t affected = 0;
    return CHANGE(pg, &affected,
                  "UPDATE outbound SET parked = $3, updated_at = whopline_now()"
                  " WHERE id = $1 AND attempts = $2::integer AND state = 'unknown'"
                  " AND parked IS NULL",
                  pg_integer(row->id), pg_integer(row->attempts), pg_text(why));
}

struct err outbound_is_adopted(struct pg *pg, int64_t tenant, enum outbound_operation operation,
                               const char *remote_id, bool *out)
{
    TRY(PG_EXEC(
        pg, "SELECT 1 FROM outbound WHERE tenant_id = $1 AND operation = $2 AND remote_id = $3",
        pg_integer(tenant), pg_text(outbound_operation_text(operation)), pg_text(remote_id)));
    *out = pg_rows(pg) > 0;
    return ERR_NONE;
}

/* --- for those who have no run of their own -------------------------------------------------- */

struct err outbound_give_up(struct pg *pg, int64_t tenant, enum outbound_operation operation,
                            const char *business_key, const char *why, enum outbound_state *was,
                            bool *there)
{
    *was = OUTBOUND_PENDING;
    TRY(PG_EXEC(pg,
                "WITH was AS (SELECT id, CASE WHEN state = 'sending'"
                "   AND sending_until <= whopline_now() THEN 'unknown' ELSE state END AS state"
                "  FROM outbound WHERE tenant_id = $1 AND operation = $2 AND business_key = $3"
                "  FOR UPDATE),"
                " gone AS (UPDATE outbound o SET state = 'refused', parked = NULL, error = $4,"
                "  finished_at = whopline_now(), updated_at = whopline_now() FROM was"
                "  WHERE o.id = was.id AND was.state IN ('pending', 'unknown'))"
                " SELECT state FROM was",
                pg_integer(tenant), pg_text(outbound_operation_text(operation)),
                pg_text(business_key), pg_text(why)));
    *there = pg_rows(pg) > 0;
    if (*there && !outbound_state_find(pg_get(pg, 0, 0), was))
        return err_make(ERR_PG_SCHEMA, "a call is in a state nobody knows");
    return ERR_NONE;
}
