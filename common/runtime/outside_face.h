#ifndef WHOPLINE_OUTSIDE_FACE_H
#define WHOPLINE_OUTSIDE_FACE_H
/* Calls to the outside by slots, inside the runtime: a slot asks (slot_outside.c, its thread), the
 * loop does it (outside_face.c) and answers.
 *
 *   slot:  filled in, posted ──────────────────────────────────────────> answered: goes on
 *   loop:       taken ──> EVAL: a script is sent ──> reply, or cancelled ──┤
 *                     │                                └─ a call follows ──┤
 *                     └─> HTTP: a call is started ──> its callback ────────┘
 *
 * Each hand-over from thread to thread costs more than what the loop does for it (tests/bench): so
 * a call may follow its script without the slot's having been asked.
 *
 * A stop (too long, lease lost, the process ends) cancels: EVAL is answered at once, and the reply
 * meets nobody; a call is answered by its callback, with what became of it. The face is a table so
 * that workers which do not call out are not linked with libcurl. */
#include "base/metric.h"
#include "service/outside.h"

struct loop;
struct slot_thread;

struct outside_request {
    struct slot_thread *from;
    enum { OUTSIDE_EVAL, OUTSIDE_HTTP } kind;
    size_t place; /* in the run, of the job that asks */

    const struct outside_script *script; /* EVAL; the slot's memory, as all pointers */
    struct outside_follow *follow;       /* EVAL: NULL, or the call that may follow */
    struct err err;

    const struct http_request *http; /* HTTP, or the call that follows */
    struct http_response *response;

    bool answered; /* with the slot's mutex, as taken */
    /* The loop's. */
    bool taken;
    struct http_call *call;
    struct eval *eval;
};

struct outside_face {
    struct err (*open)(struct loop *loop);
    void (*close)(struct loop *loop); /* nothing is asked any more */
    void (*take)(struct loop *loop, struct outside_request *request); /* begins it */
    void (*cancel)(struct outside_request *request);                  /* one that has been taken */
    void (*write)(const struct loop *loop, struct metric_page *page);
};

/* For struct worker. */
extern const struct outside_face outside_face;

#endif
