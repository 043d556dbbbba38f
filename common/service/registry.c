#include "service/registry.h"

#include "service/scripts.h"

#include <stdio.h>
#include <unistd.h>

enum { FIELDS_MAX = 16, NUMBER_SIZE = 24 };

const char *registry_state_text(enum registry_state state)
{
    static const char *const texts[] = {
        [REGISTRY_CHECKING] = "checking", [REGISTRY_WORKING] = "working",
        [REGISTRY_PAUSED] = "paused",     [REGISTRY_ISOLATING] = "isolating",
        [REGISTRY_STOPPING] = "stopping",
    };
    REQUIRE(state < ARRAY_LEN(texts));
    return texts[state];
}

void registry_init(struct registry *registry, struct redis *redis, const char *prefix,
                   const char *name)
{
    char own[KEY_MAX];
    *registry = (struct registry){.redis = redis};
    snprintf(registry->name, sizeof registry->name, "%s", name);
    gethostname(registry->host, sizeof registry->host - 1);
    key_workers(prefix, registry->names);
    key_worker_prefix(prefix, own);
    snprintf(registry->own, sizeof registry->own, "%s%s", own, registry->name);
}

/* The arguments of REPORT, and the digits some of them point to. */
struct report_args {
    struct span all[4 + 2 * FIELDS_MAX];
    size_t count;
    char digits[1 + FIELDS_MAX][NUMBER_SIZE];
    size_t numbers;
};

static void add_text(struct report_args *args, const char *field, const char *value)
{
    REQUIRE(args->count + 2 <= ARRAY_LEN(args->all));
    args->all[args->count++] = span_of(field);
    args->all[args->count++] = span_of(value);
}

static void add_number(struct report_args *args, const char *field, int64_t value)
{
    REQUIRE(args->numbers < ARRAY_LEN(args->digits));
    char *digits = args->digits[args->numbers++];
    snprintf(digits, NUMBER_SIZE, "%lld", (long long)value);
    add_text(args, field, digits);
}

static void begin(const struct registry *registry, struct report_args *args)
{
    args->count = 0;
    args->numbers = 0;
    args->all[args->count++] = span_of(registry->names);
    args->all[args->count++] = span_of(registry->own);
}

void registry_write(struct registry *registry, const struct registry_entry *entry, int64_t keep_ms,
                    redis_callback *callback, void *data)
{
    struct report_args args;
    begin(registry, &args);
    add_number(&args, registry->name, keep_ms);
    add_text(&args, "program", entry->program);
    add_text(&args, "host", registry->host);
    add_number(&args, "pid", (int64_t)getpid());
    add_text(&args, "queue", entry->queue);
    add_text(&args, "version", WHOPLINE_VERSION);
    add_text(&args, "state", registry_state_text(entry->state));
    add_number(&args, "slots", (int64_t)entry->slots);
    add_number(&args, "busy", (int64_t)entry->busy);
    add_number(&args, "ready", (int64_t)entry->ready);
    add_number(&args, "unsettled", (int64_t)entry->unsettled);
    add_number(&args, "started_ms", entry->started_ms);
    add_number(&args, "done", (int64_t)entry->done);
    add_number(&args, "failed", (int64_t)entry->failed);
    add_number(&args, "last_read_ms", entry->last_read_ms);
    add_number(&args, "last_beat_ms", entry->last_beat_ms);
    add_text(&args, "listen", entry->listen);
    redis_eval(registry->redis, SCRIPT_REGISTER, 2, args.all, args.count, callback, data);
}

void registry_remove(struct registry *registry, redis_callback *callback, void *data)
{
    struct report_args args;
    begin(registry, &args);
    add_number(&args, registry->name, 0);
    redis_eval(registry->redis, SCRIPT_REGISTER, 2, args.all, args.count, callback, data);
}
