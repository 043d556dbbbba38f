#include "service/outbound.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "service/outbound_store.h"

#include <stdlib.h>

enum {
    ROUNDS_MAX = 8,       /* changes of a row by others, until it is called busy */
    RECORD_WAIT_MS = 200, /* between two tries to say what came of a call */
    KEY_MAX = 160,        /* of a business key, as in the table */
    BUSY_MIN_MS = 50,
    BUSY_MAX_MS = 5000, /* its answer may well come sooner than at the very last moment */
};

/* --- operations ------------------------------------------------------------------------------ */

static const struct {
    const char *text;
    enum outbound_policy policy;
} operations[OUTBOUND_OPERATION_COUNT + 1] = {
#define OUTBOUND(name, operation, policy) {operation, OUTBOUND_##policy},
#include "outbound.def"
#undef OUTBOUND
    {"", OUTBOUND_PARK}, /* releases may have none */
};

const char *outbound_operation_text(enum outbound_operation operation)
{
    REQUIRE((size_t)operation + 1 < ARRAY_LEN(operations)); /* which has one more */
    return operations[operation].text;
}

enum outbound_policy outbound_operation_policy(enum outbound_operation operation)
{
    REQUIRE((size_t)operation + 1 < ARRAY_LEN(operations)); /* which has one more */
    return operations[operation].policy;
}

/* --- one run --------------------------------------------------------------------------------- */

struct run {
    struct pg *pg;
    struct outside *outside;
    const struct outbound_call *call;
    struct outbound_result *out;
    struct outbound_row row;
    char runner[UUID_TEXT_SIZE];
};

static struct err later(enum err_code code, int64_t ms, const char *why)
{
    struct err err = err_make(code, "%s", why);
    err.after_ms = (uint32_t)(ms < BUSY_MIN_MS ? BUSY_MIN_MS : ms);
    return err;
}

static struct err busy(const struct run *run)
{
    int64_t ms = run->row.view.answer_ms;
    return later(ERR_BUSY, ms > BUSY_MAX_MS ? BUSY_MAX_MS : ms, "another run is making this call");
}

static struct err parked(const struct run *run, const char *why)
{
    return err_make(ERR_UNDECIDED, "outbound %lld: %.80s", (long long)run->row.id, why);
}

static struct err uncertain(const struct run *run, int64_t ms)
{
    (void)run;
    return later(ERR_UNCERTAIN, ms, "whether the call took effect is being looked for");
}

static struct err refused(const struct run *run, int status)
{
    return err_make(ERR_CALL_REFUSED, "outbound %lld: refused with status %d",
                    (long long)run->row.id, status);
}

static bool key_is_valid(const char *key)
{
    size_t len = 0;
    for (; key[len] != '\0'; len++)
        if ((unsigned char)key[len] <= ' ' || (unsigned char)key[len] >= 127)
            return false;
    return len > 0 && len <= KEY_MAX;
}

/* --- sending --------------------------------------------------------------------------------- */

/* The call with the header that makes it the same call each time. */
static void send_request(struct run *run, int64_t begin_by_ms, struct http_response *response)
{
    const struct http_request *given = &run->call->request;
    struct http_request request = *given;
    request.begin_by_ms = begin_by_ms;
    const char **headers = mem_alloc((given->header_count + 1) * sizeof *headers);
    struct buf header = {0};
    buf_printf(&header, "Idempotency-Key: %s", buf_text(&run->row.idempotency_key));
    if (given->header_count > 0)
        memcpy(headers, given->headers, given->header_count * sizeof *headers);
    headers[given->header_count] = buf_text(&header);
    request.headers = headers;
    request.header_count = given->header_count + 1;
    outside_send(run->outside, &run->call->target, &request, response);
    free(headers);
    buf_close(&header);
}

