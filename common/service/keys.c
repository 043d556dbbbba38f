#include "service/keys.h"

#include <stdio.h>

static void write_key(const char *prefix, const char *name, const char *suffix, char out[KEY_MAX])
{
    REQUIRE(strlen(prefix) <= CONFIG_STREAM_PREFIX_MAX);
    snprintf(out, KEY_MAX, "%s:{0}:%s%s", prefix, name, suffix);
}

static void write_queue_key(const char *prefix, enum queue_name queue, const char *suffix,
                            char out[KEY_MAX])
{
    char name[JOB_KIND_MAX];
    snprintf(name, sizeof name, queue == QUEUE_events ? "%s" : "q:%s", queue_text(queue));
    write_key(prefix, name, suffix, out);
}

void key_stream(const char *prefix, enum queue_name queue, char out[KEY_MAX])
{
    write_queue_key(prefix, queue, "", out);
}

void key_delayed(const char *prefix, enum queue_name queue, char out[KEY_MAX])
{
    write_queue_key(prefix, queue, ":z", out);
}

void key_fields(const char *prefix, enum queue_name queue, char out[KEY_MAX])
{
    write_queue_key(prefix, queue, ":d", out);
}

void key_seen_prefix(const char *prefix, char out[KEY_MAX])
{
    write_key(prefix, "seen:", "", out);
}

void key_events_dead(const char *prefix, char out[KEY_MAX])
{
    write_key(prefix, "events:dead", "", out);
}

void key_control(const char *prefix, enum queue_name queue, char out[KEY_MAX])
{
    write_key(prefix, "ctl:", queue_text(queue), out);
}

void key_workers(const char *prefix, char out[KEY_MAX])
{
    write_key(prefix, "workers", "", out);
}

void key_worker_prefix(const char *prefix, char out[KEY_MAX])
{
    write_key(prefix, "worker:", "", out);
}

void key_access_prefix(const char *prefix, char out[KEY_MAX])
{
    write_key(prefix, "access:", "", out);
}

void key_epoch(const char *prefix, char out[KEY_MAX])
{
    write_key(prefix, "epoch", "", out);
}

void key_budget(const char *prefix, const char *credential, const char *operation,
                char out[KEY_MAX])
{
    REQUIRE(strlen(prefix) <= CONFIG_STREAM_PREFIX_MAX);
    REQUIRE(strlen(credential) + strlen(operation) <= KEY_BUDGET_MAX);
    int len = snprintf(out, KEY_MAX, "%s:{b:%s}:%s", prefix, credential, operation);
    REQUIRE(len < KEY_MAX); /* known; gcc at -O3 wants to see it */
}
