#ifndef WHOPLINE_RELAY_H
#define WHOPLINE_RELAY_H
/* From rows to Redis: what the scheduler does so that a queued row is always on its way. Blocking;
 * one thread that owns both connections. Safe to run in several processes: ENQUEUE of what is still
 * in Redis is a duplicate. */
#include "io/pg.h"
#include "io/redis.h"

struct relay {
    struct redis *redis; /* opened with scripts_all() */
    struct pg *pg;
    const char *prefix;
    int64_t grace_ms;   /* rows younger than this are left to whoever inserted them */
    int64_t stale_ms;   /* RELAY_STALE_MS */
    int64_t tenant_max; /* TENANT_MAX_INFLIGHT */
    int64_t rebuilds;   /* ours: as of relay_check_epoch */
};

/* Whether Redis is the one that the rows were relayed to: same run, same epoch. If not, every
 * queued row is marked unrelayed, so that sweeps offer it again. *rebuilt: how many. */
MUST_CHECK struct err relay_check_epoch(struct relay *relay, size_t *rebuilt);
/* What a sweep came to. */
struct relay_round {
    size_t offered;    /* relayed now: call again at once while this is not 0 */
    bool bulk_waiting; /* bulk rows are due whose tenants have as many in Redis as they may */
};

/* Offers due rows that are unrelayed or stale, oldest first, a few hundred of each; bulk rows only
 * up to tenant_max of a tenant, counting those that are in Redis unfinished (two schedulers at once
 * may exceed that by a round). Queues being drained get nothing, and all queues' controls are
 * brought to Redis first. */
MUST_CHECK struct err relay_sweep(struct relay *relay, struct relay_round *round);

#endif