/* A COMMIT whose reply is lost may have made us the runner, and then nobody else will send. */
static struct err claim(struct run *run, bool *mine)
{
    const struct config *config = run->outside->config;
    int64_t window_ms =
        config->outbound_begin_ms + run->call->request.timeout_ms + config->outbound_grace_ms;
    struct err err =
        outbound_store_claim(run->pg, run->call, &run->row, run->runner, window_ms, mine);
    if (!err_failed(&err) || err_class_of(err.code) != ERR_CLASS_UNAVAILABLE)
        return err;
    struct err asked = outbound_store_is_claimed(run->pg, &run->row, run->runner, mine);
    return err_failed(&asked) || !*mine ? err : ERR_NONE;
}

/* One try. Whatever it is in the texts that PostgreSQL does not take: what came of it must stand.
 */
static struct err record_once(struct run *run, const struct outbound_outcome *outcome,
                              bool *changed)
{
    struct err err = outbound_store_record(run->pg, &run->row, outcome, changed);
    if (err.code != ERR_PG_DATA)
        return err;
    struct outbound_outcome plain = *outcome;
    plain.remote_id = "";
    plain.error = "";
    return outbound_store_record(run->pg, &run->row, &plain, changed);
}

/* What the job's end or a lost lease cancels is its statements; but what has happened outside has
 * happened, and only we know. PostgreSQL may be away for a moment: as long as others hold the call
 * for being made, it is tried again. */
static struct err record(struct run *run, const struct outbound_outcome *outcome)
{
    struct outside *outside = run->outside;
    int64_t until_ms = clock_mono_ms() + outside->config->outbound_grace_ms;
    bool changed = false;
    for (;;) {
        struct err err = record_once(run, outcome, &changed);
        if (!err_failed(&err))
            return changed ? ERR_NONE : busy(run);
        bool cancelled = err.code == ERR_PG_CANCELLED;
        if (cancelled)
            pg_allow(run->pg);
        if (err_class_of(err.code) == ERR_CLASS_PERMANENT || clock_mono_ms() >= until_ms)
            return err;
        struct err waited = outside->ops->wait(outside->data, RECORD_WAIT_MS);
        if (err_failed(&waited) && !cancelled)
            return err;
    }
}

/* The row as it was before; of an unknown one the sending does not count as the second. */
static struct err give_back(struct run *run, const struct outbound_view *from, struct err why,
                            const char *parked_for, int status)
{
    const struct outbound_outcome outcome = {
        .state = from->state,
        .parked = parked_for,
        .status = status != 0 ? status : from->status,
        .remote_id = "",
        .error = err_text(&why),
        .resends = from->resends,
    };
    struct err err = record(run, &outcome);
    if (err_failed(&err) && err.code != ERR_BUSY)
        log_warning("outbound", "a call was not made, and its row could not be told",
                    LOG_INT("outbound", run->row.id), LOG_TEXT("error", err_text(&err)));
    return why;
}

static struct err freeze(struct run *run, const struct http_response *response)
{
    const struct outbound_call *call = run->call;
    int64_t ms = response->retry_after_ms;
    if (ms < 0 && call->read_wait != NULL)
        ms = call->read_wait(call->data, buf_span(&response->body));
    if (ms < 0)
        ms = run->outside->config->outbound_freeze_ms;
    struct err err = outside_freeze(run->outside, &call->target, ms);
    if (err_failed(&err))
        log_warning("outbound", "429: the other processes could not be told to wait",
                    LOG_TEXT("error", err_text(&err)));
    return later(ERR_LIMITED, ms, "429: too many calls, told to wait");
}

static struct err error_of(struct run *run, const struct outbound_ending *ending,
                           const struct http_response *response)
{
    bool answered = response->outcome == HTTP_ANSWERED;
    const char *why = answered ? "" : err_text(&response->why);
    switch (ending->error) {
    case ERR_OK: return ERR_NONE;
    case ERR_LIMITED: return freeze(run, response);
    case ERR_CALL_REFUSED: return refused(run, response->status);
    case ERR_UNDECIDED: return parked(run, ending->parked);
    case ERR_UNCERTAIN: return uncertain(run, run->outside->config->outbound_verify_ms);
    default: break;
    }
    return answered ? err_make(ending->error, "outbound %lld: answered with status %d",
                               (long long)run->row.id, response->status)
                    : err_make(ending->error, "outbound %lld: %s", (long long)run->row.id, why);
}

