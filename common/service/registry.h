#ifndef WHOPLINE_REGISTRY_H
#define WHOPLINE_REGISTRY_H
/* Which processes there are: each writes a hash about itself into Redis every few seconds, and its
 * name with the time into a zset. A process that dies is missed when its hash has expired; its name
 * stays for an hour, so that it can be said who is missing. For people and dashboards: nothing is
 * decided by it. Loop thread. */
#include "io/redis.h"
#include "service/keys.h"
#include "service/queue.h"

enum registry_state {
    REGISTRY_CHECKING, /* waits for its stores */
    REGISTRY_WORKING,
    REGISTRY_PAUSED,    /* does not read: an operator or PostgreSQL */
    REGISTRY_ISOLATING, /* does not read: a job that brought workers down runs alone */
    REGISTRY_STOPPING,
};

/* What a process says of itself; times are Unix ms, 0 where there is none yet. */
struct registry_entry {
    const char *program; /* "whopline-credits" */
    const char *queue;   /* "" for the scheduler */
    enum registry_state state;
    size_t slots;
    size_t busy;
    size_t ready;
    size_t unsettled;
    int64_t started_ms;
    uint64_t done;   /* runs that ended well, skipped ones included */
    uint64_t failed; /* put off, parked or dead */
    int64_t last_read_ms;
    int64_t last_beat_ms;
    const char *listen; /* address of /livez and so on; "" for none */
};

struct registry {
    struct redis *redis; /* borrowed; opened with scripts_all() */
    char name[QUEUE_CONSUMER_MAX];
    char host[64];
    char names[KEY_MAX];                    /* key of the zset */
    char own[KEY_MAX + QUEUE_CONSUMER_MAX]; /* key of the hash */
};

const char *registry_state_text(enum registry_state state); /* "working" */

/* name: that of the consumer (queue.h). */
void registry_init(struct registry *registry, struct redis *redis, const char *prefix,
                   const char *name);
/* keep_ms: the entry is gone if it is not written again by then. */
void registry_write(struct registry *registry, const struct registry_entry *entry, int64_t keep_ms,
                    redis_callback *callback, void *data);
void registry_remove(struct registry *registry, redis_callback *callback, void *data);

#endif
