#ifndef WHOPLINE_REDIS_IDENTITY_H
#define WHOPLINE_REDIS_IDENTITY_H
/* Which Redis this is, and whether it still has the data it had: three texts that change when it
 * may have lost some.
 *
 *   run_id          of the server process: a restart, another server
 *   replication_id  of its data set: a failover
 *   epoch           ours, a key: FLUSHALL and a lost data set take it away, and whoever looks next
 *                   makes another. So compare with what you knew before, not with its absence.
 *
 * Loop thread. */
#include "io/redis.h"
#include "service/keys.h"

enum { REDIS_IDENTITY_MAX = 64 };

/* A text is "" where Redis refused to say (an ACL). */
struct redis_identity {
    char run_id[REDIS_IDENTITY_MAX];
    char replication_id[REDIS_IDENTITY_MAX];
    char epoch[REDIS_IDENTITY_MAX];
};

/* err: NULL, or the connection was lost meanwhile. */
typedef void redis_identity_callback(const struct err *err, void *data);

struct redis_identity_request {
    redis_identity_callback *callback; /* set by the caller, with data */
    void *data;
    struct redis_identity identity; /* ours from here on */
    struct err refused;             /* the last error reply, if there was one */
    struct err err;
    struct redis *redis;
    char key[KEY_MAX];
    char fresh[REDIS_IDENTITY_MAX];
};

/* Asks, and makes the epoch if there is none. request: the caller's, until its callback. */
void redis_identity_ask(struct redis *redis, const char *prefix,
                        struct redis_identity_request *request);
/* The blocking form; an error reply is an error. */
MUST_CHECK struct err redis_identity_get(struct redis *redis, const char *prefix,
                                         struct redis_identity *out);

#endif
