#ifndef WHOPLINE_ASK_H
#define WHOPLINE_ASK_H
/* What the operator's commands ask Redis, one question at a time. The connection is the command's
 * (cli_open_redis); blocking; one thread. A key, stream or group that is not there is empty. */
#include "service/queue.h"
#include "service/scripts.h"

enum { ASK_ENTRY_SIZE = 48 }; /* a stream entry's id: two numbers of 64 bits and a dash */

/* words: NULL behind the last. *out: the caller's (redis_reply_free). */
MUST_CHECK struct err ask_reply(struct redis *redis, const char *const *words,
                                struct redis_reply **out);
#define ASK(redis, out, ...) ask_reply((redis), (const char *const[]){__VA_ARGS__, NULL}, (out))

MUST_CHECK struct err ask_integer(struct redis *redis, const char *command, const char *key,
                                  int64_t *out);
MUST_CHECK struct err ask_text(struct redis *redis, const char *command, const char *key,
                               struct buf *out);
MUST_CHECK struct err ask_time_ms(struct redis *redis, int64_t *out);
/* A script that answers a number. */
MUST_CHECK struct err ask_script(struct redis *redis, enum script script, size_t key_count,
                                 const struct span *args, size_t count, int64_t *out);
/* Which of the keys are there, all in one go. */
MUST_CHECK struct err ask_exist(struct redis *redis, const char *const *keys, size_t count,
                                bool *out);

/* Whether the error says that there is no such key or group. */
bool ask_is_missing(const struct err *err);

/* The time an entry's id was made at. */
int64_t ask_entry_ms(struct span entry);
int64_t ask_number(struct span text); /* 0 for what is none */

/* A queue in numbers. Ages in ms by Redis' clock, -1 where there is nothing. */
struct ask_queue {
    int64_t ready;   /* in the stream, not given to a worker */
    int64_t pending; /* given to a worker, not done */
    int64_t delayed;
    int64_t ready_age_ms;    /* of the oldest that is ready */
    int64_t pending_idle_ms; /* the longest time a pending one's lease was not prolonged */
};
MUST_CHECK struct err ask_queue(struct redis *redis, const char *prefix, enum queue_name queue,
                                struct ask_queue *out);

struct ask_pending {
    char entry[ASK_ENTRY_SIZE];
    char consumer[QUEUE_CONSUMER_MAX];
    int64_t idle_ms;
    int64_t deliveries;
};
/* Calls for each pending entry, by id. from: "-" for all, or an entry's id (*to likewise, "+"). */
MUST_CHECK struct err ask_each_pending(struct redis *redis, const char *stream, const char *from,
                                       const char *to,
                                       void (*each)(const struct ask_pending *pending, void *data),
                                       void *data);
/* Calls for each entry of a stream, from an id ("-") on, until each returns false. The job is
 * each's to free. */
MUST_CHECK struct err ask_each_entry(struct redis *redis, const char *stream, const char *from,
                                     bool (*each)(struct job *job, void *data), void *data);
/* Calls with each element of SSCAN's kin: SCAN of the pattern (key NULL), or HSCAN, ZSCAN of a key;
 * with a key, with the name alone. An element may come twice. */
MUST_CHECK struct err ask_scan(struct redis *redis, const char *command, const char *key,
                               const char *pattern, void (*each)(struct span element, void *data),
                               void *data);

#endif
