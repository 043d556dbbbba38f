#include "runtime/worker.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/random.h"
#include "runtime/process.h"
#include "runtime/run.h"
#include "service/redis_check.h"
#include "service/scripts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CHUNK_MAX = 128,           /* entries in one call of a script */
    COMMAND_TIMEOUT_MS = 5000, /* a script that takes longer means a broken connection */
    READ_SLACK_MS = 1000,      /* beyond READ_BLOCK_MS */
    PROMOTE_MAX_MS = 1000,     /* longest time a due job may wait for its promotion */
    DATABASE_PAUSE_MS = 1000,  /* without reading, after PostgreSQL was found to be away */
    CHECK_AGAIN_MS = 1000,
    FORCED_MAX_MS = 1000, /* for Redis to take back what did not end in time */
};

/*            Redis safe              schema is ours             first signal
 *   CHECKING ──────────> CHECKING_DB ──────────────> WORKING ──────────────> STOPPING ──> closed
 *      │                    └─ PG_DOWN: again in a second                        ^
 *      └─ unsafe, or a schema that is not ours: exit status 1                    │
 *         a signal before WORKING goes there too ────────────────────────────────┘
 * Waiting states: all. STOPPING waits for the read, the slots and the settlements. */
enum phase { PHASE_CHECKING, PHASE_CHECKING_DB, PHASE_WORKING, PHASE_STOPPING, PHASE_CLOSED };

/* A held job that is no longer a slot's: what Redis has yet to be told. */
enum settlement { SETTLE_DONE, SETTLE_RETRY, SETTLE_BURY, SETTLE_RELEASE };

struct held {
    struct held *next;
    struct job *job;
    enum settlement settlement;
    int64_t delay_ms;
    int attempt;
    char reason[96];
};

/* A call that settles several jobs at once. */
struct settling {
    struct loop *loop;
    struct held *list;
};

struct job_list {
    struct job *first;
    struct job *last;
    size_t count;
};

struct loop {
    struct process process;
    const struct worker *worker;
    const struct config *config;
    enum phase phase;
    int status;
    size_t run_max;

    struct redis *redis;  /* everything but the read */
    struct redis *reader; /* XREADGROUP, which may be blocked */
    struct queue queue;
    struct redis_check check;
    int64_t reader_client_id; /* to wake a blocked read when stopping */
    bool group_known;
    bool reading;
    bool reclaiming;
    bool promoting;
    char cursor[32]; /* of XAUTOCLAIM */
    int64_t reclaim_from_ms;
    int64_t paused_until_ms; /* PostgreSQL was away */
    bool doubtful;           /* after a pause: read one job only */

    struct slots slots;
    uv_async_t async;
    struct slot_thread **finished;
    struct relay_request **relays;

    struct job_list ready;   /* read, waiting for a slot */
    struct job_list running; /* on slots or being settled: leases are prolonged */
    struct held *unsettled;  /* waiting for a connection */
    size_t settling;         /* calls on the wire */
    size_t starting;         /* START calls on the wire */
    size_t busy;             /* slots with a run */
    size_t forced;           /* jobs being given back after the grace */

    uv_timer_t beat;
    uv_timer_t reclaim;
    uv_timer_t promote;
    uv_timer_t resume; /* of reading, or of the database check */
    uv_timer_t grace;
};

static void advance(struct loop *loop);

/* --- lists ----------------------------------------------------------------------------------- */

static void list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    job->prev = list->last;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
    list->count++;
}

static void list_remove(struct job_list *list, struct job *job)
{
    if (job->prev != NULL)
        job->prev->next = job->next;
    else
        list->first = job->next;
    if (job->next != NULL)
        job->next->prev = job->prev;
    else
        list->last = job->prev;
    job->next = job->prev = NULL;
    list->count--;
}

static bool list_has(const struct job_list *list, struct span entry)
{
    for (const struct job *job = list->first; job != NULL; job = job->next)
        if (span_equal(span_of(job->entry), entry))
            return true;
    return false;
}

/* --- settling -------------------------------------------------------------------------------- */

