#ifndef WHOPLINE_GATE_H
#define WHOPLINE_GATE_H
/* No job of a paused or disconnected tenant begins.
 *
 * What a process knows of such tenants is at most TENANT_STATUS_MS old when a run begins: whichever
 * slot finds it older asks the database, for all of them; the others wait for it. Without held
 * tenants that is all it costs. Slot threads. */
#include "io/pg.h"

#include <pthread.h>
#include <stdatomic.h>

struct gate {
    pthread_mutex_t mutex;
    int64_t max_age_ms;
    atomic_llong known_ms; /* clock_mono_ms when the database was asked */
    atomic_size_t held_count;
    int64_t *held; /* with the mutex: tenants, in order */
};

void gate_init(struct gate *gate, int64_t max_age_ms);
void gate_close(struct gate *gate);

/* Before a run. pg: the slot's. A database that does not answer leaves things as they are known:
 * no job gets far without it. True: there are held tenants. */
bool gate_look(struct gate *gate, struct pg *pg);
bool gate_holds(struct gate *gate, int64_t tenant);

#endif
