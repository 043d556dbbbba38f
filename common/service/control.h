#ifndef WHOPLINE_CONTROL_H
#define WHOPLINE_CONTROL_H
/* Holding a queue by hand. The table queue_controls is the truth; Redis has a copy in ctl:<queue>,
 * which workers and relays look at. Blocking; the thread that owns both connections.
 *
 *   paused    workers take no more jobs of the queue; what runs ends, the rest stays in Redis
 *   draining  nothing more is put into the queue's stream; workers finish what is in it */
#include "codec/job.h"
#include "io/pg.h"
#include "io/redis.h"

enum control_mode { CONTROL_OPEN, CONTROL_PAUSED, CONTROL_DRAINING };

const char *control_mode_name(enum control_mode mode); /* "open", "paused", "draining" */
bool queue_name_find(const char *text, enum queue_name *out);

/* Writes the truth and its audit row, in a transaction of its own. *changed: false if the queue was
 * in that mode already; then nothing is written, the older reason stands. */
MUST_CHECK struct err control_set(struct pg *pg, enum queue_name queue, enum control_mode mode,
                                  const char *actor, const char *reason, bool *changed);
/* Brings Redis' copy in line with the truth, whatever either of them says. */
MUST_CHECK struct err control_copy(struct pg *pg, struct redis *redis, const char *prefix,
                                   enum queue_name queue);

#endif
