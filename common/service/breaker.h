#ifndef WHOPLINE_BREAKER_H
#define WHOPLINE_BREAKER_H
/* Whether a host is worth calling: breakers of one process, by credential and host. Pure but for
 * their memory: time is an argument (monotonic ms). The caller sees to it that one thread at a time
 * is here.
 *
 *   CLOSED ──(failures within the window)──> OPEN ──(open_ms)──> one call may try
 *      ^                                      ^                      │
 *      │                                      └────── it failed ─────┤
 *      └──────────────────────── it went well ───────────────────────┘
 *
 * A try nobody tells the outcome of is given up after open_ms: then another one may try. */
#include "base/base.h"

enum { BREAKER_FAILURES_MAX = 32 };

struct breaker_options {
    size_t failures; /* 1 .. BREAKER_FAILURES_MAX */
    int64_t window_ms;
    int64_t open_ms;
};

enum breaker_outcome {
    BREAKER_WENT_WELL,
    BREAKER_FAILED,
    BREAKER_CANNOT_TELL, /* cancelled by us */
};

struct breakers {
    struct breaker_options options;
    struct breaker *items; /* those with failures or open */
    size_t count;
    size_t cap;
};

void breakers_init(struct breakers *breakers, const struct breaker_options *options);
void breakers_close(struct breakers *breakers);

/* How long to leave it alone; 0: call. Changes nothing. */
int64_t breaker_look(const struct breakers *breakers, const char *credential, const char *host,
                     int64_t now_ms);
/* The same, and a call follows: of an open one whose time is over, the one that may try. */
int64_t breaker_begin(struct breakers *breakers, const char *credential, const char *host,
                      int64_t now_ms);
/* True if that has opened it. */
bool breaker_tell(struct breakers *breakers, const char *credential, const char *host,
                  enum breaker_outcome outcome, int64_t now_ms);

size_t breakers_open_count(const struct breakers *breakers);

#endif
