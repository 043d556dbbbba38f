#include "service/queue.h"

#include "codec/envelope.h"
#include "service/scripts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NUMBER_SIZE = 24 };

/* An entry's fields; ingest (accept.c) and ENQUEUE write them, RETRY keeps them. */
#define FIELD_ID   "id"
#define FIELD_JOB  "job"    /* codec/envelope.h */
#define FIELD_BODY "body"   /* events only */
#define FIELD_WHY  "reason" /* in the dead stream only, by BURY */

static struct span number_span(char out[NUMBER_SIZE], int64_t number)
{
    int len = snprintf(out, NUMBER_SIZE, "%lld", (long long)number);
    return (struct span){out, (size_t)len};
}

void queue_consumer(char out[QUEUE_CONSUMER_MAX])
{
    char host[64] = "";
    char boot[UUID_TEXT_SIZE];
    gethostname(host, sizeof host - 1);
    random_uuid(boot);
    snprintf(out, QUEUE_CONSUMER_MAX, "%s:%d:%s", host, (int)getpid(), boot);
}

void queue_init(struct queue *queue, struct redis *redis, const char *prefix, enum queue_name name)
{
    *queue = (struct queue){.redis = redis, .name = name};
    key_stream(prefix, name, queue->stream);
    key_delayed(prefix, name, queue->delayed);
    key_fields(prefix, name, queue->fields);
    key_seen_prefix(prefix, queue->seen);
    key_events_dead(prefix, queue->dead);
    key_control(prefix, name, queue->control);
    queue_consumer(queue->consumer);
}

/* --- reading --------------------------------------------------------------------------------- */

void queue_create_group(struct queue *queue, redis_callback *callback, void *data)
{
    /* At 0, never $: a group made anew replays exactly what is unfinished. */
    const struct span args[] = {SPAN("XGROUP"),   SPAN("CREATE"), span_of(queue->stream),
                                SPAN(KEYS_GROUP), SPAN("0"),      SPAN("MKSTREAM")};
    redis_command(queue->redis, args, ARRAY_LEN(args), callback, data);
}

void queue_read(struct queue *queue, struct redis *reader, size_t count, int64_t block_ms,
                redis_callback *callback, void *data)
{
    char count_text[NUMBER_SIZE];
    char block_text[NUMBER_SIZE];
    const struct span args[] = {
        SPAN("XREADGROUP"), SPAN("GROUP"),
        SPAN(KEYS_GROUP),   span_of(queue->consumer),
        SPAN("COUNT"),      number_span(count_text, (int64_t)count),
        SPAN("BLOCK"),      number_span(block_text, block_ms),
        SPAN("STREAMS"),    span_of(queue->stream),
        SPAN(">"),
    };
    redis_command(reader, args, ARRAY_LEN(args), callback, data);
}

static char *put(char **at, struct span text)
{
    char *begin = *at;
    if (text.len > 0)
        memcpy(begin, text.ptr, text.len);
    begin[text.len] = '\0';
    *at = begin + text.len + 1;
    return begin;
}

static struct span find_field(const struct redis_reply *fields, struct span name, size_t expected)
{
    size_t count = redis_reply_count(fields);
    if (span_equal(redis_reply_text(redis_reply_at(fields, expected)), name))
        return redis_reply_text(redis_reply_at(fields, expected + 1));
    for (size_t i = 0; i + 1 < count; i += 2)
        if (span_equal(redis_reply_text(redis_reply_at(fields, i)), name))
            return redis_reply_text(redis_reply_at(fields, i + 1));
    return (struct span){NULL, 0};
}

/* fields: the reply's array of names and values. An entry that is not one of ours becomes a job of
 * no known kind, and is set aside as such. */
static struct job *make_job(struct span entry, const struct redis_reply *fields)
{
    struct span id = find_field(fields, SPAN(FIELD_ID), 0);
    struct span packed = find_field(fields, SPAN(FIELD_JOB), 2);
    struct span body = find_field(fields, SPAN(FIELD_BODY), 4);
    struct envelope envelope;
    struct err err = envelope_decode(packed, &envelope);
    (void)err; /* then all of it is empty */
    size_t bytes = entry.len + id.len + envelope.kind.len + envelope.key.len + envelope.trace.len +
                   envelope.payload.len + body.len + 7;
    struct job *job = mem_alloc(sizeof *job + bytes);
    char *at = (char *)(job + 1);
    *job = (struct job){
        .entry = put(&at, entry),
        .id = put(&at, id),
        .kind = put(&at, envelope.kind),
        .key = put(&at, envelope.key),
        .trace = put(&at, envelope.trace),
        .payload = {put(&at, envelope.payload), envelope.payload.len},
        .body = {put(&at, body), body.len},
        .tenant = envelope.tenant,
        .version = (int)envelope.version,
        .attempt = (int)envelope.attempt,
        .occurred_ms = envelope.occurred_ms,
        .enqueued_ms = envelope.enqueued_ms,
        .deliveries = 1,
    };
    job->kind_known = job_kind_find(envelope.kind, &job->known);
    return job;
}

