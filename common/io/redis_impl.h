#ifndef WHOPLINE_REDIS_IMPL_H
#define WHOPLINE_REDIS_IMPL_H
/* The inside of io/redis.h, for its own files only: redis.c connects, greets and closes;
 * redis_command.c collects commands, sends them and answers for those that cannot be; redis_reply.c
 * reads with hiredis and hands replies out. Loop thread. */
#include "base/arena.h"
#include "base/buf.h"
#include "io/redis.h"
#include "io/redis_url.h"

enum { REDIS_READ_BYTES = 65536, REDIS_SHA_SIZE = 41 };

/* See the drawing in the header. CLOSING comes from anywhere and is for good. */
enum redis_state { STATE_DOWN, STATE_CONNECTING, STATE_GREETING, STATE_READY, STATE_CLOSING };

/* A command whose reply is awaited, or (in failed) whose callback is owed an error. */
struct redis_pending {
    redis_callback *callback;
    void *data;
    char *command; /* scripts only, to repeat it after NOSCRIPT */
    size_t command_len;
    size_t script;
    int64_t sent_ms;
    bool greeting; /* AUTH, SELECT, SCRIPT LOAD: ours */
};

/* A first-in-first-out ring that grows. */
struct redis_ring {
    struct redis_pending *items;
    size_t cap;
    size_t first;
    size_t count;
};

struct redis {
    struct redis_options options;
    struct redis_url url;
    enum redis_state state;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    bool socket_open; /* initialised and not yet asked to close */
    uv_connect_t connect;
    uv_getaddrinfo_t lookup;
    bool lookup_running;
    uv_timer_t retry;
    uv_timer_t deadline;
    uv_prepare_t flush;
    int handles;                /* timers and prepare, until closed */
    struct redisReader *reader; /* hiredis' */
    struct redis_ring waiting;  /* for replies */
    struct redis_ring failed;   /* owed an error, paid in the next turn */
    struct err why;             /* of the last loss */
    struct buf out;             /* collected in this turn */
    struct buf writing;         /* handed to uv_write */
    uv_write_t write;
    bool write_running;
    unsigned attempts;
    unsigned attempts_before; /* the last connection got ready, */
    int64_t ready_ms;         /* which was at this time */
    bool outage;              /* on_down has been called, on_ready not yet */
    char (*shas)[REDIS_SHA_SIZE];
    size_t greetings_left;
    size_t scripts_loaded;
    char *read_memory;
    struct arena replies; /* of the reply that is being read */
    bool keep_reply;      /* redis_call takes the reply over */
    bool freed_when_idle;
};

void redis_ring_push(struct redis_ring *ring, struct redis_pending item);
struct redis_pending redis_ring_pop(struct redis_ring *ring);

/* redis.c */
/* Lets go of the socket; everything in flight is owed an error. From any open state to DOWN, or on
 * the way to CLOSING. */
void redis_drop(struct redis *redis, struct err why);
/* When closing: once all callbacks are paid the handles go, and with the last of them the memory.
 * The last thing a callback of libuv's does. */
void redis_maybe_free(struct redis *redis);
/* One timer for the connection: at the time the oldest command becomes overdue. */
void redis_arm_deadline(struct redis *redis);

/* redis_command.c */
/* Queues what is in Redis' protocol already. */
void redis_send(struct redis *redis, struct redis_pending item, const char *command, size_t len);
/* Queues one of our own, whatever the state: AUTH, SELECT, SCRIPT LOAD. */
void redis_send_own(struct redis *redis, struct redis_pending item, const struct span *args,
                    size_t count);
void redis_flush_soon(struct redis *redis); /* in this turn of the loop, before it waits */

/* redis_reply.c */
void redis_start_reading(struct redis *redis);
void redis_stop_reading(struct redis *redis); /* forgets half a reply */

#endif
