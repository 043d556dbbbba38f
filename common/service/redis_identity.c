#include "service/redis_identity.h"

#include "base/random.h"

#include <stdio.h>

/* The value of "name:value\r\n" in INFO's text; cut to the length of an identity. */
static void read_info(struct span info, const char *name, char out[REDIS_IDENTITY_MAX])
{
    char line[64];
    int len = snprintf(line, sizeof line, "\n%s:", name);
    const char *at = info.len > 0 ? memmem(info.ptr, info.len, line, (size_t)len) : NULL;
    size_t size = 0;
    if (at != NULL) {
        const char *value = at + len;
        size_t left = info.len - (size_t)(value - info.ptr);
        while (size < left && size < REDIS_IDENTITY_MAX - 1 && value[size] != '\r')
            size++;
        memcpy(out, value, size);
    }
    out[size] = '\0';
}

static void note(struct redis_identity_request *request, const struct err *err)
{
    if (err->code == ERR_REDIS_REPLY)
        request->refused = *err;
    else
        request->err = *err;
}

static void on_info(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct redis_identity_request *request = data;
    if (err != NULL) {
        note(request, err);
        return; /* the epoch's reply is still to come */
    }
    read_info(redis_reply_text(reply), "run_id", request->identity.run_id);
    read_info(redis_reply_text(reply), "master_replid", request->identity.replication_id);
}

static void finish(struct redis_identity_request *request)
{
    request->callback(err_failed(&request->err) ? &request->err : NULL, request->data);
}

static void take_epoch(struct redis_identity_request *request, struct span epoch)
{
    snprintf(request->identity.epoch, REDIS_IDENTITY_MAX, "%.*s", (int)epoch.len, epoch.ptr);
}

/* SET NX GET answers what another put there first, or nil: then it is ours. */
static void on_made(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct redis_identity_request *request = data;
    if (err != NULL) {
        note(request, err);
        /* None and none can be made: that, too, is different from any that was there. */
        if (err->code == ERR_REDIS_REPLY)
            take_epoch(request, SPAN("none"));
    } else if (redis_reply_is_nil(reply)) {
        take_epoch(request, span_of(request->fresh));
    } else {
        take_epoch(request, redis_reply_text(reply));
    }
    finish(request);
}

static void on_epoch(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct redis_identity_request *request = data;
    if (err == NULL && redis_reply_is_nil(reply)) {
        const struct span make[] = {SPAN("SET"), span_of(request->key), span_of(request->fresh),
                                    SPAN("NX"), SPAN("GET")};
        redis_command(request->redis, make, ARRAY_LEN(make), on_made, request);
        return;
    }
    if (err != NULL)
        note(request, err);
    else
        take_epoch(request, redis_reply_text(reply));
    finish(request);
}

void redis_identity_ask(struct redis *redis, const char *prefix,
                        struct redis_identity_request *request)
{
    const struct span info[] = {SPAN("INFO"), SPAN("server"), SPAN("replication")};
    request->identity = (struct redis_identity){0};
    request->refused = ERR_NONE;
    request->err = ERR_NONE;
    request->redis = redis;
    key_epoch(prefix, request->key);
    random_uuid(request->fresh);
    const struct span get[] = {SPAN("GET"), span_of(request->key)};
    redis_command(redis, info, ARRAY_LEN(info), on_info, request);
    redis_command(redis, get, ARRAY_LEN(get), on_epoch, request);
}

static void on_asked(const struct err *err, void *data)
{
    size_t *left = data;
    (void)err;
    *left = 0;
}

struct err redis_identity_get(struct redis *redis, const char *prefix, struct redis_identity *out)
{
    size_t left = 1;
    struct redis_identity_request request = {.callback = on_asked, .data = &left};
    TRY(redis_wait_ready(redis));
    redis_identity_ask(redis, prefix, &request);
    redis_settle(redis, &left);
    TRY(request.err);
    TRY(request.refused);
    *out = request.identity;
    return ERR_NONE;
}
