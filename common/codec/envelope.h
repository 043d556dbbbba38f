#ifndef WHOPLINE_ENVELOPE_H
#define WHOPLINE_ENVELOPE_H
/* What travels with a job's payload through Redis, as one field of its entry: a msgpack array of
 * kind, version, key, tenant, attempt, occurred_ms, enqueued_ms, trace, payload. One field and not
 * ten, because Redis and the worker pay for each (10 fields cost Redis about twice as much). A
 * reader ignores members beyond those it knows. */
#include "base/buf.h"
#include "base/err.h"

struct envelope {
    struct span kind;
    int64_t version; /* of the payload */
    struct span key;
    int64_t tenant;
    int64_t attempt; /* failed attempts before this one */
    int64_t occurred_ms;
    int64_t enqueued_ms;
    struct span trace;
    struct span payload;
};

void envelope_encode(const struct envelope *envelope, struct buf *out); /* appends */
/* Spans point into bytes. MALFORMED leaves everything empty. */
MUST_CHECK struct err envelope_decode(struct span bytes, struct envelope *out);

#endif
