#include "base/clock.h"
#include "runtime/run.h"

#include <time.h>

enum { MS_PER_S = 1000, NS_PER_MS = 1000000 };

bool slot_outside_is_stopped(const struct slot_thread *thread)
{
    size_t stopped = atomic_load(&thread->stop_place);
    return atomic_load(&thread->slots->hurry) ||
           (stopped != 0 && stopped == atomic_load(&thread->place));
}

static struct err stopped(void)
{
    return err_make(ERR_CANCELLED, "stopped before the call to the outside");
}

/* Posts it and waits for the answer. */
static void ask(struct slot_thread *thread, struct outside_request request)
{
    struct slots *slots = thread->slots;
    request.from = thread;
    request.place = atomic_load(&thread->place);
    pthread_mutex_lock(&thread->mutex);
    thread->request = request;
    pthread_mutex_unlock(&thread->mutex);
    pthread_mutex_lock(&slots->mutex);
    slots->asked[slots->asked_count++] = &thread->request;
    pthread_mutex_unlock(&slots->mutex);
    slots->notify(slots->data);
    pthread_mutex_lock(&thread->mutex);
    while (!thread->request.answered)
        pthread_cond_wait(&thread->wake, &thread->mutex);
    pthread_mutex_unlock(&thread->mutex);
}

void slot_outside_answer(struct outside_request *request)
{
    struct slot_thread *thread = request->from;
    pthread_mutex_lock(&thread->mutex);
    request->taken = false;
    request->answered = true;
    pthread_mutex_unlock(&thread->mutex);
    pthread_cond_signal(&thread->wake);
}

static struct err eval(void *data, const struct outside_script *script,
                       struct outside_follow *follow)
{
    struct slot_thread *thread = data;
    if (slot_outside_is_stopped(thread))
        return stopped();
    struct outside_request request = {.kind = OUTSIDE_EVAL, .script = script, .follow = follow};
    if (follow != NULL) {
        request.http = follow->request;
        request.response = follow->response;
    }
    ask(thread, request);
    return thread->request.err;
}

static struct err wait(void *data, int64_t ms)
{
    struct slot_thread *thread = data;
    struct timespec until;
    int64_t ends_ms = clock_mono_ms() + ms;
    until.tv_sec = (time_t)(ends_ms / MS_PER_S);
    until.tv_nsec = (long)(ends_ms % MS_PER_S) * NS_PER_MS;
    pthread_mutex_lock(&thread->mutex);
    while (!slot_outside_is_stopped(thread) && clock_mono_ms() < ends_ms)
        pthread_cond_timedwait(&thread->wake, &thread->mutex, &until);
    pthread_mutex_unlock(&thread->mutex);
    return slot_outside_is_stopped(thread) ? stopped() : ERR_NONE;
}

static void http(void *data, const struct http_request *request, struct http_response *response)
{
    struct slot_thread *thread = data;
    /* A stop is seen by the loop, before it begins. */
    ask(thread,
        (struct outside_request){.kind = OUTSIDE_HTTP, .http = request, .response = response});
}

static const struct outside_ops ops = {.eval = eval, .wait = wait, .http = http};

void slot_outside_init(struct slot_thread *thread)
{
    thread->outside = (struct outside){.ops = &ops,
                                       .data = thread,
                                       .config = thread->slots->config,
                                       .shared = thread->slots->shared};
    thread->slot.outside = &thread->outside;
}
