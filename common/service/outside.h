#ifndef WHOPLINE_OUTSIDE_H
#define WHOPLINE_OUTSIDE_H
/* The way out, as services see it: budget, freeze, breaker, then the call, as blocking prose.
 *
 * What does the waiting differs: in a worker a slot asks the loop thread (runtime), in the CLI a
 * loop is run on the spot. Both fill in struct outside_ops. One thread at a time for a struct
 * outside; breakers are shared by all of a process.
 *
 * No database transaction may be open across outside_wait and outside_send. */
#include "io/http_client.h"

struct outside_shared; /* of a process: breakers and figures; outside_shared.h */

/* A script of schema/redis; integers of its reply (an array) go to out. */
struct outside_script {
    size_t script;
    size_t key_count;
    const struct span *args;
    size_t count;
    int64_t *out;
    size_t out_count;
};

/* A call that is made at once if a script's reply lets it, without a way back to the caller's
 * thread in between. */
struct outside_follow {
    const struct http_request *request;
    struct http_response *response;
    bool (*may_go)(void *data, const int64_t *reply); /* on any thread, while the caller waits */
    void *data;
    bool called; /* it has been made, and response is filled in */
};

/* What the services need of whoever does the waiting. Each blocks, and returns CANCELLED early when
 * the job is to stop. */
struct outside_ops {
    /* follow: NULL, or the call that follows. An error means that it was not made. */
    struct err (*eval)(void *data, const struct outside_script *script,
                       struct outside_follow *follow);
    struct err (*wait)(void *data, int64_t ms);
    /* response: filled in whatever happens; no error of its own. */
    void (*http)(void *data, const struct http_request *request, struct http_response *response);
};

struct outside {
    const struct outside_ops *ops;
    void *data;
    const struct config *config;
    struct outside_shared *shared;
};

/* Whose budget a call is charged to, and how much of it there is. */
struct outside_target {
    const char *credential; /* names a credential without telling it, e.g. "c12" or "app" */
    const char *operation;  /* "memberships.list", declared in schema/operations.def */
    const char *host;       /* for the breaker */
    int64_t interval_us;    /* between two calls of this operation by all processes together: 60 s
                             * divided by the other side's rate; safety is added here */
    bool bulk;              /* also has to pass the bulk share */
    /* After a 401: another credential, with which the request is made anew; an error says what the
     * matter is. For service/outbound, which asks once. NULL: there is no other. */
    struct err (*renew)(void *data, struct outside_target *target, struct http_request *request);
    void *renew_data;
};

/* A reserved moment. */
struct outside_ticket {
    int64_t at_mono_ms;
    int64_t
        fresh_until_ms; /* clock_mono_ms until which Redis need not be asked again; 0: it must */
};

/* Reserves a moment at most a second ahead, for one call. LIMITED (after_ms says when to come back;
 * never counted as an attempt): the budget is used up, frozen by a 429, or the breaker is open. */
MUST_CHECK struct err outside_reserve(struct outside *outside, const struct outside_target *target,
                                      struct outside_ticket *out);
/* Waits for that moment and looks at the freeze again, just before sending, unless it has just been
 * looked at. LIMITED as above. */
MUST_CHECK struct err outside_wait(struct outside *outside, const struct outside_target *target,
                                   const struct outside_ticket *ticket);
/* The call itself; tells the breaker how it went. */
void outside_send(struct outside *outside, const struct outside_target *target,
                  const struct http_request *request, struct http_response *response);
/* A 429 was met: nobody calls this operation with this credential for so long. */
MUST_CHECK struct err outside_freeze(struct outside *outside, const struct outside_target *target,
                                     int64_t ms);

/* All of it, for calls that may be repeated (reading): reserve, wait, send. An error means that
 * nothing was sent. */
MUST_CHECK struct err outside_call(struct outside *outside, const struct outside_target *target,
                                   const struct http_request *request,
                                   struct http_response *response);

#endif