static void take_why(const struct redis_reply *fields, struct job *job)
{
    struct span why = find_field(fields, SPAN(FIELD_WHY), 6);
    if (why.len == 0)
        return;
    job->reason = mem_zalloc(why.len + 1);
    memcpy(job->reason, why.ptr, why.len);
}

static struct job *take_entries(const struct redis_reply *entries, bool with_why)
{
    struct job *first = NULL;
    struct job **last = &first;
    for (size_t i = 0; i < redis_reply_count(entries); i++) {
        const struct redis_reply *item = redis_reply_at(entries, i);
        struct job *job =
            make_job(redis_reply_text(redis_reply_at(item, 0)), redis_reply_at(item, 1));
        if (with_why)
            take_why(redis_reply_at(item, 1), job);
        *last = job;
        last = &job->next;
    }
    return first;
}

struct job *queue_take_read(const struct redis_reply *reply)
{
    /* {{stream, {{entry, {name, value, ...}}, ...}}}, or nil when nothing came in time */
    return take_entries(redis_reply_at(redis_reply_at(reply, 0), 1), false);
}

struct job *queue_take_entries(const struct redis_reply *entries)
{
    return take_entries(entries, true);
}

/* --- leases ---------------------------------------------------------------------------------- */

void queue_reclaim(struct queue *queue, int64_t lease_ms, const char *cursor, size_t count,
                   redis_callback *callback, void *data)
{
    char lease_text[NUMBER_SIZE];
    char count_text[NUMBER_SIZE];
    const struct span args[] = {
        SPAN("XAUTOCLAIM"),
        span_of(queue->stream),
        SPAN(KEYS_GROUP),
        span_of(queue->consumer),
        number_span(lease_text, lease_ms),
        span_of(cursor),
        SPAN("COUNT"),
        number_span(count_text, (int64_t)count),
        SPAN("JUSTID"),
    };
    redis_command(queue->redis, args, ARRAY_LEN(args), callback, data);
}

void queue_start(struct queue *queue, struct span entry, bool alone, redis_callback *callback,
                 void *data)
{
    char suspect[NUMBER_SIZE];
    const struct span args[] = {
        span_of(queue->stream),
        SPAN(KEYS_GROUP),
        span_of(queue->consumer),
        entry,
        number_span(suspect, QUEUE_SUSPECT_DELIVERIES),
        alone ? SPAN("1") : SPAN("0"),
    };
    redis_eval(queue->redis, SCRIPT_START, 1, args, ARRAY_LEN(args), callback, data);
}

struct job *queue_take_start(const struct redis_reply *reply, struct span entry, bool *suspect)
{
    *suspect = redis_reply_count(reply) == 1;
    if (redis_reply_is_nil(reply) || *suspect)
        return NULL;
    struct job *job = make_job(entry, redis_reply_at(reply, 1));
    job->deliveries = redis_reply_integer(redis_reply_at(reply, 0));
    return job;
}

/* stream, group, consumer and then the entries. */
static void eval_entries(struct queue *queue, enum script script, const struct span *entries,
                         size_t count, redis_callback *callback, void *data)
{
    struct span *args = mem_alloc((count + 3) * sizeof *args);
    args[0] = span_of(queue->stream);
    args[1] = SPAN(KEYS_GROUP);
    args[2] = span_of(queue->consumer);
    memcpy(args + 3, entries, count * sizeof *entries);
    redis_eval(queue->redis, script, 1, args, count + 3, callback, data);
    free(args);
}

void queue_beat(struct queue *queue, const struct span *entries, size_t count,
                redis_callback *callback, void *data)
{
    eval_entries(queue, SCRIPT_BEAT, entries, count, callback, data);
}

void queue_release(struct queue *queue, const struct span *entries, size_t count,
                   redis_callback *callback, void *data)
{
    eval_entries(queue, SCRIPT_RELEASE, entries, count, callback, data);
}

/* --- verdicts -------------------------------------------------------------------------------- */

/* Whether its id was noted when it was ENQUEUEd. An event's stays known for DEDUPE_TTL_HOURS. */
static bool is_seen(const struct job *job)
{
    return !job->kind_known || job_type(job->known)->life == JOB_LIFE_KEPT;
}

void queue_done(struct queue *queue, const struct job *const *jobs, size_t count,
                redis_callback *callback, void *data)
{
    char count_text[NUMBER_SIZE];
    struct span *args = mem_alloc((2 * count + 4) * sizeof *args);
    size_t used = 0;
    args[used++] = span_of(queue->stream);
    args[used++] = SPAN(KEYS_GROUP);
    args[used++] = span_of(queue->seen);
    args[used++] = number_span(count_text, (int64_t)count);
    for (size_t i = 0; i < count; i++)
        args[used++] = span_of(jobs[i]->entry);
    for (size_t i = 0; i < count; i++)
        if (is_seen(jobs[i]))
            args[used++] = span_of(jobs[i]->id);
    redis_eval(queue->redis, SCRIPT_DONE, 1, args, used, callback, data);
    free(args);
}

