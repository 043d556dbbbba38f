#ifndef WHOPLINE_ACCEPT_H
#define WHOPLINE_ACCEPT_H
/* ACCEPT: a verified event goes to the events stream once, in one step with its dedupe key.
 *
 * Ingest only, loop thread, after the signature was verified. All calls of one turn of the loop
 * leave in one write. The verdict arrives exactly once, in a later turn. */
#include "codec/job.h"
#include "io/redis.h"
#include "service/keys.h"

enum accept_verdict {
    ACCEPT_NEW,       /* Redis has it, synced as its appendfsync says */
    ACCEPT_DUPLICATE, /* Redis had it already */
    ACCEPT_FAILED,    /* nobody knows: answer 503; the sender's repetition has the same id */
};

typedef void accept_callback(enum accept_verdict verdict, void *data);

struct accept_request {
    accept_callback *callback; /* set by the caller, with data */
    void *data;
    enum accept_verdict verdict; /* ours from here on */
};

struct accept {
    struct redis *redis; /* borrowed; opened with scripts_all() */
    const char *prefix;  /* STREAM_PREFIX; borrowed */
    int64_t ttl_s;       /* how long the event's id is remembered */
    struct buf payload;  /* ours; zero at first */
    struct buf packed;
    struct buf key;
    char stream[KEY_MAX]; /* made from prefix at the first event */
    char seen[KEY_MAX];
};

/* request: the caller's, until its callback. event and body: borrowed for the call. TOO_LARGE if
 * the event cannot be packed (then no callback comes). */
MUST_CHECK struct err accept_event(struct accept *accept, const struct event *event,
                                   struct span body, struct accept_request *request);

void accept_close(struct accept *accept); /* frees its buffers; the connection is not its own */

#endif
