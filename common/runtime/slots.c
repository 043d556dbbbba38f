#include "runtime/process.h"
#include "runtime/run.h"
#include "service/outside_shared.h"

#include <signal.h>
#include <stdlib.h>

/* --- on the slots' threads -----------------------------------------------------------------------
 */

void slots_relay(struct slot_thread *thread, const struct outgoing *jobs, size_t count)
{
    struct slots *slots = thread->slots;
    thread->relay =
        (struct relay_request){.jobs = jobs, .count = count, .left = count, .from = thread};
    thread->relayed = false; /* nobody answers what has not been posted */
    pthread_mutex_lock(&slots->mutex);
    slots->relays[slots->relay_count++] = &thread->relay;
    pthread_mutex_unlock(&slots->mutex);
    slots->notify(slots->data);
    pthread_mutex_lock(&thread->mutex);
    while (!thread->relayed)
        pthread_cond_wait(&thread->wake, &thread->mutex);
    pthread_mutex_unlock(&thread->mutex);
}

void slots_count(struct slot_thread *thread)
{
    struct slots *slots = thread->slots;
    struct slot *slot = &thread->slot;
    if (!slot->committed)
        figures_empty(&slot->figures);
    if (!slot->figures.touched)
        return;
    pthread_mutex_lock(&slots->figures_mutex);
    figures_pour(&slot->figures, &slots->figures);
    pthread_mutex_unlock(&slots->figures_mutex);
}

/* False: the thread is to end. */
static bool await_run(struct slot_thread *thread)
{
    pthread_mutex_lock(&thread->mutex);
    while (!thread->busy && !thread->ending)
        pthread_cond_wait(&thread->wake, &thread->mutex);
    bool busy = thread->busy;
    pthread_mutex_unlock(&thread->mutex);
    return busy;
}

static void finish_run(struct slot_thread *thread)
{
    struct slots *slots = thread->slots;
    pthread_mutex_lock(&thread->mutex);
    thread->busy = false;
    pthread_mutex_unlock(&thread->mutex);
    pthread_mutex_lock(&slots->mutex);
    slots->finished[slots->finished_count++] = thread;
    pthread_mutex_unlock(&slots->mutex);
    slots->notify(slots->data);
}

static void *slot_main(void *data)
{
    struct slot_thread *thread = data;
    while (await_run(thread)) {
        run_execute(thread);
        finish_run(thread);
    }
    return NULL;
}

/* --- on the loop's thread ------------------------------------------------------------------------
 */

/* Waits are measured by the clock that does not step. */
static void init_wake(pthread_cond_t *wake)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

