#ifndef WHOPLINE_OUTBOUND_H
#define WHOPLINE_OUTBOUND_H
/* A call that changes something outside, once, whatever dies meanwhile. Blocking; a slot's thread.
 *
 * A row of `outbound`, unique by tenant, operation and business key, remembers it; its states are
 * in outbound_rules.h. "sending" is committed before the first byte leaves, and what came of it is
 * committed by itself as soon as it is known, so a handler that dies later finds the answer on its
 * next run and nothing is sent again. Two runs at once: one sends, the other gets BUSY.
 *
 *   struct outbound_result result;
 *   TRY(outbound_run(slot->db, slot->outside, &call, &result));    no transaction is open here
 *   TRY(pg_begin(slot->db)); ... effects ...; slot_commit(...)
 *
 * The call is built anew for each run. As long as its Idempotency-Key is the same it has to be the
 * same to the byte, or the receiver may refuse it; so build it from what does not change (upserts,
 * whose receiver knows no such key, excepted). */
#include "service/outbound_rules.h"
#include "service/outside.h"

#include "io/pg.h"

enum outbound_operation {
#define OUTBOUND(name, operation, policy) OUTBOUND_OPERATION_##name,
#include "outbound.def"
#undef OUTBOUND
    OUTBOUND_OPERATION_COUNT
};
const char *outbound_operation_text(enum outbound_operation operation); /* "probe.resend" */
enum outbound_policy outbound_operation_policy(enum outbound_operation operation);

/* A call that nobody knows the outcome of, for whoever looks for it. */
struct outbound_unknown {
    int64_t tenant;
    const char *business_key;
    const char *idempotency_key;
    const char *seen_before; /* as given with the first sending; "" if it was not */
    int64_t since_ms;        /* Unix ms by the database's clock: the first sending that may have
                              * taken effect */
};

struct outbound_call {
    enum outbound_operation operation;
    int64_t tenant;
    const char *business_key;     /* 1 to 160 printable ASCII characters, no space */
    const char *job;              /* the id of the job that runs; NULL: none */
    const char *seen_before;      /* VERIFY: the last thing of its kind before it; NULL: none */
    struct outside_target target; /* whose budget */
    struct http_request request;  /* without Idempotency-Key, which is added */

    /* VERIFY, and RESEND whose key has become too old, if it can: asks the other side. An error:
     * not now (what nobody knows of a read call is no more than that). *remote_id is for FOUND; one
     * that another row of this operation has adopted (outbound_is_adopted) is not this call's. */
    struct err (*verify)(void *data, const struct outbound_unknown *unknown,
                         enum outbound_finding *finding, struct buf *remote_id);
    /* Of a 2xx answer: what it made. NULL: nothing to remember. */
    void (*read_id)(void *data, struct span body, struct buf *remote_id);
    /* Of a 429: how long to wait, where no header says so; < 0: not said either. May be NULL. */
    int64_t (*read_wait)(void *data, struct span body);
    /* Of a 409: whether it only says that this very call is still running, so that it may be made
     * again with its key, later; else a person is asked (RESEND, PARK). May be NULL. */
    bool (*is_running)(void *data, struct span body);
    void *data; /* of all these */
};

struct outbound_result {
    bool stored; /* of an earlier run: nothing was sent now */
    int status;  /* 0: found by looking */
    struct buf body;
    struct buf remote_id; /* "" where there is none */
};

/* Makes the call, or finds out what became of it. No transaction may be open. Of a refusal, too,
 * the result is filled in. out: the caller's to close, whatever is returned.
 *
 *   LIMITED, BREAKER_OPEN, BUSY, UNCERTAIN   come back at after_ms; not counted
 *   HTTP_NOT_SENT, CALL_UNANSWERED           come back with backoff
 *   UNAUTHORISED, FORBIDDEN                  nothing has happened; the job is parked. A target that
 *                                            can renew its credential has done so, once; an error
 *                                            of that is what is returned
 *   CALL_REFUSED                             the answer is a definite no
 *   UNDECIDED                                the row is parked: whopline outbound show
 *   MALFORMED                                no such business key can be
 * and those of io/pg. */
MUST_CHECK struct err outbound_run(struct pg *pg, struct outside *outside,
                                   const struct outbound_call *call, struct outbound_result *out);
void outbound_result_close(struct outbound_result *result);

/* The call is not wanted any more: nothing is sent again. *was: the state it was in; one that is
 * DONE or REFUSED stays so, of one that is SENDING the answer may still come. *there: false if it
 * was never begun. In the caller's transaction. */
MUST_CHECK struct err outbound_give_up(struct pg *pg, int64_t tenant,
                                       enum outbound_operation operation, const char *business_key,
                                       const char *why, enum outbound_state *was, bool *there);

/* Whether a row of that operation says that it made this. */
MUST_CHECK struct err outbound_is_adopted(struct pg *pg, int64_t tenant,
                                          enum outbound_operation operation, const char *remote_id,
                                          bool *out);

#endif
