#ifndef WHOPLINE_OUTBOUND_RULES_H
#define WHOPLINE_OUTBOUND_RULES_H
/* What follows for a call to the outside from what is known about it. Pure; any thread.
 *
 *             ┌── not begun, 401, 403, 429: nothing has happened ──┐
 *             v                                                    │
 *   pending ──── commit ────> sending ──── 2xx ───────────────> done
 *                              ^ │  └───── another 4xx ───────> refused
 *      once more, same key     │ │ no answer, 5xx, 3xx, 408, 409, 425, or nobody has said what
 *      (RESEND; VERIFY: not    │ v   came of it in its time
 *      found)                  unknown ─── found (VERIFY) ────> done
 *                                └──────── PARK, or nothing helps: stays, parked, until an operator
 *                                          says done, refused or send again
 *
 * A sending that follows an unknown goes back there, and not to pending, if it has not begun: the
 * one before is still unknown. */
#include "base/err.h"
#include "io/http_client.h"

enum outbound_state {
    OUTBOUND_PENDING,
    OUTBOUND_SENDING,
    OUTBOUND_DONE,
    OUTBOUND_REFUSED,
    OUTBOUND_UNKNOWN,
    OUTBOUND_STATE_COUNT
};
enum outbound_policy {
    OUTBOUND_RESEND,
    OUTBOUND_VERIFY,
    OUTBOUND_PARK,
    OUTBOUND_POLICY_COUNT,
};
const char *outbound_state_name(enum outbound_state state); /* "pending" */
bool outbound_state_find(const char *name, enum outbound_state *out);
const char *outbound_policy_name(enum outbound_policy policy); /* "resend" */

/* What the row says. Times by the database's clock. */
struct outbound_view {
    enum outbound_state state;
    enum outbound_policy policy;
    bool parked;
    int64_t answer_ms;   /* so long its answer may still come (SENDING), and what it did may still
                          * begin to show (UNKNOWN); <= 0: no more */
    int64_t look_ms;     /* UNKNOWN: so long until it may be looked for; <= 0: now */
    int64_t sent_ago_ms; /* since the first sending that may have taken effect */
    bool can_look;       /* whoever calls can ask the other side */
    int resends;
    int verifications;
    int status; /* of the latest answer; 0: none */
};

enum outbound_step {
    OUTBOUND_STEP_SEND,
    OUTBOUND_STEP_ANSWER,  /* the stored one */
    OUTBOUND_STEP_REFUSAL, /* the stored one */
    OUTBOUND_STEP_BUSY,    /* somebody else is at it: come back in answer_ms */
    OUTBOUND_STEP_LOST,    /* whoever sent it has gone: unknown */
    OUTBOUND_STEP_RETIME,  /* its times are of a clock that has been put back since */
    OUTBOUND_STEP_LOOK,    /* ask the other side */
    OUTBOUND_STEP_LATER,   /* come back in look_ms */
    OUTBOUND_STEP_PARK,    /* for a person */
    OUTBOUND_STEP_PARKED,  /* it is */
};
/* key_ms: how long receivers know an Idempotency-Key again; 0: always. Beyond it a RESEND is no
 * harmless one: it is looked for, or a person is asked. */
enum outbound_step outbound_next(const struct outbound_view *view, int64_t key_ms);

/* What looking at the other side said. */
enum outbound_finding {
    OUTBOUND_FOUND,
    OUTBOUND_NOT_FOUND,
    OUTBOUND_CANNOT_TELL,
};
/* ANSWER (adopt what was found), SEND (once more), LATER or PARK. looks_max: those that do not find
 * it, until a person is asked. */
enum outbound_step outbound_after_look(const struct outbound_view *view,
                                       enum outbound_finding finding, int looks_max);

/* What a sending came to. */
struct outbound_ending {
    enum outbound_state state;
    bool nothing_happened; /* back to the state it was sent from, which `state` says */
    const char *parked;    /* why a person has to look; NULL: no need */
    enum err_code error;   /* for the job; OK where it is done */
};
/* from: the row before it was sent, PENDING or UNKNOWN. status: of an answer. */
struct outbound_ending outbound_after_call(const struct outbound_view *from,
                                           enum http_outcome outcome, int status);

#endif