void slots_start(struct slots *slots, const struct worker *worker, const struct config *config,
                 void (*notify)(void *data), void *data)
{
    *slots = (struct slots){.worker = worker,
                            .config = config,
                            .count = (size_t)config->slots,
                            .notify = notify,
                            .data = data};
    pthread_mutex_init(&slots->mutex, NULL);
    pthread_mutex_init(&slots->figures_mutex, NULL);
    figures_init(&slots->figures, worker->figures);
    gate_init(&slots->gate, config->tenant_status_ms);
    slots->threads = mem_zalloc(slots->count * sizeof *slots->threads);
    slots->finished = mem_zalloc(slots->count * sizeof(struct slot_thread *));
    slots->relays = mem_zalloc(slots->count * sizeof(struct relay_request *));
    slots->asked = mem_zalloc(slots->count * sizeof(struct outside_request *));
    slots->shared = worker->outside != NULL ? outside_shared_new(config) : NULL;
    /* Threads inherit the mask: signals are for the loop's. */
    sigset_t before;
    process_block_signals(&before);
    for (size_t i = 0; i < slots->count; i++) {
        struct slot_thread *thread = &slots->threads[i];
        thread->slots = slots;
        thread->slot.config = config;
        thread->slot.db = pg_new(config->database_url);
        pg_set_prepare(thread->slot.db, config->database_prepare);
        pg_set_lock_wait(thread->slot.db, config->database_lock_timeout_ms);
        pg_set_cancel_wait(thread->slot.db, config->cancel_grace_ms / 2);
        arena_init(&thread->slot.arena);
        figures_init(&thread->slot.figures, worker->figures);
        pthread_mutex_init(&thread->mutex, NULL);
        init_wake(&thread->wake);
        if (slots->shared != NULL)
            slot_outside_init(thread);
        REQUIRE(pthread_create(&thread->thread, NULL, slot_main, thread) == 0);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void slots_write(struct slots *slots, struct metric_page *page)
{
    pthread_mutex_lock(&slots->figures_mutex);
    figures_write(&slots->figures, page);
    pthread_mutex_unlock(&slots->figures_mutex);
}

void slots_hand_over(struct slot_thread *thread)
{
    pthread_mutex_lock(&thread->mutex);
    REQUIRE(!thread->busy);
    atomic_store(&thread->place, 0);
    atomic_store(&thread->stop_place, 0);
    thread->busy = true;
    pthread_mutex_unlock(&thread->mutex);
    pthread_cond_signal(&thread->wake);
}

void slots_stop_job(struct slot_thread *thread, size_t place, enum stop_reason reason)
{
    atomic_store(&thread->stop_reason, (int)reason);
    atomic_store(&thread->stop_place, place);
    pg_cancel(thread->slot.db);
    slots_stop_outside(thread);
}

void slots_stop_outside(struct slot_thread *thread)
{
    const struct outside_face *face = thread->slots->worker->outside;
    if (face == NULL)
        return;
    pthread_mutex_lock(&thread->mutex);
    bool taken = thread->request.taken;
    pthread_mutex_unlock(&thread->mutex);
    pthread_cond_signal(&thread->wake); /* it may wait for its moment */
    if (taken && slot_outside_is_stopped(thread))
        face->cancel(&thread->request);
}

void slots_answer_relay(struct relay_request *request)
{
    struct slot_thread *thread = request->from;
    pthread_mutex_lock(&thread->mutex);
    thread->relayed = true;
    pthread_mutex_unlock(&thread->mutex);
    pthread_cond_signal(&thread->wake);
}

void slots_take(struct slots *slots, struct slot_thread **finished, size_t *finished_count,
                struct relay_request **relays, size_t *relay_count)
{
    pthread_mutex_lock(&slots->mutex);
    memcpy(finished, slots->finished, slots->finished_count * sizeof *finished);
    memcpy(relays, slots->relays, slots->relay_count * sizeof *relays);
    *finished_count = slots->finished_count;
    *relay_count = slots->relay_count;
    slots->finished_count = 0;
    slots->relay_count = 0;
    pthread_mutex_unlock(&slots->mutex);
}

size_t slots_take_asked(struct slots *slots, struct outside_request **asked)
{
    pthread_mutex_lock(&slots->mutex);
    size_t count = slots->asked_count;
    memcpy(asked, slots->asked, count * sizeof *asked);
    slots->asked_count = 0;
    pthread_mutex_unlock(&slots->mutex);
    return count;
}

void slots_end(struct slots *slots)
{
    for (size_t i = 0; i < slots->count; i++) {
        struct slot_thread *thread = &slots->threads[i];
        pthread_mutex_lock(&thread->mutex);
        thread->ending = true;
        pthread_mutex_unlock(&thread->mutex);
        pthread_cond_signal(&thread->wake);
    }
    for (size_t i = 0; i < slots->count; i++) {
        struct slot_thread *thread = &slots->threads[i];
        pthread_join(thread->thread, NULL);
        pthread_cond_destroy(&thread->wake);
        pthread_mutex_destroy(&thread->mutex);
        pg_free(thread->slot.db);
        arena_close(&thread->slot.arena);
        figures_close(&thread->slot.figures);
    }
    pthread_mutex_destroy(&slots->mutex);
    pthread_mutex_destroy(&slots->figures_mutex);
    figures_close(&slots->figures);
    gate_close(&slots->gate);
    free(slots->threads);
    free(slots->finished);
    free(slots->relays);
    free(slots->asked);
    outside_shared_free(slots->shared);
}
