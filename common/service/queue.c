#include "service/queue.h"

#include "service/scripts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NUMBER_SIZE = 24, SCRIPT_ARGS_MAX = 4 };

/* The names of an entry's fields; ingest (accept.c) and ENQUEUE write them. */
enum field {
    FIELD_ID,
    FIELD_KIND,
    FIELD_VERSION,
    FIELD_KEY,
    FIELD_TENANT,
    FIELD_ATTEMPT,
    FIELD_OCCURRED,
    FIELD_ENQUEUED,
    FIELD_TRACE,
    FIELD_PAYLOAD,
    FIELD_BODY,
    FIELD_REASON, /* added by BURY */
    FIELD_COUNT,
};

static const char *const field_names[FIELD_COUNT] = {
    [FIELD_ID] = "id",
    [FIELD_KIND] = "kind",
    [FIELD_VERSION] = "ver",
    [FIELD_KEY] = "key",
    [FIELD_TENANT] = "tenant",
    [FIELD_ATTEMPT] = "attempt",
    [FIELD_OCCURRED] = "occurred_ms",
    [FIELD_ENQUEUED] = "enqueued_ms",
    [FIELD_TRACE] = "trace",
    [FIELD_PAYLOAD] = "payload",
    [FIELD_BODY] = "body",
    [FIELD_REASON] = "reason",
};

static struct span number_span(char out[NUMBER_SIZE], int64_t number)
{
    int len = snprintf(out, NUMBER_SIZE, "%lld", (long long)number);
    return (struct span){out, (size_t)len};
}

