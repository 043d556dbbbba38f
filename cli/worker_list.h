#ifndef WHOPLINE_WORKER_LIST_H
#define WHOPLINE_WORKER_LIST_H
/* Worker processes as Redis knows them: what each says of itself, and the consumers of the streams'
 * groups, of which some may have no process any more. Read at one moment; the caller's memory. */
#include "cli/ask.h"

enum worker_field {
    WORKER_FIELD_PROGRAM,
    WORKER_FIELD_HOST,
    WORKER_FIELD_PID,
    WORKER_FIELD_QUEUE,
    WORKER_FIELD_VERSION,
    WORKER_FIELD_STATE,
    WORKER_FIELD_SLOTS,
    WORKER_FIELD_BUSY,
    WORKER_FIELD_READY,
    WORKER_FIELD_UNSETTLED,
    WORKER_FIELD_STARTED_MS,
    WORKER_FIELD_DONE,
    WORKER_FIELD_FAILED,
    WORKER_FIELD_LAST_READ_MS,
    WORKER_FIELD_LAST_BEAT_MS,
    WORKER_FIELD_LISTEN,
    WORKER_FIELD_COUNT,
};

struct worker_seen {
    char *name;                       /* its consumer's, host:pid:uuid */
    int64_t heard_ms;                 /* Redis' clock; 0: it never said anything */
    bool reports;                     /* its hash is there */
    char *fields[WORKER_FIELD_COUNT]; /* "" where it does not say */
    bool consumes;                    /* it is known to a stream's group: */
    const char *stream;               /* of this queue, by its name */
    int64_t pending;
    int64_t idle_ms; /* since it last took, kept or asked for anything */
};

struct worker_list {
    struct worker_seen *workers; /* by name */
    size_t count;
    int64_t now_ms; /* Redis' clock */
};

const char *worker_list_field_name(enum worker_field field);
MUST_CHECK struct err worker_list_read(struct redis *redis, const char *prefix,
                                       struct worker_list *out);
void worker_list_close(struct worker_list *view);

/* How long nothing was heard of it, in ms. */
int64_t worker_list_silent_ms(const struct worker_list *view, const struct worker_seen *worker);
/* The queue it works for, as far as anybody says; "" else. */
const char *worker_list_queue(const struct worker_seen *worker);

#endif