static void hold(struct loop *loop, struct job *job, enum settlement settlement,
                 const struct verdict *verdict)
{
    struct held *held = mem_zalloc(sizeof *held);
    held->job = job;
    held->settlement = settlement;
    if (verdict != NULL) {
        held->delay_ms = verdict->delay_ms;
        held->attempt = verdict->attempt;
        memcpy(held->reason, verdict->reason, sizeof held->reason);
    }
    held->next = loop->unsettled;
    loop->unsettled = held;
}

static void on_settled(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct settling *call = data;
    struct loop *loop = call->loop;
    struct err lost = err_make(ERR_REDIS_DOWN, "fault: the reply to DONE was lost");
    (void)reply;
    loop->settling--;
    if (call->list->settlement == SETTLE_DONE && FAULT(done_reply_lost))
        err = &lost;
    while (call->list != NULL) {
        struct held *held = call->list;
        call->list = held->next;
        if (err != NULL) { /* said again once there is a connection; all of it may be repeated */
            held->next = loop->unsettled;
            loop->unsettled = held;
            continue;
        }
        list_remove(&loop->running, held->job);
        job_free(held->job);
        free(held);
    }
    free(call);
    if (err != NULL && err->code == ERR_REDIS_REPLY)
        log_error("worker", "Redis refused a verdict", LOG_TEXT("error", err_text(err)));
    advance(loop);
}

static void settle_one(struct loop *loop, struct settling *call)
{
    struct held *held = call->list;
    if (held->settlement == SETTLE_RETRY) {
        (void)FAULT(before_retry);
        queue_retry(&loop->queue, held->job, held->delay_ms, held->attempt, on_settled, call);
        return;
    }
    queue_bury(&loop->queue, held->job, held->reason, on_settled, call);
}

static void settle_many(struct loop *loop, struct settling *call, enum settlement settlement)
{
    const struct job *jobs[CHUNK_MAX];
    struct span entries[CHUNK_MAX];
    size_t count = 0;
    for (const struct held *held = call->list; held != NULL; held = held->next, count++) {
        jobs[count] = held->job;
        entries[count] = span_of(held->job->entry);
    }
    if (settlement == SETTLE_RELEASE) {
        queue_release(&loop->queue, entries, count, on_settled, call);
        return;
    }
    (void)FAULT(before_done);
    queue_done(&loop->queue, jobs, count, on_settled, call);
}

/* Takes up to max of one kind off the unsettled. */
static struct held *take_unsettled(struct loop *loop, enum settlement settlement, size_t max)
{
    struct held *taken = NULL;
    struct held **at = &loop->unsettled;
    while (*at != NULL && max > 0) {
        struct held *held = *at;
        if (held->settlement != settlement) {
            at = &held->next;
            continue;
        }
        *at = held->next;
        held->next = taken;
        taken = held;
        max--;
    }
    return taken;
}

static void settle_all(struct loop *loop)
{
    static const enum settlement order[] = {SETTLE_DONE, SETTLE_RETRY, SETTLE_BURY, SETTLE_RELEASE};
    if (!redis_is_ready(loop->redis))
        return;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        bool single = order[i] == SETTLE_RETRY || order[i] == SETTLE_BURY;
        struct held *list;
        while ((list = take_unsettled(loop, order[i], single ? 1 : CHUNK_MAX)) != NULL) {
            struct settling *call = mem_zalloc(sizeof *call);
            call->loop = loop;
            call->list = list;
            loop->settling++;
            if (single)
                settle_one(loop, call);
            else
                settle_many(loop, call, order[i]);
        }
    }
}

/* --- slots ----------------------------------------------------------------------------------- */

static struct slot_thread *free_slot(struct loop *loop)
{
    for (size_t i = 0; i < loop->slots.count; i++)
        if (loop->slots.threads[i].run.count == 0 && loop->slots.threads[i].run.kind == RUN_JOBS)
            return &loop->slots.threads[i];
    return NULL;
}

/* Batches are filled up; single jobs are spread over the free slots. */
static size_t share_of(const struct loop *loop)
{
    size_t free_slots = loop->slots.count - loop->busy;
    size_t share = loop->ready.count;
    if (loop->worker->handlers[0].handle_batch == NULL)
        share = (share + free_slots - 1) / free_slots;
    return share < loop->run_max ? share : loop->run_max;
}