/* What is stored of an answer is what the next run would give its handler. */
static struct err conclude(struct run *run, const struct outbound_view *from,
                           struct http_response *response)
{
    bool answered = response->outcome == HTTP_ANSWERED;
    int status = answered ? response->status : 0;
    struct outbound_ending ending = outbound_after_call(from, response->outcome, status);
    struct err err = error_of(run, &ending, response);
    if (ending.nothing_happened)
        return give_back(run, from, err, ending.parked, status);
    if (ending.state == OUTBOUND_DONE && run->call->read_id != NULL)
        run->call->read_id(run->call->data, buf_span(&response->body), &run->out->remote_id);
    const struct outbound_outcome outcome = {
        .state = ending.state,
        .parked = ending.parked,
        .status = status,
        .body = answered ? buf_span(&response->body) : (struct span){0},
        .remote_id = buf_text(&run->out->remote_id),
        .error = answered ? "" : err_text(&response->why),
        .resends = from->resends + (from->state == OUTBOUND_UNKNOWN ? 1 : 0),
        .look_ms = run->outside->config->outbound_verify_ms,
        .settle_ms = run->outside->config->outbound_grace_ms,
    };
    TRY(record(run, &outcome));
    (void)FAULT(after_call);
    run->out->status = status;
    buf_add(&run->out->body, response->body.ptr, response->body.len);
    return err;
}

static struct err await_moment(struct run *run, const struct outside_ticket *ticket)
{
    TRY(outside_wait(run->outside, &run->call->target, ticket));
    if (FAULT(before_call))
        return err_make(ERR_HTTP_NOT_SENT, "the call was made to fail before it was sent");
    return ERR_NONE;
}

static struct err send_call(struct run *run)
{
    const struct outbound_view from = run->row.view;
    struct outside_ticket ticket;
    bool mine = false;
    TRY(outside_reserve(run->outside, &run->call->target, &ticket));
    int64_t begin_by_ms = clock_mono_ms() + run->outside->config->outbound_begin_ms;
    TRY(claim(run, &mine));
    if (!mine)
        return busy(run);
    memcpy(run->row.runner, run->runner, sizeof run->runner);
    struct err err = await_moment(run, &ticket);
    if (err_failed(&err))
        return give_back(run, &from, err, NULL, 0);
    struct http_response response = {0};
    send_request(run, begin_by_ms, &response);
    if (FAULT(call_reply_lost) && response.outcome == HTTP_ANSWERED) {
        response.outcome = HTTP_LOST;
        response.why = err_make(ERR_HTTP_LOST, "the answer was made to be lost");
    }
    err = conclude(run, &from, &response);
    buf_close(&response.body);
    return err;
}

/* --- looking --------------------------------------------------------------------------------- */

static struct err ask(struct run *run, enum outbound_finding *finding, struct buf *remote_id)
{
    const struct outbound_call *call = run->call;
    const struct outbound_unknown unknown = {
        .tenant = call->tenant,
        .business_key = call->business_key,
        .idempotency_key = buf_text(&run->row.idempotency_key),
        .seen_before = buf_text(&run->row.seen_before),
        .since_ms = run->row.sending_since_ms,
    };
    REQUIRE(call->verify != NULL);
    struct err err = call->verify(call->data, &unknown, finding, remote_id);
    /* A question may be asked again. */
    if (err_class_of(err.code) == ERR_CLASS_UNKNOWN)
        err.code = ERR_HTTP_NOT_SENT;
    return err;
}

