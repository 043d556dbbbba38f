#include "service/outbound_send.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"

#include <stdlib.h>

enum {
    RECORD_WAIT_MS = 200, /* between two tries to say what came of a call */
    BUSY_MIN_MS = 50,
    STATUS_CONFLICT = 409,
    STATUS_TOO_EARLY = 425,
    BUSY_MAX_MS = 5000, /* its answer may well come sooner than at the very last moment */
};

void outbound_count(const struct outbound_run *run, enum outside_ending ending)
{
    outside_shared_ended(run->outside->shared, &run->call->target, ending);
}

int64_t outbound_window_ms(const struct outbound_run *run)
{
    const struct config *config = run->outside->config;
    return config->outbound_begin_ms + run->call->request.timeout_ms + config->outbound_grace_ms;
}

static struct err later(enum err_code code, int64_t ms, const char *why)
{
    struct err err = err_make(code, "%s", why);
    err.after_ms = (uint32_t)(ms < BUSY_MIN_MS ? BUSY_MIN_MS : ms);
    return err;
}

struct err outbound_busy(const struct outbound_run *run)
{
    int64_t ms = run->row.view.answer_ms;
    return later(ERR_BUSY, ms > BUSY_MAX_MS ? BUSY_MAX_MS : ms, "another run is making this call");
}

struct err outbound_undecided(const struct outbound_run *run, const char *why)
{
    return err_make(ERR_UNDECIDED, "outbound %lld: %.80s", (long long)run->row.id, why);
}

struct err outbound_uncertain(const struct outbound_run *run, int64_t ms)
{
    (void)run;
    return later(ERR_UNCERTAIN, ms, "whether the call took effect is being looked for");
}

struct err outbound_refusal(const struct outbound_run *run, int status)
{
    return err_make(ERR_CALL_REFUSED, "outbound %lld: refused with status %d",
                    (long long)run->row.id, status);
}

/* --- sending --------------------------------------------------------------------------------- */

/* The call with the header that makes it the same call each time. */
static void send_request(struct outbound_run *run, int64_t begin_by_ms,
                         struct http_response *response)
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
static struct err claim(struct outbound_run *run, bool *mine)
{
    struct err err = outbound_store_claim(run->pg, run->call, &run->row, run->runner,
                                          outbound_window_ms(run), mine);
    if (!err_failed(&err) || err_class_of(err.code) != ERR_CLASS_UNAVAILABLE)
        return err;
    struct err asked = outbound_store_is_claimed(run->pg, &run->row, run->runner, mine);
    return err_failed(&asked) || !*mine ? err : ERR_NONE;
}

/* One try. Whatever it is in the texts that PostgreSQL does not take: what came of it must stand.
 */
