#include "base/clock.h"
#include "io/redis_impl.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

/* One value. The members of an array lie side by side. Everything of a reply is in one arena. */
struct redis_reply {
    int type;     /* hiredis' REDIS_REPLY_... */
    size_t count; /* bytes of the text, members of the array */
    union {
        long long integer;
        const char *text; /* with a NUL behind it */
        struct redis_reply *members;
    };
};

/* The outermost value; what is inside belongs to the connection's arena, or once kept to its own.
 */
struct root {
    struct arena arena;
    struct redis_reply reply;
};

/* --- building: hiredis reads, and asks for an object of each value ------------------------------
 */

static struct redis_reply *place(const redisReadTask *task, int type)
{
    struct redis *redis = task->privdata;
    struct redis_reply *reply;
    if (task->parent != NULL)
        reply = &((struct redis_reply *)task->parent->obj)->members[task->idx];
    else
        reply = &((struct root *)arena_zalloc(&redis->replies, sizeof(struct root)))->reply;
    *reply = (struct redis_reply){.type = type};
    return reply;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis *redis = task->privdata;
    struct redis_reply *reply = place(task, task->type);
    reply->count = len;
    reply->text = arena_copy(&redis->replies, text, len);
    return reply;
}

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t count)
#else
static void *create_array(const redisReadTask *task, int count)
#endif
{
    struct redis *redis = task->privdata;
    struct redis_reply *reply = place(task, REDIS_REPLY_ARRAY);
    reply->count = (size_t)count;
    reply->members = arena_zalloc(&redis->replies, (size_t)count * sizeof *reply->members);
    return reply;
}

static void *create_integer(const redisReadTask *task, long long number)
{
    struct redis_reply *reply = place(task, REDIS_REPLY_INTEGER);
    reply->integer = number;
    return reply;
}

static void *create_nil(const redisReadTask *task)
{
    return place(task, REDIS_REPLY_NIL);
}

static void free_nothing(void *object)
{
    (void)object; /* the arena has it */
}

/* Doubles, maps and the like are RESP3, which is not asked for. */
static redisReplyObjectFunctions builders = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
    .freeObject = free_nothing,
};

/* --- handing out ---------------------------------------------------------------------------------
 */

static bool starts_with(const struct redis_reply *reply, const char *word)
{
    return reply->count >= strlen(word) && memcmp(reply->text, word, strlen(word)) == 0;
}

/* Errors that mean this server cannot be worked with now, whatever the command was. */
static bool is_unusable(const struct redis_reply *reply)
{
    return starts_with(reply, "LOADING") || starts_with(reply, "READONLY") ||
           starts_with(reply, "MASTERDOWN");
}

static void on_greeting(struct redis *redis, const struct redis_reply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_drop(redis,
                   err_make(ERR_REDIS_REPLY, "Redis refused the connection: %s", reply->text));
        return;
    }
    if (reply->type == REDIS_REPLY_STRING && reply->count == REDIS_SHA_SIZE - 1)
        memcpy(redis->shas[redis->scripts_loaded++], reply->text, REDIS_SHA_SIZE);
    if (--redis->greetings_left > 0)
        return;
    redis->state = STATE_READY;
    redis->attempts_before = redis->attempts;
    redis->attempts = 0;
    redis->ready_ms = clock_mono_ms();
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

static void dispatch(struct redis *redis, const struct redis_reply *reply)
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
        err = err_make(unusable ? ERR_REDIS_DOWN : ERR_REDIS_REPLY, "Redis: %s", reply->text);
    if (item.callback != NULL)
        item.callback(failed ? &err : NULL, failed ? NULL : reply, item.data);
    if (unusable && redis->state == STATE_READY)
        redis_drop(redis, err);
}

/* Only one reply is in the arena at a time: hiredis has not begun the next one. */
static void end_reply(struct redis *redis, struct redis_reply *reply, struct arena replies)
{
    if (redis->keep_reply) {
        struct root *root = (struct root *)((char *)reply - offsetof(struct root, reply));
        root->arena = replies;
    } else if (redis->reader != NULL && redis->replies.block == NULL) {
        arena_reset(&replies);
        redis->replies = replies;
    } else {
        arena_close(&replies);
    }
    redis->keep_reply = false;
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
            redis_drop(redis, err_make(ERR_REDIS_DOWN, "Redis sent a reply nobody asked for"));
            return;
        }
        struct arena replies = redis->replies; /* a callback may drop the connection */
        redis->keep_reply = false;
        arena_init(&redis->replies);
        dispatch(redis, reply);
        end_reply(redis, reply, replies);
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
    redis->reader = redisReaderCreateWithFunctions(&builders);
    REQUIRE(redis->reader != NULL);
    redis->reader->privdata = redis;
    uv_read_start(&redis->socket.stream, on_alloc, on_read);
}

void redis_stop_reading(struct redis *redis)
{
    if (redis->reader != NULL)
        redisReaderFree(redis->reader);
    redis->reader = NULL;
    arena_close(&redis->replies); /* what had come of a reply */
}

/* --- what is in a reply --------------------------------------------------------------------------
 */

bool redis_reply_is_integer(const struct redis_reply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_INTEGER;
}

int64_t redis_reply_integer(const struct redis_reply *reply)
{
    return redis_reply_is_integer(reply) ? reply->integer : 0;
}

struct span redis_reply_text(const struct redis_reply *reply)
{
    if (reply == NULL || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS))
        return (struct span){NULL, 0};
    return (struct span){reply->text, reply->count};
}

size_t redis_reply_count(const struct redis_reply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_ARRAY ? reply->count : 0;
}

const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index)
{
    return index < redis_reply_count(reply) ? &reply->members[index] : NULL;
}

bool redis_reply_is_nil(const struct redis_reply *reply)
{
    return reply == NULL || reply->type == REDIS_REPLY_NIL;
}

void redis_reply_free(struct redis_reply *reply)
{
    if (reply == NULL)
        return;
    struct arena arena = ((struct root *)((char *)reply - offsetof(struct root, reply)))->arena;
    arena_close(&arena);
}