void queue_retry(struct queue *queue, const struct job *job, int64_t delay_ms, int attempt,
                 redis_callback *callback, void *data)
{
    char delay_text[NUMBER_SIZE];
    struct buf packed = {0};
    const struct envelope envelope = {
        .kind = span_of(job->kind),
        .version = job->version,
        .key = span_of(job->key),
        .tenant = job->tenant,
        .attempt = attempt,
        .occurred_ms = job->occurred_ms,
        .enqueued_ms = job->enqueued_ms,
        .trace = span_of(job->trace),
        .payload = job->payload,
    };
    envelope_encode(&envelope, &packed);
    const struct span args[] = {
        span_of(queue->stream),
        span_of(queue->delayed),
        span_of(queue->fields),
        SPAN(KEYS_GROUP),
        span_of(queue->consumer),
        span_of(job->entry),
        number_span(delay_text, delay_ms),
        SPAN(FIELD_ID),
        span_of(job->id),
        SPAN(FIELD_JOB),
        buf_span(&packed),
        SPAN(FIELD_BODY),
        job->body,
    };
    size_t count = ARRAY_LEN(args) - (job->body.len > 0 ? 0 : 2);
    redis_eval(queue->redis, SCRIPT_RETRY, 3, args, count, callback, data);
    buf_close(&packed);
}

void queue_bury(struct queue *queue, const struct job *job, const char *reason,
                redis_callback *callback, void *data)
{
    struct buf seen = {0};
    buf_add_text(&seen, queue->seen);
    buf_add_text(&seen, job->id);
    const struct span args[] = {
        span_of(queue->stream),   span_of(queue->dead), buf_span(&seen), SPAN(KEYS_GROUP),
        span_of(queue->consumer), span_of(job->entry),  span_of(reason),
    };
    redis_eval(queue->redis, SCRIPT_BURY, 3, args, ARRAY_LEN(args), callback, data);
    buf_close(&seen);
}

void queue_promote(struct queue *queue, size_t count, redis_callback *callback, void *data)
{
    char count_text[NUMBER_SIZE];
    const struct span args[] = {span_of(queue->stream), span_of(queue->delayed),
                                span_of(queue->fields), span_of(queue->control),
                                number_span(count_text, (int64_t)count)};
    redis_eval(queue->redis, SCRIPT_PROMOTE, 4, args, ARRAY_LEN(args), callback, data);
}

/* --- consumers ------------------------------------------------------------------------------- */

void queue_reap(struct queue *queue, int64_t idle_ms, redis_callback *callback, void *data)
{
    char idle_text[NUMBER_SIZE];
    const struct span args[] = {span_of(queue->stream), SPAN(KEYS_GROUP),
                                number_span(idle_text, idle_ms)};
    redis_eval(queue->redis, SCRIPT_REAP, 1, args, ARRAY_LEN(args), callback, data);
}

void queue_leave(struct queue *queue, redis_callback *callback, void *data)
{
    const struct span args[] = {span_of(queue->stream), SPAN(KEYS_GROUP), SPAN("0"),
                                span_of(queue->consumer)};
    redis_eval(queue->redis, SCRIPT_REAP, 1, args, ARRAY_LEN(args), callback, data);
}

/* --- relay ----------------------------------------------------------------------------------- */

void queue_enqueue(struct redis *redis, const char *prefix, const struct outgoing *job,
                   redis_callback *callback, void *data)
{
    const struct job_type *type = job_type(job->kind);
    char stream[KEY_MAX];
    char seen[KEY_MAX];
    char control[KEY_MAX];
    char delayed[KEY_MAX];
    char seen_id[KEY_MAX + UUID_TEXT_SIZE + NUMBER_SIZE];
    char id[UUID_TEXT_SIZE + NUMBER_SIZE];
    struct buf packed = {0};
    const struct envelope envelope = {
        .kind = span_of(type->kind),
        .version = job->version,
        .key = span_of(job->key),
        .tenant = job->tenant,
        .attempt = job->attempts,
        .occurred_ms = job->occurred_ms,
        .enqueued_ms = job->created_ms,
        .trace = span_of(job->trace),
        .payload = job->payload,
    };
    envelope_encode(&envelope, &packed);
    key_stream(prefix, type->queue, stream);
    key_seen_prefix(prefix, seen);
    key_control(prefix, type->queue, control);
    key_delayed(prefix, type->queue, delayed);
    snprintf(id, sizeof id, "%s.%d", job->id, job->gen);
    snprintf(seen_id, sizeof seen_id, "%s%s", seen, id);
    struct span args[9];
    size_t used = 0;
    args[used++] = span_of(stream);
    args[used++] = span_of(control);
    if (type->life == JOB_LIFE_KEPT) {
        args[used++] = span_of(seen_id);
        args[used++] = span_of(delayed);
    }
    size_t keys = used;
    args[used++] = job->maybe_there ? SPAN("1") : SPAN("0");
    args[used++] = SPAN(FIELD_ID);
    args[used++] = span_of(id);
    args[used++] = SPAN(FIELD_JOB);
    args[used++] = buf_span(&packed);
    redis_eval(redis, SCRIPT_ENQUEUE, keys, args, used, callback, data);
    buf_close(&packed);
}

void job_free(struct job *job)
{
    free(job->reason);
    free(job);
}
