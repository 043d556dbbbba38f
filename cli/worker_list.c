#include "cli/worker_list.h"

#include <stdlib.h>

static const char *const field_names[WORKER_FIELD_COUNT] = {
    "program", "host",         "pid",          "queue",     "version",    "state",
    "slots",   "busy",         "ready",        "unsettled", "started_ms", "done",
    "failed",  "last_read_ms", "last_beat_ms", "listen",
};

const char *worker_list_field_name(enum worker_field field)
{
    return field_names[field];
}

static char *copy(struct span text)
{
    char *out = mem_alloc(text.len + 1);
    if (text.len > 0)
        memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return out;
}

static struct worker_seen *add(struct worker_list *view, struct span name)
{
    for (size_t i = 0; i < view->count; i++)
        if (span_equal(span_of(view->workers[i].name), name))
            return &view->workers[i];
    view->workers = mem_realloc(view->workers, (view->count + 1) * sizeof *view->workers);
    struct worker_seen *worker = &view->workers[view->count++];
    *worker = (struct worker_seen){.name = copy(name), .stream = ""};
    for (size_t f = 0; f < WORKER_FIELD_COUNT; f++)
        worker->fields[f] = copy(SPAN(""));
    return worker;
}

/* --- what they say of themselves ------------------------------------------------------------- */

static struct err read_names(struct redis *redis, const char *prefix, struct worker_list *view)
{
    char key[KEY_MAX];
    struct redis_reply *reply = NULL;
    key_workers(prefix, key);
    TRY(ASK(redis, &reply, "ZRANGE", key, "0", "-1", "WITHSCORES"));
    for (size_t i = 0; i + 1 < redis_reply_count(reply); i += 2) {
        struct worker_seen *worker = add(view, redis_reply_text(redis_reply_at(reply, i)));
        worker->heard_ms = ask_number(redis_reply_text(redis_reply_at(reply, i + 1)));
    }
    redis_reply_free(reply);
    return ERR_NONE;
}

static struct err read_fields(struct redis *redis, const char *prefix, struct worker_seen *worker)
{
    char begin[KEY_MAX];
    struct buf key = {0};
    struct redis_reply *reply = NULL;
    key_worker_prefix(prefix, begin);
    buf_printf(&key, "%s%s", begin, worker->name);
    struct err err = ASK(redis, &reply, "HGETALL", buf_text(&key));
    buf_close(&key);
    if (err_failed(&err))
        return err;
    worker->reports = redis_reply_count(reply) > 0;
    for (size_t i = 0; i + 1 < redis_reply_count(reply); i += 2) {
        for (size_t f = 0; f < WORKER_FIELD_COUNT; f++) {
            if (!span_equal(redis_reply_text(redis_reply_at(reply, i)), span_of(field_names[f])))
                continue;
            free(worker->fields[f]);
            worker->fields[f] = copy(redis_reply_text(redis_reply_at(reply, i + 1)));
        }
    }
    redis_reply_free(reply);
    return ERR_NONE;
}

/* --- what the streams' groups know of them --------------------------------------------------- */

static void read_consumer(struct worker_list *view, const char *queue,
                          const struct redis_reply *consumer)
{
    struct span name = {NULL, 0};
    int64_t pending = 0;
    int64_t idle_ms = 0;
    for (size_t i = 0; i + 1 < redis_reply_count(consumer); i += 2) {
        struct span field = redis_reply_text(redis_reply_at(consumer, i));
        const struct redis_reply *value = redis_reply_at(consumer, i + 1);
        if (span_equal(field, SPAN("name")))
            name = redis_reply_text(value);
        else if (span_equal(field, SPAN("pending")))
            pending = redis_reply_integer(value);
        else if (span_equal(field, SPAN("idle")))
            idle_ms = redis_reply_integer(value);
    }
    struct worker_seen *worker = add(view, name);
    worker->consumes = true;
    worker->stream = queue;
    worker->pending += pending;
    worker->idle_ms = idle_ms;
}

static struct err read_consumers(struct redis *redis, const char *prefix, enum queue_name queue,
                                 struct worker_list *view)
{
    char key[KEY_MAX];
    struct redis_reply *reply = NULL;
    key_stream(prefix, queue, key);
    struct err err = ASK(redis, &reply, "XINFO", "CONSUMERS", key, KEYS_GROUP);
    if (ask_is_missing(&err))
        return ERR_NONE;
    if (err_failed(&err))
        return err;
    for (size_t i = 0; i < redis_reply_count(reply); i++)
        read_consumer(view, queue_text(queue), redis_reply_at(reply, i));
    redis_reply_free(reply);
    return ERR_NONE;
}

static int by_name(const void *left, const void *right)
{
    const struct worker_seen *a = left;
    const struct worker_seen *b = right;
    return strcmp(a->name, b->name);
}

static struct err read_all(struct redis *redis, const char *prefix, struct worker_list *view)
{
    TRY(ask_time_ms(redis, &view->now_ms));
    TRY(read_names(redis, prefix, view));
    for (size_t i = 0; i < view->count; i++)
        TRY(read_fields(redis, prefix, &view->workers[i]));
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        TRY(read_consumers(redis, prefix, (enum queue_name)queue, view));
    return ERR_NONE;
}

struct err worker_list_read(struct redis *redis, const char *prefix, struct worker_list *out)
{
    *out = (struct worker_list){0};
    struct err err = read_all(redis, prefix, out);
    if (err_failed(&err))
        worker_list_close(out);
    else if (out->count > 0)
        qsort(out->workers, out->count, sizeof *out->workers, by_name);
    return err;
}

void worker_list_close(struct worker_list *view)
{
    for (size_t i = 0; i < view->count; i++) {
        for (size_t f = 0; f < WORKER_FIELD_COUNT; f++)
            free(view->workers[i].fields[f]);
        free(view->workers[i].name);
    }
    free(view->workers);
    *view = (struct worker_list){0};
}

/* --- what follows ---------------------------------------------------------------------------- */

int64_t worker_list_silent_ms(const struct worker_list *view, const struct worker_seen *worker)
{
    int64_t silent_ms = worker->heard_ms > 0 ? view->now_ms - worker->heard_ms : INT64_MAX;
    if (worker->consumes && worker->idle_ms < silent_ms)
        silent_ms = worker->idle_ms;
    return silent_ms > 0 ? silent_ms : 0;
}

const char *worker_list_queue(const struct worker_seen *worker)
{
    const char *said = worker->fields[WORKER_FIELD_QUEUE];
    return said[0] != '\0' ? said : worker->stream;
}
