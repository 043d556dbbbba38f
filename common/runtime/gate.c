#include "runtime/gate.h"

#include "base/clock.h"
#include "base/log.h"
#include "runtime/run.h"
#include "service/tenant.h"

#include <limits.h>
#include <stdlib.h>

void gate_init(struct gate *gate, int64_t max_age_ms)
{
    *gate = (struct gate){.max_age_ms = max_age_ms};
    pthread_mutex_init(&gate->mutex, NULL);
    atomic_store(&gate->known_ms, LLONG_MIN / 2);
}

void gate_close(struct gate *gate)
{
    pthread_mutex_destroy(&gate->mutex);
    free(gate->held);
}

static bool is_fresh(struct gate *gate)
{
    return clock_mono_ms() - atomic_load(&gate->known_ms) < gate->max_age_ms;
}

static void ask(struct gate *gate, struct pg *pg)
{
    int64_t *held = NULL;
    size_t count = 0;
    int64_t now_ms = clock_mono_ms();
    struct err err = tenant_list_held(pg, &held, &count);
    if (err_failed(&err)) {
        log_debug("gate", "cannot ask which tenants are held", LOG_TEXT("error", err_text(&err)));
        return;
    }
    free(gate->held);
    gate->held = held;
    atomic_store(&gate->held_count, count);
    atomic_store(&gate->known_ms, now_ms);
}

bool gate_look(struct gate *gate, struct pg *pg)
{
    if (!is_fresh(gate)) {
        pthread_mutex_lock(&gate->mutex);
        if (!is_fresh(gate))
            ask(gate, pg);
        pthread_mutex_unlock(&gate->mutex);
    }
    return atomic_load(&gate->held_count) > 0;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right ? 1 : 0;
}

bool gate_holds(struct gate *gate, int64_t tenant)
{
    pthread_mutex_lock(&gate->mutex);
    bool held = gate->held != NULL && bsearch(&tenant, gate->held, atomic_load(&gate->held_count),
                                              sizeof tenant, compare) != NULL;
    pthread_mutex_unlock(&gate->mutex);
    return held;
}

/* --- a run ----------------------------------------------------------------------------------- */

/* The jobs of held tenants, as far as is known; jobs and places have room for all of the run. */
static size_t list_held(struct slot_thread *thread, struct tenant_job *jobs, size_t *places)
{
    struct run *run = &thread->run;
    size_t count = 0;
    for (size_t i = 0; i < run->count; i++) {
        const struct job *job = run->jobs[i].job;
        if (!gate_holds(&thread->slots->gate, job->tenant) || atomic_load(&run->jobs[i].lost))
            continue;
        bool has_row = !job->kind_known || job_type(job->known)->life == JOB_LIFE_KEPT;
        jobs[count] = (struct tenant_job){.id = job->id, .tenant = job->tenant, .has_row = has_row};
        places[count++] = i;
    }
    return count;
}

static void settle(struct run_job *item, const struct tenant_job *job)
{
    item->settled = true;
    item->has_row = job->has_row;
    item->class = err_class_of(job->held);
    item->verdict.action = VERDICT_PARK;
}

void gate_hold_run(struct slot_thread *thread)
{
    struct slot *slot = &thread->slot;
    struct tenant_job jobs[RUN_JOBS_MAX];
    size_t places[RUN_JOBS_MAX];
    size_t held = 0;
    struct run *run = &thread->run;
    if (run->jobs[0].job->kind_known && job_type(run->jobs[0].job->known)->life == JOB_LIFE_EVENT)
        return;              /* an event has no tenant yet, and is kept whosever it is */
    slot->committed = false; /* of the run before */
    pg_allow(slot->db);
    pg_limit(slot->db, slot->config->max_run_ms);
    if (!gate_look(&thread->slots->gate, slot->db))
        return;
    size_t count = list_held(thread, jobs, places);
    if (count == 0)
        return;
    struct err err = tenant_hold_jobs(slot->db, jobs, count);
    for (size_t i = 0; i < count; i++) {
        struct run_job *item = &run->jobs[places[i]];
        if (err_failed(&err)) { /* not begun either: it may be paused */
            item->settled = true;
            item->has_row = jobs[i].has_row;
            judge_job(thread, item, err);
        } else if (jobs[i].held != ERR_OK) {
            settle(item, &jobs[i]);
            held++;
        }
    }
    if (held > 0)
        log_info("gate", "jobs of paused or disconnected tenants are parked",
                 LOG_INT("jobs", held));
}
