#include "service/outbound_rules.h"

static const char *const state_names[OUTBOUND_STATE_COUNT] = {
    [OUTBOUND_PENDING] = "pending", [OUTBOUND_SENDING] = "sending", [OUTBOUND_DONE] = "done",
    [OUTBOUND_REFUSED] = "refused", [OUTBOUND_UNKNOWN] = "unknown",
};

const char *outbound_state_name(enum outbound_state state)
{
    return state_names[state];
}

bool outbound_state_find(const char *name, enum outbound_state *out)
{
    for (size_t i = 0; i < OUTBOUND_STATE_COUNT; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *out = (enum outbound_state)i;
            return true;
        }
    }
    return false;
}

const char *outbound_policy_name(enum outbound_policy policy)
{
    static const char *const names[OUTBOUND_POLICY_COUNT] = {
        [OUTBOUND_RESEND] = "resend", [OUTBOUND_VERIFY] = "verify", [OUTBOUND_PARK] = "park"};
    return names[policy];
}

/* --- before a sending ------------------------------------------------------------------------ */

/* The most that OUTBOUND_BEGIN_MS, HTTP_TIMEOUT_MS and OUTBOUND_GRACE_MS allow together: what is
 * further away has not been written by the clock that is read now. */
enum { WINDOW_MAX_MS = 60000 + 600000 + 600000 };

static bool is_of_another_clock(const struct outbound_view *view)
{
    return (view->state == OUTBOUND_SENDING || view->state == OUTBOUND_UNKNOWN) &&
           (view->answer_ms > WINDOW_MAX_MS || view->look_ms > WINDOW_MAX_MS);
}

static enum outbound_step next_of_unknown(const struct outbound_view *view, int64_t key_ms)
{
    enum outbound_step look = view->look_ms > 0 ? OUTBOUND_STEP_LATER : OUTBOUND_STEP_LOOK;
    if (view->parked)
        return OUTBOUND_STEP_PARKED;
    switch (view->policy) {
    case OUTBOUND_RESEND:
        if (key_ms == 0 || view->sent_ago_ms <= key_ms)
            return OUTBOUND_STEP_SEND;
        return view->can_look ? look : OUTBOUND_STEP_PARK;
    case OUTBOUND_VERIFY: return look;
    default: return OUTBOUND_STEP_PARK;
    }
}

enum outbound_step outbound_next(const struct outbound_view *view, int64_t key_ms)
{
    if (is_of_another_clock(view))
        return OUTBOUND_STEP_RETIME;
    switch (view->state) {
    case OUTBOUND_DONE: return OUTBOUND_STEP_ANSWER;
    case OUTBOUND_REFUSED: return OUTBOUND_STEP_REFUSAL;
    case OUTBOUND_SENDING: return view->answer_ms > 0 ? OUTBOUND_STEP_BUSY : OUTBOUND_STEP_LOST;
    case OUTBOUND_UNKNOWN: return next_of_unknown(view, key_ms);
    /* Parked or not: whoever has put the job in again wants it tried. */
    default: return OUTBOUND_STEP_SEND;
    }
}

/* --- after a look ---------------------------------------------------------------------------- */

enum { HTTP_CONFLICT = 409 };

enum outbound_step outbound_after_look(const struct outbound_view *view,
                                       enum outbound_finding finding, int looks_max)
{
    if (finding == OUTBOUND_FOUND)
        return OUTBOUND_STEP_ANSWER;
    if (finding == OUTBOUND_CANNOT_TELL)
        return OUTBOUND_STEP_PARK;
    if (view->answer_ms > 0)
        return OUTBOUND_STEP_LATER;
    /* A conflict says that something is there: sending again cannot be the answer to it. */
    if (view->resends == 0 && view->status != HTTP_CONFLICT)
        return OUTBOUND_STEP_SEND;
    return view->verifications + 1 < looks_max ? OUTBOUND_STEP_LATER : OUTBOUND_STEP_PARK;
}

/* --- after a sending ------------------------------------------------------------------------- */

static struct outbound_ending nothing_happened(const struct outbound_view *from,
                                               enum err_code error, const char *parked)
{
    return (struct outbound_ending){
        .state = from->state, .nothing_happened = true, .parked = parked, .error = error};
}

static struct outbound_ending not_known(const struct outbound_view *from, const char *why_parked)
{
    struct outbound_ending ending = {.state = OUTBOUND_UNKNOWN, .error = ERR_CALL_UNANSWERED};
    if (from->policy == OUTBOUND_VERIFY)
        ending.error = ERR_UNCERTAIN;
    if (from->policy == OUTBOUND_PARK || why_parked != NULL) {
        ending.error = ERR_UNDECIDED;
        ending.parked = why_parked != NULL ? why_parked : "no answer that says what became of it";
    }
    return ending;
}

static struct outbound_ending refused(const struct outbound_view *from)
{
    /* What was refused is the second sending; of the first one that says nothing. */
    if (from->state == OUTBOUND_UNKNOWN && from->policy != OUTBOUND_RESEND)
        return not_known(from, "refused when it was sent again: the first time may have worked");
    return (struct outbound_ending){.state = OUTBOUND_REFUSED, .error = ERR_CALL_REFUSED};
}

struct outbound_ending outbound_after_call(const struct outbound_view *from,
                                           enum http_outcome outcome, int status)
{
    REQUIRE(from->state == OUTBOUND_PENDING || from->state == OUTBOUND_UNKNOWN);
    if (outcome == HTTP_NOT_BEGUN)
        return nothing_happened(from, ERR_HTTP_NOT_SENT, NULL);
    if (outcome == HTTP_LOST)
        return not_known(from, NULL);
    switch (status) {
    case 401: return nothing_happened(from, ERR_UNAUTHORISED, NULL);
    case 403: /* an unknown one that is parked would wait for an operator's word */
        return nothing_happened(
            from, ERR_FORBIDDEN,
            from->state == OUTBOUND_PENDING ? "403: the credential lacks a permission" : NULL);
    case 429: return nothing_happened(from, ERR_LIMITED, NULL);
    case HTTP_CONFLICT:
        return not_known(from, from->policy == OUTBOUND_VERIFY
                                   ? NULL
                                   : "409: it conflicts with something that is there");
    case 408:
    case 425: return not_known(from, NULL);
    default: break;
    }
    if (status >= 200 && status < 300)
        return (struct outbound_ending){.state = OUTBOUND_DONE, .error = ERR_OK};
    if (status >= 400 && status < 500)
        return refused(from);
    return not_known(from, NULL);
}
