#ifndef WHOPLINE_REDIS_H
#define WHOPLINE_REDIS_H
/* One connection to Redis on a libuv loop. hiredis is the codec; sockets, time-outs, reconnecting
 * and scripts are here.
 *
 * Everything happens on the loop's thread. Commands are collected and leave in one write per turn
 * of the loop. A command's callback fires exactly once, never from within the call that queued it:
 * with the reply, or with an error when the connection is lost, closed or was not there. After a
 * loss the command may or may not have taken effect.
 *
 *   DOWN ──(backoff from 50 ms, with jitter)──> CONNECTING ──> GREETING ──> READY
 *     ^                                                │            │           │
 *     └────────────────────────────────────────────────┴────────────┴───────────┘
 *   GREETING: AUTH, SELECT and SCRIPT LOAD have been sent. LOADING, READONLY, MASTERDOWN or a reply
 *   that is overdue drops the connection. */
#include "base/err.h"

#include <uv.h>

struct redis;
struct redis_reply; /* borrowed for the callback */

struct redis_script {
    const char *name;
    const char *source;
    size_t size;
};

/* err: NULL when there is a reply that is not an error. An error reply is REDIS_REPLY with Redis'
 * own words in the text. */
typedef void redis_callback(const struct err *err, const struct redis_reply *reply, void *data);

struct redis_options {
    uv_loop_t *loop;
    const char *url; /* redis://[user:password@]host[:port][/db], unix:///path[?db=n] */
    const struct redis_script *scripts; /* borrowed; loaded on every connection */
    size_t script_count;
    int64_t timeout_ms;           /* the oldest unanswered command's age that means "broken" */
    int64_t retry_max_ms;         /* longest wait between attempts to connect; 0: 5 s */
    void (*on_ready)(void *data); /* may be NULL */
    void (*on_down)(const struct err *why, void *data); /* may be NULL */
    void *data;
};

/* Starts connecting. CONFIG for a URL it does not understand; the text shows no password. */
MUST_CHECK struct err redis_new(const struct redis_options *options, struct redis **out);
/* Pending callbacks fire with CANCELLED during later turns of the loop; memory goes when the
 * handles are closed, so run the loop until it is empty. on_closed may be NULL. */
void redis_close(struct redis *redis);

/* Drops the connection, as if it had been lost, and connects again. */
void redis_reset(struct redis *redis, const struct err *why);

bool redis_is_ready(const struct redis *redis);
size_t redis_pending(const struct redis *redis); /* commands without a reply */

/* args: borrowed for the call. callback may be NULL. */
void redis_command(struct redis *redis, const struct span *args, size_t count,
                   redis_callback *callback, void *data);
/* script: index into options.scripts. args: the keys, then the rest. NOSCRIPT is repaired by
 * loading and repeating once. */
void redis_eval(struct redis *redis, size_t script, size_t key_count, const struct span *args,
                size_t count, redis_callback *callback, void *data);

/* Blocking face, for programs that have nothing else to do: runs the loop until the reply is there,
 * or up to timeout_ms of the options while there is no connection. out is owned by the caller. */
MUST_CHECK struct err redis_call(struct redis *redis, const struct span *args, size_t count,
                                 struct redis_reply **out);
MUST_CHECK struct err redis_wait_ready(struct redis *redis);
/* Runs the loop until callbacks have brought *left to 0. */
void redis_settle(struct redis *redis, const size_t *left);
void redis_reply_free(struct redis_reply *reply); /* only for replies of redis_call */

/* What is in a reply; for another type, or NULL, the empty value. */
int64_t redis_reply_integer(const struct redis_reply *reply);
bool redis_reply_is_integer(const struct redis_reply *reply);
struct span redis_reply_text(
    const struct redis_reply *reply);                      /* bulk or status; NULL ptr for nil */
size_t redis_reply_count(const struct redis_reply *reply); /* members of an array */
const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index);
bool redis_reply_is_nil(const struct redis_reply *reply);

#endif