/* *again: the row has changed, or is to be read as if it had. */
static struct err look(struct run *run, bool *again)
{
    const struct config *config = run->outside->config;
    int looks_max = (int)config->outbound_verifications;
    const struct outbound_view *view = &run->row.view;
    enum outbound_finding finding = OUTBOUND_CANNOT_TELL;
    struct buf *found = &run->row.remote_id;
    bool changed = false; /* if not: by another run, and then there is nothing to park */
    buf_clear(found);
    TRY(ask(run, &finding, found));
    switch (outbound_after_look(view, finding, looks_max)) {
    case OUTBOUND_STEP_SEND: *again = false; return send_call(run);
    case OUTBOUND_STEP_ANSWER:
        TRY(outbound_store_adopt(run->pg, run->call, &run->row, buf_text(found), &changed));
        return changed ? ERR_NONE
                       : outbound_store_park(run->pg, &run->row,
                                             "what was found belongs to another call");
    case OUTBOUND_STEP_LATER:
        *again = false;
        TRY(outbound_store_postpone(run->pg, &run->row, view->answer_ms <= 0,
                                    config->outbound_verify_ms));
        return uncertain(run, config->outbound_verify_ms);
    default:
        return outbound_store_park(run->pg, &run->row,
                                   finding == OUTBOUND_CANNOT_TELL
                                       ? "the other side cannot tell whether it happened"
                                       : "looked for and never found");
    }
}

/* --- together -------------------------------------------------------------------------------- */

static void fill_stored(struct run *run)
{
    run->out->stored = true;
    run->out->status = run->row.view.status;
    buf_clear(&run->out->body);
    buf_clear(&run->out->remote_id);
    buf_add(&run->out->body, run->row.response.ptr, run->row.response.len);
    buf_add_text(&run->out->remote_id, buf_text(&run->row.remote_id));
}

static struct err take_step(struct run *run, bool *again)
{
    struct outbound_row *row = &run->row;
    switch (outbound_next(&row->view)) {
    case OUTBOUND_STEP_SEND: *again = false; return send_call(run);
    case OUTBOUND_STEP_ANSWER:
        *again = false;
        fill_stored(run);
        return ERR_NONE;
    case OUTBOUND_STEP_REFUSAL:
        *again = false;
        fill_stored(run);
        return refused(run, row->view.status);
    case OUTBOUND_STEP_BUSY: *again = false; return busy(run);
    case OUTBOUND_STEP_LATER: *again = false; return uncertain(run, row->view.look_ms);
    case OUTBOUND_STEP_PARKED: *again = false; return parked(run, buf_text(&row->parked));
    case OUTBOUND_STEP_LOST: return outbound_store_lose(run->pg, row);
    case OUTBOUND_STEP_LOOK: return look(run, again);
    case OUTBOUND_STEP_PARK:
        return outbound_store_park(run->pg, row,
                                   row->error.len > 0 ? buf_text(&row->error)
                                                      : "nobody knows what came of it");
    }
    return ERR_NONE;
}

struct err outbound_run(struct pg *pg, struct outside *outside, const struct outbound_call *call,
                        struct outbound_result *out)
{
    struct run run = {.pg = pg, .outside = outside, .call = call, .out = out};
    struct err err = ERR_NONE;
    bool again = true;
    *out = (struct outbound_result){0};
    REQUIRE(!pg_in_transaction(pg));
    if (!key_is_valid(call->business_key))
        return err_make(ERR_MALFORMED,
                        "a business key is 1 to %d printable characters without a space", KEY_MAX);
    random_uuid(run.runner);
    for (int i = 0; again && !err_failed(&err) && i < ROUNDS_MAX; i++) {
        err = outbound_store_load(pg, call, &run.row);
        if (!err_failed(&err))
            err = take_step(&run, &again);
    }
    if (again && !err_failed(&err))
        err = busy(&run);
    outbound_row_close(&run.row);
    return err;
}

void outbound_result_close(struct outbound_result *result)
{
    buf_close(&result->body);
    buf_close(&result->remote_id);
}
