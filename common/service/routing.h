#ifndef WHOPLINE_ROUTING_H
#define WHOPLINE_ROUTING_H
/* What is to be kept of an event, and what is to be done about it: for the journal, when it comes,
 * and for quarantine.c, when its tenant does. Pure. */
#include "base/arena.h"
#include "codec/event.h"
#include "service/store.h"

/* Fills in tenant, status and reason; event is there already. tenant: 0 for none. */
void routing_classify(struct store_event *row, int64_t tenant);

/* The jobs of those that are new and routed. out: room for EVENT_JOBS_MAX of each. The texts are
 * the events' and the arena's. */
size_t routing_list_jobs(const struct store_event *rows, size_t count, struct arena *arena,
                         struct outgoing *out);

#endif
