#include "service/outbound.h"

#include "base/config.h"
#include "service/outbound_send.h"

enum {
    ROUNDS_MAX = 8, /* changes of a row by others, until it is called busy */
    KEY_MAX = 160,  /* of a business key, as in the table */
    MS_PER_HOUR = 3600000,
};

/* --- looking --------------------------------------------------------------------------------- */

static struct err ask(struct outbound_run *run, enum outbound_finding *finding,
                      struct buf *remote_id)
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

static struct err set_aside(struct outbound_run *run, const char *why)
{
    TRY(outbound_store_park(run->pg, &run->row, why));
    outbound_count(run, OUTSIDE_ENDED_PARKED);
    return ERR_NONE;
}

/* Another row of the operation may have it, or another run of this one was faster: then there is
 * nothing to park. */
static struct err adopt(struct outbound_run *run, const char *found)
{
    bool changed = false;
    TRY(outbound_store_adopt(run->pg, run->call, &run->row, found, &changed));
    if (!changed)
        return set_aside(run, "what was found belongs to another call");
    outbound_count(run, OUTSIDE_ENDED_FOUND);
    return ERR_NONE;
}

/* *again: the row has changed, or is to be read as if it had. */
static struct err look(struct outbound_run *run, bool *again)
{
    const struct config *config = run->outside->config;
    int looks_max = (int)config->outbound_verifications;
    const struct outbound_view *view = &run->row.view;
    enum outbound_finding finding = OUTBOUND_CANNOT_TELL;
    struct buf *found = &run->row.remote_id;
    buf_clear(found);
    TRY(ask(run, &finding, found));
    switch (outbound_after_look(view, finding, looks_max)) {
    case OUTBOUND_STEP_SEND: return outbound_send(run, again);
    case OUTBOUND_STEP_ANSWER: return adopt(run, buf_text(found));
    case OUTBOUND_STEP_LATER:
        *again = false;
        TRY(outbound_store_postpone(run->pg, &run->row, view->answer_ms <= 0,
                                    config->outbound_verify_ms));
        return outbound_uncertain(run, config->outbound_verify_ms);
    default:
        return set_aside(run, finding == OUTBOUND_CANNOT_TELL
                                  ? "the other side cannot tell whether it happened"
                                  : "looked for and never found");
    }
}

/* --- together -------------------------------------------------------------------------------- */

/* Of a call that was found, or that an operator calls done, the row may still have the answer that
 * left it unknown: that is not what it came to. */
static void fill_stored(struct outbound_run *run)
{
    const struct outbound_view *view = &run->row.view;
    bool found = view->state == OUTBOUND_DONE && (view->status < 200 || view->status >= 300);
    run->out->stored = true;
    run->out->status = found ? 0 : view->status;
    buf_clear(&run->out->body);
    buf_clear(&run->out->remote_id);
    if (!found)
        buf_add(&run->out->body, run->row.response.ptr, run->row.response.len);
    buf_add_text(&run->out->remote_id, buf_text(&run->row.remote_id));
}

static struct err park(struct outbound_run *run)
{
    struct outbound_row *row = &run->row;
    const char *why = "nobody knows what came of it";
    if (row->view.policy == OUTBOUND_RESEND)
        why = "its Idempotency-Key is older than OUTBOUND_KEY_HOURS: it may be taken for another";
    else if (row->error.len > 0)
        why = buf_text(&row->error);
    return set_aside(run, why);
}

static struct err take_step(struct outbound_run *run, bool *again)
{
    struct outbound_row *row = &run->row;
    switch (outbound_next(&row->view, run->outside->config->outbound_key_hours * MS_PER_HOUR)) {
    case OUTBOUND_STEP_SEND: return outbound_send(run, again);
    case OUTBOUND_STEP_ANSWER:
        *again = false;
        fill_stored(run);
        return ERR_NONE;
    case OUTBOUND_STEP_REFUSAL:
        *again = false;
        fill_stored(run);
        return outbound_refusal(run, row->view.status);
    case OUTBOUND_STEP_BUSY: *again = false; return outbound_busy(run);
    case OUTBOUND_STEP_LATER: *again = false; return outbound_uncertain(run, row->view.look_ms);
    case OUTBOUND_STEP_PARKED:
        *again = false;
        return outbound_undecided(run, buf_text(&row->parked));
    case OUTBOUND_STEP_LOST:
        outbound_count(run, OUTSIDE_ENDED_UNKNOWN);
        return outbound_store_lose(run->pg, row);
    case OUTBOUND_STEP_RETIME: return outbound_store_retime(run->pg, row, outbound_window_ms(run));
    case OUTBOUND_STEP_LOOK: return look(run, again);
    case OUTBOUND_STEP_PARK: return park(run);
    }
    return ERR_NONE;
}

static bool key_is_valid(const char *key)
{
    size_t len = 0;
    for (; key[len] != '\0'; len++)
        if ((unsigned char)key[len] <= ' ' || (unsigned char)key[len] >= 127)
            return false;
    return len > 0 && len <= KEY_MAX;
}

struct err outbound_run(struct pg *pg, struct outside *outside, const struct outbound_call *call,
                        struct outbound_result *out)
{
    struct outbound_call own = *call;
    struct outbound_run run = {.pg = pg, .outside = outside, .call = &own, .out = out};
    struct err err = ERR_NONE;
    bool again = true;
    *out = (struct outbound_result){0};
    REQUIRE(!pg_in_transaction(pg));
    if (!key_is_valid(call->business_key))
        return err_make(ERR_MALFORMED,
                        "a business key is 1 to %d printable characters without a space", KEY_MAX);
    random_uuid(run.runner);
    for (int i = 0; again && !err_failed(&err) && i < ROUNDS_MAX; i++) {
        err = outbound_store_load(pg, &own, &run.row);
        if (!err_failed(&err))
            err = take_step(&run, &again);
    }
    if (again && !err_failed(&err))
        err = outbound_busy(&run);
    outbound_row_close(&run.row);
    return err;
}

void outbound_result_close(struct outbound_result *result)
{
    buf_close(&result->body);
    buf_close(&result->remote_id);
}