void queue_init(struct queue *queue, struct redis *redis, const char *prefix, enum queue_name name)
{
    char host[64] = "";
    char boot[UUID_TEXT_SIZE];
    *queue = (struct queue){.redis = redis, .name = name};
    key_stream(prefix, name, queue->stream);
    key_delayed(prefix, name, queue->delayed);
    key_fields(prefix, name, queue->fields);
    key_seen_prefix(prefix, queue->seen);
    key_events_dead(prefix, queue->dead);
    gethostname(host, sizeof host - 1);
    random_uuid(boot);
    snprintf(queue->consumer, sizeof queue->consumer, "%s:%d:%s", host, (int)getpid(), boot);
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

static int64_t parse_number(struct span text)
{
    char digits[NUMBER_SIZE];
    if (text.ptr == NULL || text.len == 0 || text.len >= sizeof digits)
        return 0;
    memcpy(digits, text.ptr, text.len);
    digits[text.len] = '\0';
    return strtoll(digits, NULL, 10);
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

/* fields: the reply's array of names and values. What is missing is empty: an entry that is not one
 * of ours becomes a job of no known kind, and is set aside as such. */
static struct job *make_job(struct span entry, const struct redis_reply *fields)
{
    struct span values[FIELD_COUNT] = {{NULL, 0}};
    size_t bytes = entry.len + 1;
    size_t count = redis_reply_count(fields);
    for (size_t i = 0; i + 1 < count; i += 2) {
        struct span name = redis_reply_text(redis_reply_at(fields, i));
        for (size_t f = 0; f < FIELD_COUNT; f++)
            if (span_equal(name, span_of(field_names[f])))
                values[f] = redis_reply_text(redis_reply_at(fields, i + 1));
    }
    for (size_t f = 0; f < FIELD_COUNT; f++)
        bytes += values[f].len + 1;
    struct job *job = mem_zalloc(sizeof *job + bytes);
    char *at = (char *)(job + 1);
    job->entry = put(&at, entry);
    job->id = put(&at, values[FIELD_ID]);
    job->kind = put(&at, values[FIELD_KIND]);
    job->key = put(&at, values[FIELD_KEY]);
    job->trace = put(&at, values[FIELD_TRACE]);
    job->payload = (struct span){put(&at, values[FIELD_PAYLOAD]), values[FIELD_PAYLOAD].len};
    job->body = (struct span){put(&at, values[FIELD_BODY]), values[FIELD_BODY].len};
    job->reason = put(&at, values[FIELD_REASON]);
    job->tenant = parse_number(values[FIELD_TENANT]);
    job->version = (int)parse_number(values[FIELD_VERSION]);
    job->attempt = (int)parse_number(values[FIELD_ATTEMPT]);
    job->occurred_ms = parse_number(values[FIELD_OCCURRED]);
    job->enqueued_ms = parse_number(values[FIELD_ENQUEUED]);
    job->deliveries = 1;
    return job;
}

struct job *queue_take_read(const struct redis_reply *reply)
{
    /* {{stream, {{entry, {name, value, ...}}, ...}}}, or nil when nothing came in time */
    return queue_take_entries(redis_reply_at(redis_reply_at(reply, 0), 1));
}

struct job *queue_take_entries(const struct redis_reply *entries)
{
    struct job *first = NULL;
    struct job **last = &first;
    for (size_t i = 0; i < redis_reply_count(entries); i++) {
        const struct redis_reply *item = redis_reply_at(entries, i);
        struct job *job =
            make_job(redis_reply_text(redis_reply_at(item, 0)), redis_reply_at(item, 1));
        *last = job;
        last = &job->next;
    }
    return first;
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

void queue_done(struct queue *queue, const struct job *const *jobs, size_t count,
                redis_callback *callback, void *data)
{
    struct span *args = mem_alloc((2 * count + 3) * sizeof *args);
    args[0] = span_of(queue->stream);
    args[1] = SPAN(KEYS_GROUP);
    /* An event's id stays known for DEDUPE_TTL_HOURS. */
    args[2] = queue->name == QUEUE_events ? SPAN("") : span_of(queue->seen);
    for (size_t i = 0; i < count; i++) {
        args[3 + 2 * i] = span_of(jobs[i]->entry);
        args[4 + 2 * i] = span_of(jobs[i]->id);
    }
    redis_eval(queue->redis, SCRIPT_DONE, 1, args, 2 * count + 3, callback, data);
    free(args);
}

void queue_retry(struct queue *queue, const struct job *job, int64_t delay_ms, int attempt,
                 redis_callback *callback, void *data)
{
    char delay_text[NUMBER_SIZE];
    char attempt_text[NUMBER_SIZE];
    const struct span args[] = {
        span_of(queue->stream),
        span_of(queue->delayed),
        span_of(queue->fields),
        SPAN(KEYS_GROUP),
        span_of(queue->consumer),
        span_of(job->entry),
        span_of(job->id),
        number_span(delay_text, delay_ms),
        number_span(attempt_text, attempt),
    };
    redis_eval(queue->redis, SCRIPT_RETRY, 3, args, ARRAY_LEN(args), callback, data);
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
                                span_of(queue->fields), number_span(count_text, (int64_t)count)};
    redis_eval(queue->redis, SCRIPT_PROMOTE, 3, args, ARRAY_LEN(args), callback, data);
}

/* --- relay ----------------------------------------------------------------------------------- */

void queue_enqueue(struct redis *redis, const char *prefix, const struct outgoing *job,
                   redis_callback *callback, void *data)
{
    const struct job_type *type = job_type(job->kind);
    char stream[KEY_MAX];
    char seen[KEY_MAX];
    char seen_id[KEY_MAX + UUID_TEXT_SIZE + NUMBER_SIZE];
    char id[UUID_TEXT_SIZE + NUMBER_SIZE];
    char numbers[5][NUMBER_SIZE];
    key_stream(prefix, type->queue, stream);
    key_seen_prefix(prefix, seen);
    snprintf(id, sizeof id, "%s.%d", job->id, job->gen);
    snprintf(seen_id, sizeof seen_id, "%s%s", seen, id);
    const struct span args[] = {
        span_of(stream),     span_of(seen_id),
        SPAN("id"),          span_of(id),
        SPAN("kind"),        span_of(type->kind),
        SPAN("ver"),         number_span(numbers[0], job->version),
        SPAN("key"),         span_of(job->key),
        SPAN("tenant"),      number_span(numbers[1], job->tenant),
        SPAN("attempt"),     number_span(numbers[2], job->attempts),
        SPAN("occurred_ms"), number_span(numbers[3], job->occurred_ms),
        SPAN("enqueued_ms"), number_span(numbers[4], job->created_ms),
        SPAN("trace"),       span_of(job->trace),
        SPAN("payload"),     job->payload,
    };
    redis_eval(redis, SCRIPT_ENQUEUE, 2, args, ARRAY_LEN(args), callback, data);
}

void job_free(struct job *job)
{
    free(job);
}