static void dispatch(struct loop *loop)
{
    while (loop->phase == PHASE_WORKING && loop->ready.count > 0 &&
           loop->busy < loop->slots.count) {
        struct slot_thread *thread = free_slot(loop);
        size_t share = share_of(loop);
        for (size_t i = 0; i < share; i++) {
            struct job *job = loop->ready.first;
            REQUIRE(job != NULL);
            list_remove(&loop->ready, job);
            list_add(&loop->running, job);
            thread->run.jobs[i] = (struct run_job){.job = job};
        }
        thread->run.count = share;
        loop->busy++;
        slots_hand_over(thread);
    }
}

static void hold_verdict(struct loop *loop, const struct run_job *item)
{
    enum settlement settlement = SETTLE_DONE;
    enum verdict_action action = item->verdict.action;
    if (item->released)
        settlement = SETTLE_RELEASE;
    else if (action == VERDICT_RETRY)
        settlement = SETTLE_RETRY;
    else if (!item->has_row && (action == VERDICT_DEAD || action == VERDICT_PARK))
        settlement = SETTLE_BURY;
    hold(loop, item->job, settlement, &item->verdict);
}

static void on_resume(uv_timer_t *timer)
{
    advance(timer->data);
}

static void pause_reading(struct loop *loop)
{
    loop->paused_until_ms = clock_mono_ms() + DATABASE_PAUSE_MS;
    loop->doubtful = true;
    uv_timer_start(&loop->resume, on_resume, DATABASE_PAUSE_MS, 0);
}

static void finish_check(struct loop *loop, const struct err *err)
{
    if (!err_failed(err)) {
        if (loop->phase == PHASE_CHECKING_DB) {
            loop->phase = PHASE_WORKING;
            log_info("worker", "working", LOG_TEXT("queue", queue_text(loop->queue.name)),
                     LOG_INT("slots", loop->slots.count));
        }
        return;
    }
    if (err->code != ERR_PG_SCHEMA) {
        log_warning("worker", "waiting for the database", LOG_TEXT("error", err_text(err)));
        uv_timer_start(&loop->resume, on_resume, CHECK_AGAIN_MS, 0);
        return;
    }
    log_error("worker", "cannot start", LOG_TEXT("error", err_text(err)));
    loop->status = 1;
    loop->phase = PHASE_STOPPING;
}

static void finish_run(struct loop *loop, struct slot_thread *thread)
{
    struct run *run = &thread->run;
    loop->busy--;
    if (run->kind == RUN_CHECK) {
        run->kind = RUN_JOBS;
        finish_check(loop, &run->err);
        return;
    }
    for (size_t i = 0; i < run->count; i++)
        hold_verdict(loop, &run->jobs[i]);
    run->count = 0;
    if (run->database_is_down)
        pause_reading(loop);
    else
        loop->doubtful = false;
}

static void on_relayed(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct relay_request *request = data;
    (void)reply;
    request->failed |= err != NULL;
    if (--request->left == 0)
        slots_answer_relay(request);
}

static void on_async(uv_async_t *async)
{
    struct loop *loop = async->data;
    size_t finished;
    size_t relays;
    slots_take(&loop->slots, loop->finished, &finished, loop->relays, &relays);
    for (size_t i = 0; i < relays; i++) {
        struct relay_request *request = loop->relays[i];
        /* count, not left: the last reply ends the request's life. */
        size_t count = request->count;
        const struct outgoing *jobs = request->jobs;
        for (size_t j = 0; j < count; j++)
            queue_enqueue(loop->redis, loop->config->stream_prefix, &jobs[j], on_relayed, request);
    }
    for (size_t i = 0; i < finished; i++)
        finish_run(loop, loop->finished[i]);
    advance(loop);
}

static void notify(void *data)
{
    struct loop *loop = data;
    uv_async_send(&loop->async);
}

/* --- reading --------------------------------------------------------------------------------- */

