#include "io/redis_impl.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

/* What callers see of hiredis' reply. */
struct redis_reply {
    redisReply inner;
};

/* --- handing out ---------------------------------------------------------------------------------
 */

static bool starts_with(const redisReply *reply, const char *word)
{
    return reply->len >= strlen(word) && memcmp(reply->str, word, strlen(word)) == 0;
}

/* Errors that mean this server cannot be worked with now, whatever the command was. */
static bool is_unusable(const redisReply *reply)
{
    return starts_with(reply, "LOADING") || starts_with(reply, "READONLY") ||
           starts_with(reply, "MASTERDOWN");
}

static void on_greeting(struct redis *redis, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_drop(redis,
                   err_make(ERR_REDIS_REPLY, "Redis refused the connection: %s", reply->str));
        return;
    }
    if (reply->type == REDIS_REPLY_STRING && reply->len == REDIS_SHA_SIZE - 1)
        memcpy(redis->shas[redis->scripts_loaded++], reply->str, REDIS_SHA_SIZE);
    if (--redis->greetings_left > 0)
        return;
    redis->state = STATE_READY;
    redis->attempts = 0;
    redis->outage = false;
    if (redis->options.on_ready != NULL)
        redis->options.on_ready(redis->options.data);
}

/* The script is not there (SCRIPT FLUSH): load it again and repeat. Order is kept among these two
 * only, which is all that scripts with keys of their own need. */
static void repeat_after_load(struct redis *redis, struct redis_pending item)
{
    const struct redis_script *script = &redis->options.scripts[item.script];
    const struct span load[] = {SPAN("SCRIPT"), SPAN("LOAD"), {script->source, script->size}};
    redis_send_own(redis, (struct redis_pending){0}, load, ARRAY_LEN(load));
    struct redis_pending again = item;
    again.command = NULL;
    redis_send(redis, again, item.command, item.command_len);
    free(item.command);
}

static void dispatch(struct redis *redis, redisReply *reply)
{
    struct redis_pending item = redis_ring_pop(&redis->waiting);
    bool failed = reply->type == REDIS_REPLY_ERROR;
    if (item.greeting) {
        on_greeting(redis, reply);
        return;
    }
    if (failed && item.command != NULL && starts_with(reply, "NOSCRIPT")) {
        repeat_after_load(redis, item);
        return;
    }
    free(item.command);
    struct err err = ERR_NONE;
    bool unusable = failed && is_unusable(reply);
    if (failed)
        err = err_make(unusable ? ERR_REDIS_DOWN : ERR_REDIS_REPLY, "Redis: %s", reply->str);
    if (item.callback != NULL)
        item.callback(failed ? &err : NULL, failed ? NULL : (const struct redis_reply *)reply,
                      item.data);
    if (unusable && redis->state == STATE_READY)
        redis_drop(redis, err);
}

static void read_replies(struct redis *redis)
{
    redisReader *reader = redis->reader;
    while (redis->reader == reader && redis->state >= STATE_GREETING) {
        void *reply = NULL;
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            redis_drop(redis, err_make(ERR_REDIS_DOWN, "Redis sent what is not its protocol"));
            return;
        }
        if (reply == NULL)
            break;
        if (redis->waiting.count == 0) {
            freeReplyObject(reply);
            redis_drop(redis, err_make(ERR_REDIS_DOWN, "Redis sent a reply nobody asked for"));
            return;
        }
        redis->keep_reply = false;
        dispatch(redis, reply);
        if (!redis->keep_reply)
            freeReplyObject(reply);
        redis->keep_reply = false;
    }
    if (redis->state == STATE_GREETING || redis->state == STATE_READY)
        redis_arm_deadline(redis);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct redis *redis = handle->data;
    (void)suggested;
    *out = uv_buf_init(redis->read_memory, REDIS_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct redis *redis = stream->data;
    if (len < 0) {
        redis_drop(redis, err_make(ERR_REDIS_DOWN, "Redis closed the connection: %s",
                                   uv_strerror((int)len)));
        return;
    }
    if (len == 0)
        return;
    redisReaderFeed(redis->reader, buffer->base, (size_t)len);
    read_replies(redis);
}

void redis_start_reading(struct redis *redis)
{
    redis->reader = redisReaderCreate();
    REQUIRE(redis->reader != NULL);
    uv_read_start(&redis->socket.stream, on_alloc, on_read);
}

void redis_stop_reading(struct redis *redis)
{
    if (redis->reader != NULL)
        redisReaderFree(redis->reader);
    redis->reader = NULL;
}

/* --- what is in a reply --------------------------------------------------------------------------
 */

static const redisReply *inner(const struct redis_reply *reply)
{
    return &reply->inner;
}

int64_t redis_reply_integer(const struct redis_reply *reply)
{
    return reply != NULL && inner(reply)->type == REDIS_REPLY_INTEGER ? inner(reply)->integer : 0;
}

struct span redis_reply_text(const struct redis_reply *reply)
{
    if (reply == NULL ||
        (inner(reply)->type != REDIS_REPLY_STRING && inner(reply)->type != REDIS_REPLY_STATUS))
        return (struct span){NULL, 0};
    return (struct span){inner(reply)->str, (size_t)inner(reply)->len};
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    return reply != NULL && inner(reply)->type == REDIS_REPLY_ARRAY ? inner(reply)->elements : 0;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index)
{
    if (index >= redis_reply_count(reply))
        return NULL;
    return (const struct redis_reply *)inner(reply)->element[index];
}

bool redis_reply_is_nil(const struct redis_reply *reply)
{
    return reply == NULL || inner(reply)->type == REDIS_REPLY_NIL;
}

void redis_reply_free(struct redis_reply *reply)
{
    freeReplyObject(reply);
}