static struct err record_once(struct outbound_run *run, const struct outbound_outcome *outcome,
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
static struct err record(struct outbound_run *run, const struct outbound_outcome *outcome)
{
    struct outside *outside = run->outside;
    int64_t until_ms = clock_mono_ms() + outside->config->outbound_grace_ms;
    bool changed = false;
    for (;;) {
        struct err err = record_once(run, outcome, &changed);
        if (!err_failed(&err))
            return changed ? ERR_NONE : outbound_busy(run);
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
static struct err give_back(struct outbound_run *run, const struct outbound_view *from,
                            struct err why, const char *parked_for, int status)
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
    outbound_count(run, OUTSIDE_ENDED_NOT_MADE);
    if (err_failed(&err) && err.code != ERR_BUSY)
        log_warning("outbound", "a call was not made, and its row could not be told",
                    LOG_INT("outbound", run->row.id), LOG_TEXT("error", err_text(&err)));
    return why;
}

static struct err freeze(struct outbound_run *run, const struct http_response *response)
{
    const struct outbound_call *call = run->call;
    int64_t ms = response->retry_after_ms;
    /* A wait of nothing is none: a 429 would follow the other. A date that has passed here may only
     * mean that the clocks differ. */
    if (ms <= 0 && call->read_wait != NULL)
        ms = call->read_wait(call->data, buf_span(&response->body));
    if (ms <= 0)
        ms = run->outside->config->outbound_freeze_ms;
    struct err err = outside_freeze(run->outside, &call->target, ms);
    if (err_failed(&err))
        log_warning("outbound", "429: the other processes could not be told to wait",
                    LOG_TEXT("error", err_text(&err)));
    return later(ERR_LIMITED, ms, "429: too many calls, told to wait");
}

static struct err error_of(struct outbound_run *run, const struct outbound_ending *ending,
                           const struct http_response *response)
{
    bool answered = response->outcome == HTTP_ANSWERED;
    const char *why = answered ? "" : err_text(&response->why);
    switch (ending->error) {
    case ERR_OK: return ERR_NONE;
    case ERR_LIMITED: return freeze(run, response);
    case ERR_CALL_REFUSED: return outbound_refusal(run, response->status);
    case ERR_UNDECIDED: return outbound_undecided(run, ending->parked);
    case ERR_UNCERTAIN: return outbound_uncertain(run, run->outside->config->outbound_verify_ms);
    default: break;
    }
    return answered ? err_make(ending->error, "outbound %lld: answered with status %d",
                               (long long)run->row.id, response->status)
                    : err_make(ending->error, "outbound %lld: %s", (long long)run->row.id, why);
}

static enum outside_ending ending_of(const struct outbound_ending *ending)
{
    if (ending->parked != NULL)
        return OUTSIDE_ENDED_PARKED;
    if (ending->state == OUTBOUND_UNKNOWN)
        return OUTSIDE_ENDED_UNKNOWN;
    return ending->state == OUTBOUND_DONE ? OUTSIDE_ENDED_DONE : OUTSIDE_ENDED_REFUSED;
}

/* The status, or 425 (too early) for a conflict with nothing but itself. */
static int meaning_of(const struct outbound_call *call, const struct http_response *response)
{
    bool conflict = response->outcome == HTTP_ANSWERED && response->status == STATUS_CONFLICT;
    if (conflict && call->is_running != NULL &&
        call->is_running(call->data, buf_span(&response->body)))
        return STATUS_TOO_EARLY;
    return response->outcome == HTTP_ANSWERED ? response->status : 0;
}

/* What is stored of an answer is what the next run would give its handler. */
static struct err conclude(struct outbound_run *run, const struct outbound_view *from,
                           struct http_response *response)
{
    bool answered = response->outcome == HTTP_ANSWERED;
    int status = answered ? response->status : 0;
    struct outbound_ending ending =
        outbound_after_call(from, response->outcome, meaning_of(run->call, response));
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
    outbound_count(run, ending_of(&ending));
    (void)FAULT(after_call);
    run->out->status = status;
    buf_add(&run->out->body, response->body.ptr, response->body.len);
    return err;
}

static struct err await_moment(struct outbound_run *run, const struct outside_ticket *ticket)
{
    TRY(outside_wait(run->outside, &run->call->target, ticket));
    if (FAULT(before_call))
        return err_make(ERR_HTTP_NOT_SENT, "the call was made to fail before it was sent");
    return ERR_NONE;
}

/* Nothing has happened with the old one. */
static struct err renew_credential(struct outbound_run *run)
{
    struct outbound_call *call = run->call;
    struct outside_target old = call->target;
    call->target.renew = NULL; /* once */
    return old.renew(old.renew_data, &call->target, &call->request);
}

static struct err send_once(struct outbound_run *run)
{
    const struct outbound_view from = run->row.view;
    struct outside_ticket ticket;
    bool mine = false;
    TRY(outside_reserve(run->outside, &run->call->target, &ticket));
    int64_t begin_by_ms = clock_mono_ms() + run->outside->config->outbound_begin_ms;
    TRY(claim(run, &mine));
    if (!mine)
        return outbound_busy(run);
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

struct err outbound_send(struct outbound_run *run, bool *again)
{
    *again = false;
    struct err err = send_once(run);
    if (err.code != ERR_UNAUTHORISED || run->call->target.renew == NULL)
        return err;
    *again = true;
    return renew_credential(run);
}