static void on_group(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    (void)reply;
    if (err != NULL && strstr(err_text(err), "BUSYGROUP") == NULL) {
        if (err->code == ERR_REDIS_REPLY)
            log_error("worker", "cannot create the consumer group",
                      LOG_TEXT("error", err_text(err)));
        return;
    }
    loop->group_known = true;
    advance(loop);
}

static void take_in(struct loop *loop, struct job *job)
{
    if (loop->phase == PHASE_STOPPING) {
        list_add(&loop->running, job);
        hold(loop, job, SETTLE_RELEASE, NULL);
        return;
    }
    list_add(&loop->ready, job);
}

static void on_read(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    loop->reading = false;
    if (err != NULL) {
        if (err->code == ERR_REDIS_REPLY && strstr(err_text(err), "NOGROUP") != NULL) {
            log_warning("worker", "the consumer group is gone and will be made again: has Redis "
                                  "lost its data?");
            loop->group_known = false;
            queue_create_group(&loop->queue, on_group, loop);
        } else if (err->code == ERR_REDIS_REPLY && strstr(err_text(err), "UNBLOCKED") == NULL) {
            log_error("worker", "cannot read jobs", LOG_TEXT("error", err_text(err)));
            loop->paused_until_ms = clock_mono_ms() + DATABASE_PAUSE_MS;
            uv_timer_start(&loop->resume, on_resume, DATABASE_PAUSE_MS, 0);
        }
        advance(loop);
        return;
    }
    struct job *job = queue_take_read(reply);
    while (job != NULL) {
        struct job *next = job->next;
        take_in(loop, job);
        job = next;
    }
    advance(loop);
}

static size_t room(const struct loop *loop)
{
    size_t places = (loop->slots.count - loop->busy) * loop->run_max;
    size_t taken = loop->ready.count + loop->starting;
    if (loop->doubtful)
        places = places > 0 && loop->busy == 0 ? 1 : 0;
    return places > taken ? places - taken : 0;
}

static void read_more(struct loop *loop)
{
    size_t count = room(loop);
    if (loop->reading || !loop->group_known || count == 0 || !redis_is_ready(loop->reader) ||
        clock_mono_ms() < loop->paused_until_ms)
        return;
    loop->reading = true;
    queue_read(&loop->queue, loop->reader, count, loop->config->read_block_ms, on_read, loop);
}

/* --- leases ---------------------------------------------------------------------------------- */

static void on_beaten(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    if (err != NULL)
        return;
    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        struct span entry = redis_reply_text(redis_reply_at(reply, i));
        for (struct job *job = loop->running.first; job != NULL; job = job->next)
            if (span_equal(span_of(job->entry), entry))
                log_warning("worker", "lease lost: another worker may run this job too",
                            LOG_TEXT("job", job->id));
    }
}

static void beat_list(struct loop *loop, const struct job_list *list)
{
    struct span entries[CHUNK_MAX];
    size_t count = 0;
    for (const struct job *job = list->first; job != NULL; job = job->next) {
        entries[count++] = span_of(job->entry);
        if (count == CHUNK_MAX || job->next == NULL) {
            queue_beat(&loop->queue, entries, count, on_beaten, loop);
            count = 0;
        }
    }
}

static void on_beat(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (!redis_is_ready(loop->redis))
        return;
    beat_list(loop, &loop->running);
    beat_list(loop, &loop->ready);
}

struct starting {
    struct loop *loop;
    char entry[32];
};

static void on_started(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct starting *start = data;
    struct loop *loop = start->loop;
    loop->starting--;
    struct job *job = err == NULL ? queue_take_start(reply, span_of(start->entry)) : NULL;
    if (job != NULL) {
        log_info("worker", "took over a job whose worker is gone", LOG_TEXT("job", job->id),
                 LOG_INT("deliveries", job->deliveries));
        take_in(loop, job);
    }
    free(start);
    advance(loop);
}

static void start_reclaimed(struct loop *loop, struct span entry)
{
    struct starting *start = mem_zalloc(sizeof *start);
    REQUIRE(entry.len < sizeof start->entry);
    start->loop = loop;
    memcpy(start->entry, entry.ptr, entry.len);
    loop->starting++;
    queue_start(&loop->queue, entry, on_started, start);
}

