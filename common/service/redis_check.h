#ifndef WHOPLINE_REDIS_CHECK_H
#define WHOPLINE_REDIS_CHECK_H
/* Whether this Redis keeps what it is given: AOF on, appendfsync always, no eviction, version 7.
 *
 * Loop thread. Asked once at start; the answer is REDIS_UNSAFE with what to change, or nothing.
 * Where CONFIG is forbidden, appendfsync cannot be seen: then a line in the log says so. */
#include "io/redis.h"

typedef void redis_check_callback(const struct err *err, void *data); /* NULL: safe */

struct redis_check {
    redis_check_callback *callback; /* set by the caller, with data */
    void *data;
    struct err err; /* ours from here on */
    struct redis *redis;
};

/* check: the caller's, until its callback. */
void redis_check_start(struct redis *redis, struct redis_check *check);

#endif
