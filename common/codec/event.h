#ifndef WHOPLINE_EVENT_H
#define WHOPLINE_EVENT_H
/* From a verified webhook body, of whatever generation, to one struct event.
 *
 * Never refuses: what the sender really signed but we cannot make sense of becomes an event with a
 * quarantine reason, so that it is kept and can be looked at. The reasons:
 *   not_json, not_an_object, no_type, no_data, duplicate_key, nul_in_text, too_long,
 *   id_mismatch (body id is not the webhook-id), other_company (not the endpoint's),
 *   no_company (an app's endpoint and nothing in the body).
 * Ignore reasons: test (data is an array, null or empty). */
#include "base/arena.h"
#include "codec/job.h"
#include "codec/signature.h"

struct event_source {
    const char *endpoint;         /* "default" */
    const char *endpoint_company; /* "" for an app's endpoint */
    struct span webhook_id;       /* NULL or empty where the scheme has none */
    const struct signature_check *check;
    int64_t received_ms;
    struct span body;
};

/* out: filled in; its texts live in the arena or are borrowed from source. */
void event_normalise(const struct event_source *source, struct arena *arena, struct event *out);

/* The event's jobs by routes.def; returns how many (at most max). */
enum { EVENT_JOBS_MAX = 8 };
size_t event_jobs(const struct event *event, enum job_kind out[EVENT_JOBS_MAX]);

/* The names routes.def knows for an event: its own and those of older generations. NULL if none. */
const char *event_kind_of(struct span type_raw);

#endif