static void reclaim_more(struct loop *loop);

static void on_reclaimed(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    const struct redis_reply *ids = redis_reply_at(reply, 1);
    struct span cursor = redis_reply_text(redis_reply_at(reply, 0));
    loop->reclaiming = false;
    if (err != NULL || cursor.len == 0 || cursor.len >= sizeof loop->cursor) {
        advance(loop);
        return;
    }
    memcpy(loop->cursor, cursor.ptr, cursor.len);
    loop->cursor[cursor.len] = '\0';
    for (size_t i = 0; i < redis_reply_count(ids); i++) {
        struct span entry = redis_reply_text(redis_reply_at(ids, i));
        if (!list_has(&loop->running, entry) && !list_has(&loop->ready, entry))
            start_reclaimed(loop, entry);
    }
    if (strcmp(loop->cursor, "0-0") != 0)
        reclaim_more(loop);
    advance(loop);
}

static void reclaim_more(struct loop *loop)
{
    size_t count = room(loop);
    if (loop->phase != PHASE_WORKING || loop->reclaiming || count == 0 || !loop->group_known ||
        !redis_is_ready(loop->redis) || clock_mono_ms() < loop->reclaim_from_ms ||
        clock_mono_ms() < loop->paused_until_ms)
        return;
    loop->reclaiming = true;
    queue_reclaim(&loop->queue, loop->config->lease_ms, loop->cursor,
                  count < CHUNK_MAX ? count : CHUNK_MAX, on_reclaimed, loop);
}

static void on_reclaim(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    int64_t lease = loop->config->lease_ms;
    /* lease/6 .. lease/3: processes that started together drift apart. */
    uint64_t wait = (uint64_t)lease / 6 + random_below((uint32_t)lease / 6 + 1);
    uv_timer_start(timer, on_reclaim, wait, 0);
    reclaim_more(loop);
}

static void on_promote(uv_timer_t *timer);

static void on_promoted(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    int64_t count = redis_reply_integer(redis_reply_at(reply, 0));
    int64_t next = redis_reply_integer(redis_reply_at(reply, 1));
    loop->promoting = false;
    if (loop->phase >= PHASE_STOPPING) {
        advance(loop);
        return;
    }
    if (err != NULL || next < 0 || next > PROMOTE_MAX_MS)
        next = PROMOTE_MAX_MS;
    if (err == NULL && count == CHUNK_MAX)
        next = 0;
    uv_timer_start(&loop->promote, on_promote, (uint64_t)next, 0);
}

static void on_promote(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (loop->promoting || loop->phase >= PHASE_STOPPING)
        return;
    loop->promoting = true;
    queue_promote(&loop->queue, CHUNK_MAX, on_promoted, loop);
}

/* --- connections ----------------------------------------------------------------------------- */

static void on_checked(const struct err *err, void *data)
{
    struct loop *loop = data;
    if (loop->phase != PHASE_CHECKING)
        return;
    if (err != NULL && err->code != ERR_REDIS_UNSAFE)
        return; /* asked again when the connection is back */
    if (err != NULL && !loop->config->allow_volatile_redis) {
        log_error("worker", "cannot start", LOG_TEXT("error", err_text(err)));
        loop->status = 1;
        loop->phase = PHASE_STOPPING;
    } else {
        if (err != NULL)
            log_warning("worker", "ALLOW_VOLATILE_REDIS is set", LOG_TEXT("danger", err_text(err)));
        loop->phase = PHASE_CHECKING_DB;
    }
    advance(loop);
}

static void on_redis_ready(void *data)
{
    struct loop *loop = data;
    log_info("worker", "connected to Redis");
    /* What we hold is prolonged first; nobody else's is taken until all have had time to do so. */
    loop->reclaim_from_ms = clock_mono_ms() + loop->config->lease_ms;
    memcpy(loop->cursor, "0-0", sizeof "0-0");
    on_beat(&loop->beat);
    queue_create_group(&loop->queue, on_group, loop);
    if (loop->phase == PHASE_CHECKING)
        redis_check_start(loop->redis, &loop->check);
    advance(loop);
}

