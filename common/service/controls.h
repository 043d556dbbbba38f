#ifndef WHOPLINE_CONTROLS_H
#define WHOPLINE_CONTROLS_H
/* Queues that an operator holds: PostgreSQL knows (queue_controls), Redis has the copy that workers
 * and ENQUEUE look at. Blocking; one thread that owns both connections. */
#include "io/pg.h"
#include "io/redis.h"
#include "service/keys.h"

enum queue_mode {
    QUEUE_MODE_OPEN,
    QUEUE_MODE_PAUSED,   /* workers begin nothing */
    QUEUE_MODE_DRAINING, /* the relay puts nothing in */
};

const char *queue_mode_name(enum queue_mode mode); /* "open", "paused", "draining" */
bool queue_mode_find(struct span name, enum queue_mode *out);

/* What PostgreSQL says of each queue. */
MUST_CHECK struct err controls_load(struct pg *pg, enum queue_mode modes[QUEUE_COUNT]);
/* Makes Redis say the same, of open ones too: a key that is missing means that Redis has lost it,
 * and that nobody should change his mind. */
MUST_CHECK struct err controls_mirror(struct redis *redis, const char *prefix,
                                      const enum queue_mode modes[QUEUE_COUNT]);

/* An operator's word: the truth and its audit row, in a transaction of their own. *changed: false
 * if the queue was in that mode already; then nothing is written, the older reason stands. */
MUST_CHECK struct err controls_set(struct pg *pg, enum queue_name queue, enum queue_mode mode,
                                   const char *actor, const char *reason, bool *changed);
/* Brings Redis' copy in line with the truth, also when others change it at the same time. */
MUST_CHECK struct err controls_copy(struct pg *pg, struct redis *redis, const char *prefix);

bool queue_name_find(const char *text, enum queue_name *out);

#endif
