#ifndef WHOPLINE_JOB_H
#define WHOPLINE_JOB_H
/* Job kinds and their payloads, as declared in schema/jobs.def and schema/routes.def.
 *
 * Payloads are msgpack maps of the fields that are not empty. Texts of decoded payloads live in the
 * arena; texts of payloads to encode are borrowed and never NULL. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum {
    JOB_PAYLOAD_MAX = 65536, /* bytes */
    JOB_KIND_MAX = 64,
};

/* struct event and every other payload. */
typedef const char *job_text;
typedef int64_t job_integer;
typedef bool job_flag;
#define PAYLOAD(name, version)     struct name {
#define FIELD(payload, type, name) job_##type name;
#define PAYLOAD_END(name)                                                                          \
    }                                                                                              \
    ;
#define JOB(name, kind, payload, queue, run_max, max_attempts, max_run_ms, life)
#include "jobs.def"
#undef PAYLOAD
#undef FIELD
#undef PAYLOAD_END
#undef JOB

enum payload_type {
#define PAYLOAD(name, version) PAYLOAD_##name,
#define FIELD(payload, type, name)
#define PAYLOAD_END(name)
#define JOB(name, kind, payload, queue, run_max, max_attempts, max_run_ms, life)
#include "jobs.def"
#undef PAYLOAD
#undef JOB
    PAYLOAD_TYPE_COUNT
};

enum job_kind {
#define PAYLOAD(name, version)
#define JOB(name, kind, payload, queue, run_max, max_attempts, max_run_ms, life) JOB_##name,
#include "jobs.def"
#undef PAYLOAD
#undef FIELD
#undef PAYLOAD_END
#undef JOB
    JOB_KIND_COUNT
};

enum queue_name {
#define QUEUE(name) QUEUE_##name,
#define EVENT(name, kind)
#define ALSO(name, other)
#define ROUTE(name, job)
#include "routes.def"
#undef QUEUE
#undef EVENT
#undef ALSO
#undef ROUTE
    QUEUE_COUNT
};

/* Where a job of the kind lives beside Redis. */
enum job_life {
    JOB_LIFE_KEPT,     /* in a row until it has ended */
    JOB_LIFE_EVENT,    /* nowhere yet: running it makes the row */
    JOB_LIFE_VOLATILE, /* nowhere: its loss is no harm */
};

struct job_type {
    const char *kind; /* "credits.payment_succeeded" */
    enum payload_type payload;
    int version; /* the payload's */
    enum queue_name queue;
    size_t run_max;
    int max_attempts;   /* 0: the setting */
    int64_t max_run_ms; /* 0: the setting */
    enum job_life life;
};

const struct job_type *job_type(enum job_kind kind);
bool job_kind_find(struct span kind, enum job_kind *out);
const char *queue_text(enum queue_name queue); /* "credits" */

/* An empty payload of the type: texts "", numbers 0. payload points to the struct. */
void payload_init(enum payload_type type, void *payload);
size_t payload_size(enum payload_type type);
/* Appends the msgpack form. TOO_LARGE beyond JOB_PAYLOAD_MAX. */
MUST_CHECK struct err payload_encode(enum payload_type type, const void *payload, struct buf *out);
/* payload: payload_size bytes. MALFORMED, or UNKNOWN_VERSION if version is newer than ours. */
MUST_CHECK struct err payload_decode(enum payload_type type, int version, struct span bytes,
                                     struct arena *arena, void *payload);

/* For showing one: the name of its field, with its value appended as JSON; NULL: no such field. A
 * text that is empty and a number that is 0 are absent in the msgpack form. */
const char *payload_field(enum payload_type type, const void *payload, size_t index,
                          struct buf *out);

#endif