static void on_redis_down(const struct err *why, void *data)
{
    struct loop *loop = data;
    if (loop->phase != PHASE_CLOSED)
        log_warning("worker", "Redis is away", LOG_TEXT("error", err_text(why)));
}

static void on_client_id(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    if (err == NULL)
        loop->reader_client_id = redis_reply_integer(reply);
    advance(loop);
}

static void on_reader_ready(void *data)
{
    struct loop *loop = data;
    const struct span args[] = {SPAN("CLIENT"), SPAN("ID")};
    redis_command(loop->reader, args, ARRAY_LEN(args), on_client_id, loop);
    advance(loop);
}

/* --- stopping -------------------------------------------------------------------------------- */

static void release_ready(struct loop *loop)
{
    while (loop->ready.first != NULL) {
        struct job *job = loop->ready.first;
        list_remove(&loop->ready, job);
        list_add(&loop->running, job);
        hold(loop, job, SETTLE_RELEASE, NULL);
    }
}

static void on_forced(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    (void)err;
    (void)reply;
    if (--loop->forced == 0)
        _exit(0);
}

static void on_grace_really_over(uv_timer_t *timer)
{
    (void)timer;
    _exit(0);
}

/* The jobs still on slots go back; their threads cannot be ended, the process can. */
static void on_grace_over(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    log_warning("worker", "jobs did not end in time", LOG_INT("slots", loop->busy));
    loop->forced = 1;
    for (size_t i = 0; i < loop->slots.count; i++) {
        const struct run *run = &loop->slots.threads[i].run;
        for (size_t j = 0; j < run->count; j++) {
            struct span entry = span_of(run->jobs[j].job->entry);
            loop->forced++;
            queue_release(&loop->queue, &entry, 1, on_forced, loop);
        }
    }
    uv_timer_start(timer, on_grace_really_over, FORCED_MAX_MS, 0);
    on_forced(NULL, NULL, loop);
}

static void on_stop(void *data)
{
    struct loop *loop = data;
    if (loop->phase >= PHASE_STOPPING)
        return;
    loop->phase = PHASE_STOPPING;
    atomic_store(&loop->slots.stopping, true);
    release_ready(loop);
    if (loop->reading && loop->reader_client_id != 0 && redis_is_ready(loop->redis)) {
        char id[24];
        snprintf(id, sizeof id, "%lld", (long long)loop->reader_client_id);
        const struct span args[] = {SPAN("CLIENT"), SPAN("UNBLOCK"), span_of(id)};
        redis_command(loop->redis, args, ARRAY_LEN(args), NULL, NULL);
    }
    uv_timer_start(&loop->grace, on_grace_over, (uint64_t)loop->config->shutdown_grace_ms, 0);
    advance(loop);
}

