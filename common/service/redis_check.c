#include "service/redis_check.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { REDIS_MAJOR_MIN = 7 };

/* The value of "name:value\r\n" in INFO's text; "" where it is not. */
static struct span info_value(struct span info, const char *name)
{
    char line[64];
    int len = snprintf(line, sizeof line, "\n%s:", name);
    const char *at = memmem(info.ptr, info.len, line, (size_t)len);
    if (at == NULL)
        return SPAN("");
    const char *begin = at + len;
    size_t left = info.len - (size_t)(begin - info.ptr);
    const char *end = memchr(begin, '\r', left);
    return (struct span){begin, end != NULL ? (size_t)(end - begin) : left};
}

static struct err judge_info(struct span info)
{
    struct span version = info_value(info, "redis_version");
    struct span policy = info_value(info, "maxmemory_policy");
    if (version.len == 0)
        return err_make(ERR_REDIS_UNSAFE, "Redis hides INFO: its durability cannot be judged");
    if (strtol(version.ptr, NULL, 10) < REDIS_MAJOR_MIN)
        return err_make(ERR_REDIS_UNSAFE, "Redis %.*s is too old: version %d or newer is needed",
                        (int)version.len, version.ptr, REDIS_MAJOR_MIN);
    if (!span_equal(info_value(info, "aof_enabled"), SPAN("1")))
        return err_make(ERR_REDIS_UNSAFE,
                        "Redis keeps no append-only file: set \"appendonly yes\"");
    if (!span_equal(policy, SPAN("noeviction")))
        return err_make(ERR_REDIS_UNSAFE,
                        "Redis may evict jobs: set \"maxmemory-policy noeviction\", not %.*s",
                        (int)policy.len, policy.ptr);
    return ERR_NONE;
}

/* CONFIG GET answers names and values in turn. */
static struct span config_value(const struct redis_reply *reply, const char *name)
{
    for (size_t i = 0; i + 1 < redis_reply_count(reply); i += 2)
        if (span_equal(redis_reply_text(redis_reply_at(reply, i)), span_of(name)))
            return redis_reply_text(redis_reply_at(reply, i + 1));
    return (struct span){NULL, 0};
}

static void on_config(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct redis_check *check = data;
    struct span value = config_value(reply, "appendfsync");
    struct span rewrite = config_value(reply, "no-appendfsync-on-rewrite");
    if (err != NULL && err->code != ERR_REDIS_REPLY)
        check->err = *err;
    else if (err != NULL || value.ptr == NULL)
        log_warning("redis", "CONFIG is forbidden: could not check that appendfsync is always");
    else if (!span_equal(value, SPAN("always")))
        check->err =
            err_make(ERR_REDIS_UNSAFE,
                     "Redis may lose a second of jobs: set \"appendfsync always\", not %.*s",
                     (int)value.len, value.ptr);
    else if (span_equal(rewrite, SPAN("yes")))
        check->err =
            err_make(ERR_REDIS_UNSAFE, "Redis does not sync while it rewrites its file: set "
                                       "\"no-appendfsync-on-rewrite no\"");
    check->callback(err_failed(&check->err) ? &check->err : NULL, check->data);
}

static void on_info(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct redis_check *check = data;
    check->err = err != NULL ? *err : judge_info(redis_reply_text(reply));
    if (err_failed(&check->err)) {
        check->callback(&check->err, check->data);
        return;
    }
    const struct span config[] = {SPAN("CONFIG"), SPAN("GET"), SPAN("*appendfsync*")};
    redis_command(check->redis, config, ARRAY_LEN(config), on_config, check);
}

void redis_check_start(struct redis *redis, struct redis_check *check)
{
    const struct span info[] = {SPAN("INFO"), SPAN("everything")};
    check->err = ERR_NONE;
    check->redis = redis;
    redis_command(redis, info, ARRAY_LEN(info), on_info, check);
}
