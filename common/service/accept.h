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

/* All that ACCEPT needs of an event: what can be kept, and given to Redis once more. Borrowed. */
struct accept_record {
    struct span id;
    struct span payload; /* struct event, packed */
    struct span body;    /* as it came */
    int version;         /* of the packed form */
    int64_t occurred_ms; /* Unix time */
    int64_t received_ms;
};

/* event and body: borrowed for as long as out is used. The packed form is accept's, until the next
 * call. TOO_LARGE if the event cannot be packed. */
MUST_CHECK struct err accept_pack(struct accept *accept, const struct event *event,
                                  struct span body, struct accept_record *out);
/* request: the caller's, until its callback. record: borrowed for the call. */
void accept_packed(struct accept *accept, const struct accept_record *record,
                   struct accept_request *request);

void accept_close(struct accept *accept); /* frees its buffers; the connection is not its own */

#endif