static void close_handle(void *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_all(struct loop *loop)
{
    loop->phase = PHASE_CLOSED;
    slots_end(&loop->slots);
    redis_close(loop->reader);
    redis_close(loop->redis);
    close_handle(&loop->async);
    close_handle(&loop->beat);
    close_handle(&loop->reclaim);
    close_handle(&loop->promote);
    close_handle(&loop->resume);
    close_handle(&loop->grace);
    process_release(&loop->process);
}

static void maybe_close(struct loop *loop)
{
    bool redis_gone = !redis_is_ready(loop->redis);
    bool settled = loop->unsettled == NULL && loop->settling == 0 && loop->starting == 0;
    /* Without Redis nothing more can be said: leases run out and the jobs come back elsewhere. */
    if (loop->busy > 0 || (!redis_gone && (!settled || loop->reading || loop->promoting)))
        return;
    close_all(loop);
}

/* --- the loop -------------------------------------------------------------------------------- */

static void start_check(struct loop *loop)
{
    struct slot_thread *thread = &loop->slots.threads[0];
    if (loop->busy > 0 || uv_is_active((uv_handle_t *)&loop->resume))
        return;
    thread->run.kind = RUN_CHECK;
    loop->busy++;
    slots_hand_over(thread);
}

/* Called after everything that may have changed something: does whatever can be done now. */
static void advance(struct loop *loop)
{
    switch (loop->phase) {
    case PHASE_CHECKING: break;
    case PHASE_CHECKING_DB: start_check(loop); break;
    case PHASE_WORKING:
        settle_all(loop);
        dispatch(loop);
        read_more(loop);
        break;
    case PHASE_STOPPING:
        settle_all(loop);
        maybe_close(loop);
        break;
    case PHASE_CLOSED: break;
    }
}

static struct err open_redis(struct loop *loop)
{
    struct redis_options options = {
        .loop = &loop->process.loop,
        .url = loop->config->redis_url,
        .scripts = scripts_all(),
        .script_count = SCRIPT_COUNT,
        .timeout_ms = COMMAND_TIMEOUT_MS,
        .on_ready = on_redis_ready,
        .on_down = on_redis_down,
        .data = loop,
    };
    TRY(redis_new(&options, &loop->redis));
    options.script_count = 0;
    options.timeout_ms = loop->config->read_block_ms + READ_SLACK_MS;
    options.on_ready = on_reader_ready;
    options.on_down = NULL;
    return redis_new(&options, &loop->reader);
}

static void start_timers(struct loop *loop)
{
    uv_loop_t *uv = &loop->process.loop;
    uv_timer_t *timers[] = {&loop->beat, &loop->reclaim, &loop->promote, &loop->resume,
                            &loop->grace};
    uint64_t beat_ms = (uint64_t)loop->config->lease_ms / 3;
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        uv_timer_init(uv, timers[i]);
        timers[i]->data = loop;
    }
    uv_timer_start(&loop->beat, on_beat, beat_ms, beat_ms);
    uv_timer_start(&loop->reclaim, on_reclaim, beat_ms, 0);
    uv_timer_start(&loop->promote, on_promote, 0, 0);
    uv_async_init(uv, &loop->async, on_async);
    loop->async.data = loop;
}

/* What Redis could not be told about comes back by itself when the leases run out. */
static void free_held(struct loop *loop)
{
    while (loop->unsettled != NULL) {
        struct held *held = loop->unsettled;
        loop->unsettled = held->next;
        free(held);
    }
    while (loop->running.first != NULL) {
        struct job *job = loop->running.first;
        list_remove(&loop->running, job);
        job_free(job);
    }
}

static size_t largest_run(const struct worker *worker)
{
    size_t largest = 1;
    for (size_t i = 0; i < worker->handler_count; i++) {
        size_t run_max = job_type(worker->handlers[i].kind)->run_max;
        if (run_max > largest)
            largest = run_max;
    }
    return largest < RUN_JOBS_MAX ? largest : RUN_JOBS_MAX;
}

int worker_main(int argc, char **argv, const struct worker *worker)
{
    struct loop *loop = mem_zalloc(sizeof *loop);
    int status =
        process_start(&loop->process, argc, argv, worker->name, worker->purpose, CONFIG_WORKER);
    if (status != PROCESS_GO) {
        free(loop);
        return status;
    }
    loop->worker = worker;
    loop->config = &loop->process.config;
    loop->run_max = largest_run(worker);
    loop->process.on_stop = on_stop;
    loop->process.data = loop;
    loop->check.callback = on_checked;
    loop->check.data = loop;

    struct err err = open_redis(loop);
    if (err_failed(&err)) {
        log_error("worker", "cannot start", LOG_TEXT("error", err_text(&err)));
        status = 2;
    } else {
        queue_init(&loop->queue, loop->redis, loop->config->stream_prefix, worker->queue);
        start_timers(loop);
        slots_start(&loop->slots, worker, loop->config, notify, loop);
        loop->finished = mem_zalloc(loop->slots.count * sizeof(struct slot_thread *));
        loop->relays = mem_zalloc(loop->slots.count * sizeof(struct relay_request *));
        process_run(&loop->process);
        status = loop->status;
    }
    status = process_end(&loop->process, status);
    free_held(loop);
    free(loop->finished);
    free(loop->relays);
    free(loop);
    return status;
}
