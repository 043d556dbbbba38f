#ifndef WHOPLINE_EVENT_H
#define WHOPLINE_EVENT_H
/* From a verified webhook body, of whatever generation, to one struct event.
 *
 * Never refuses: what the sender really signed but we cannot make sense of becomes an event with a
 * quarantine reason, so that it is kept and can be looked at. The reasons:
 *   not_json, not_an_object, no_type, no_data, duplicate_key, nul_in_text, too_long,
 *   id_mismatch (body id is not the webhook-id), other_company (not the endpoint's, or two of
 * them), no_company (an app's endpoint and nothing in the body). There is one reason, the first
 * found; what could be read is there all the same, so that the event can be looked up. Ignore
 * reasons: test (data is an array, null or empty).
 *
 * Ids may be nested objects, flat members or bare texts in any generation. Amounts stay the text
 * they were sent as. Without any time in the body occurred_ms is the signature's; in v5 and v2 it
 * is the newest time of the data. Where that is only when the thing was created, long before this
 * happened to it, occurred_known is false: look at the thing itself before believing an order. */
#include "base/arena.h"
#include "codec/job.h"
#include "codec/signature.h"

struct event_source {
    const char *endpoint;         /* "default" */
    const char *endpoint_company; /* "" for an app's endpoint */
    struct span webhook_id;       /* used in the standard scheme only: no other MAC covers it */
    const struct signature_check *check;
    int64_t received_ms;
    struct span body;
};

/* out: filled in; its texts live in the arena or are borrowed from source. Always encodes to less
 * than JOB_PAYLOAD_MAX. Any thread. */
void event_normalise(const struct event_source *source, struct arena *arena, struct event *out);

/* The event's jobs by routes.def; returns how many. None if it is quarantined or ignored. */
enum { EVENT_JOBS_MAX = 8 };
size_t event_jobs(const struct event *event, enum job_kind out[EVENT_JOBS_MAX]);

/* The kind for a type as the sender writes it, be it of an older generation; NULL if unknown. */
const char *event_kind_of(struct span type_raw);

#endif
