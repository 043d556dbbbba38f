#ifndef WHOPLINE_QUEUE_H
#define WHOPLINE_QUEUE_H
/* A queue in Redis, as a worker sees it: entries in, verdicts out. Loop thread only.
 *
 * Every step is one call of a script of schema/redis. Callbacks are those of io/redis: they fire
 * exactly once, with the reply or an error after which nobody knows whether the step took effect;
 * all steps may be repeated. */
#include "base/random.h"
#include "codec/job.h"
#include "io/redis.h"
#include "service/keys.h"

enum {
    QUEUE_CONSUMER_MAX = 160,
    QUEUE_SUSPECT_DELIVERIES =
        3, /* from this one on an entry runs alone: two workers died with it */
};

struct queue {
    struct redis *redis; /* borrowed; opened with scripts_all() */
    enum queue_name name;
    char stream[KEY_MAX];
    char delayed[KEY_MAX];
    char fields[KEY_MAX];
    char control[KEY_MAX];             /* whether an operator holds it */
    char seen[KEY_MAX];                /* prefix of the dedupe keys */
    char dead[KEY_MAX];                /* for what has no row to die in */
    char consumer[QUEUE_CONSUMER_MAX]; /* host:pid:uuid */
};

/* One entry, taken out of Redis into one piece of memory. Texts are NUL-terminated, never NULL. */
struct job {
    struct job *next; /* of whoever holds it */
    struct job *prev;
    const char *entry; /* the stream's id, "1700000000000-0" */
    const char *id;    /* <uuid>.<gen>, or an event's id */
    const char *kind;
    const char *key;
    const char *trace;
    bool kind_known;     /* by this release: then */
    enum job_kind known; /* is what kind says */
    int64_t tenant;      /* 0 for events */
    int version;
    int attempt;        /* failed attempts before this one */
    int64_t deliveries; /* this one included; more than 1: its workers did not come back */
    int64_t occurred_ms;
    int64_t enqueued_ms; /* events: received; jobs: their row was created */
    struct span payload;
    struct span body; /* events only */
    /* What the holder means to tell Redis of it. */
    int64_t delay_ms;
    int next_attempt;
    char *reason; /* owned; NULL for none; of an entry of the dead stream: what it died of */
};

/* A job on its way into Redis, from its row. */
struct outgoing {
    char id[UUID_TEXT_SIZE];
    int gen;
    enum job_kind kind;
    int version; /* of the payload, as it was packed */
    int64_t tenant;
    const char *key;
    const char *event_id; /* "" where there is none */
    const char *trace;
    int64_t occurred_ms;
    int64_t created_ms; /* of the row, or requeued: a job's age survives a Redis that does not */
    int attempts;
    bool bulk;        /* waits for its tenant's turn: the scheduler relays it */
    bool maybe_there; /* Redis may have been told before: it is to look whether it still has it */
    struct span payload;
};

/* prefix: STREAM_PREFIX. */
void queue_init(struct queue *queue, struct redis *redis, const char *prefix, enum queue_name name);
/* host:pid:uuid, another one at each call. */
void queue_consumer(char out[QUEUE_CONSUMER_MAX]);

void queue_create_group(struct queue *queue, redis_callback *callback, void *data);
/* Up to count new entries, waiting up to block_ms. reader: the connection that may be blocked. */
void queue_read(struct queue *queue, struct redis *reader, size_t count, int64_t block_ms,
                redis_callback *callback, void *data);
/* The jobs of a read's reply, as a list linked by next. */
struct job *queue_take_read(const struct redis_reply *reply);
/* The same for an array of entries, the reply of XRANGE. */
struct job *queue_take_entries(const struct redis_reply *entries);

/* Ids whose lease of lease_ms has run out, now owned by us: reply is {cursor, ids, deleted}. */
void queue_reclaim(struct queue *queue, int64_t lease_ms, const char *cursor, size_t count,
                   redis_callback *callback, void *data);
/* alone: nothing else runs in this process, so that a suspect may be started. */
void queue_start(struct queue *queue, struct span entry, bool alone, redis_callback *callback,
                 void *data);
/* The job of a START's reply. NULL if it was not ours, or if it is a suspect (then it is still
 * ours, and neither started nor counted). */
struct job *queue_take_start(const struct redis_reply *reply, struct span entry, bool *suspect);

void queue_beat(struct queue *queue, const struct span *entries, size_t count,
                redis_callback *callback, void *data);
void queue_done(struct queue *queue, const struct job *const *jobs, size_t count,
                redis_callback *callback, void *data);
void queue_retry(struct queue *queue, const struct job *job, int64_t delay_ms, int attempt,
                 redis_callback *callback, void *data);
void queue_release(struct queue *queue, const struct span *entries, size_t count,
                   redis_callback *callback, void *data);
void queue_bury(struct queue *queue, const struct job *job, const char *reason,
                redis_callback *callback, void *data);
/* Reply: {how many, ms until the next or -1, "paused", "draining" or nil}. */
void queue_promote(struct queue *queue, size_t count, redis_callback *callback, void *data);

/* Consumers of the group that have been idle for idle_ms and have nothing pending are forgotten, in
 * one step; the reply is how many. */
void queue_reap(struct queue *queue, int64_t idle_ms, redis_callback *callback, void *data);
/* Ours too, at a clean end; if anything is still pending it stays. */
void queue_leave(struct queue *queue, redis_callback *callback, void *data);

enum { QUEUE_HELD = -1 };
/* ENQUEUE: to whatever queue the job's kind belongs. Reply: 1 new, 0 still in Redis, or QUEUE_HELD:
 * not taken, the queue is being drained. */
void queue_enqueue(struct redis *redis, const char *prefix, const struct outgoing *job,
                   redis_callback *callback, void *data);

void job_free(struct job *job);

#endif
