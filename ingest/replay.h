#ifndef WHOPLINE_REPLAY_H
#define WHOPLINE_REPLAY_H
/* Between the 200 and the journal's COMMIT an event is in Redis only. So its ACCEPT is kept in a
 * ring, and when Redis turns out to be another one than before, or to have lost its data, what is
 * in the ring is ACCEPTed again: what Redis still has is a duplicate.
 *
 *   WATCHING ──identity differs from that of some file──> REPLAYING ──all answered──> WATCHING
 *                    ^                                     │      │
 *                    └──── it differs again: from the start┘      └─ Redis away or refusing: waits
 *
 * An event is in the ring before its 200 leaves: it is collected when its ACCEPT is, and all of a
 * turn is written before the loop waits for Redis' answers. One whose ACCEPT fails stays: it was
 * verified, and its sender comes again with the same id.
 *
 * Its time runs only while Redis is seen to be the same: in an outage of an hour nothing is
 * forgotten. One per process, in its owner's memory; loop thread. webhook and metrics are borrowed
 * and outlive it. */
#include "ingest/webhook.h"
#include "service/redis_identity.h"
#include "service/ring.h"

#include <uv.h>

enum { REPLAY_BATCH_MAX = 64 };

struct replay_item {
    struct accept_request accept;
    struct replay *replay;
};

struct replay {
    struct webhook *webhook;
    struct metrics *metrics;
    const struct config *config;
    struct ring *ring; /* NULL: switched off */
    uv_prepare_t flush;
    uv_timer_t watch;
    uv_timer_t pace; /* runs while replaying */
    bool open;       /* the handles are */

    struct redis_identity_request request;
    struct redis_identity known; /* as last seen */
    bool asking;
    int64_t asked_ms; /* clock_mono_ms */
    int64_t adopted_ms;

    bool replaying;
    struct ring_position settled; /* Redis has all before it */
    struct ring_position reached; /* by the batch under way */
    struct replay_item items[REPLAY_BATCH_MAX];
    size_t unanswered;
    bool batch_failed;
    bool from_start;                   /* the identity has changed under the batch */
    uint64_t begun[ACCEPT_FAILED + 1]; /* metrics.replayed when the replay began */

    bool told_hidden;  /* each: has been logged; that Redis hides who it is */
    bool told_crowded; /* that there is no room */
    bool told_unkept;  /* that writing fails; until it works again */
    bool told_refused; /* that Redis refuses; until a batch is through */
    uint64_t told_damaged;
    uint64_t told_foreign;

    bool drain_asked;
    int64_t drain_until_ms; /* of the loop's clock */
    void (*on_drained)(void *data);
    void *data;
};

/* Adds a line to problems for each setting that cannot be used. */
void replay_check(const struct config *config, struct buf *problems);
/* Takes over what an earlier process left. webhook keeps its events here from now on. */
MUST_CHECK struct err replay_open(struct replay *replay, uv_loop_t *loop, struct webhook *webhook);
void replay_close(struct replay *replay); /* harmless where it was not opened */

/* A connection to Redis is there: looks whose it is. */
void replay_on_ready(struct replay *replay);
/* Before an event's ACCEPT. record: borrowed for the call. */
void replay_keep(struct replay *replay, const struct accept_record *record);

/* Looks once more, and lets a replay end: on_drained comes when it has, at the latest a moment
 * after until_ms of the loop's clock, or from within this call where Redis is away. */
void replay_drain(struct replay *replay, int64_t until_ms, void (*on_drained)(void *data),
                  void *data);

#endif
