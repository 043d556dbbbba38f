#ifndef WHOPLINE_REGISTRY_VIEW_H
#define WHOPLINE_REGISTRY_VIEW_H
/* Worker processes as Redis knows them: what each says of itself, and the consumers of the streams'
 * groups, of which some may have no process any more. Read at one moment; the caller's memory. */
#include "cli/ask.h"

enum registry_field {
    REGISTRY_PROGRAM,
    REGISTRY_HOST,
    REGISTRY_PID,
    REGISTRY_QUEUE,
    REGISTRY_VERSION,
    REGISTRY_STATE,
    REGISTRY_SLOTS,
    REGISTRY_BUSY,
    REGISTRY_READY,
    REGISTRY_UNSETTLED,
    REGISTRY_STARTED_MS,
    REGISTRY_DONE,
    REGISTRY_FAILED,
    REGISTRY_LAST_READ_MS,
    REGISTRY_LAST_BEAT_MS,
    REGISTRY_LISTEN,
    REGISTRY_FIELD_COUNT,
};

struct registry_worker {
    char *name;                         /* its consumer's, host:pid:uuid */
    int64_t heard_ms;                   /* Redis' clock; 0: it never said anything */
    bool reports;                       /* its hash is there */
    char *fields[REGISTRY_FIELD_COUNT]; /* "" where it does not say */
    bool consumes;                      /* it is known to a stream's group: */
    const char *stream;                 /* of this queue, by its name */
    int64_t pending;
    int64_t idle_ms; /* since it last took, kept or asked for anything */
};

struct registry_view {
    struct registry_worker *workers; /* by name */
    size_t count;
    int64_t now_ms; /* Redis' clock */
};

const char *registry_field_name(enum registry_field field);
MUST_CHECK struct err registry_read(struct redis *redis, const char *prefix,
                                    struct registry_view *out);
void registry_close(struct registry_view *view);

/* How long nothing was heard of it, in ms. */
int64_t registry_silent_ms(const struct registry_view *view, const struct registry_worker *worker);
/* The queue it works for, as far as anybody says; "" else. */
const char *registry_queue(const struct registry_worker *worker);
/* NULL: no such worker. */
const struct registry_worker *registry_find(const struct registry_view *view, const char *name);

#endif
