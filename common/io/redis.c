#include "io/redis.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/random.h"
#include "io/redis_url.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_LAST_MS = 5000,
    READ_BYTES = 65536,
    SHA_TEXT_SIZE = 41,
};

/* See the drawing in the header. CLOSING comes from anywhere and is for good. */
enum state { STATE_DOWN, STATE_CONNECTING, STATE_GREETING, STATE_READY, STATE_CLOSING };

/* A command whose reply is awaited, or (in failed) whose callback is owed an error. */
struct pending {
    redis_callback *callback;
    void *data;
    char *command; /* scripts only, to repeat it after NOSCRIPT */
    size_t command_len;
    size_t script;
    int64_t sent_ms;
    bool greeting; /* AUTH, SELECT, SCRIPT LOAD: ours */
};

/* A first-in-first-out ring that grows. */
struct ring {
    struct pending *items;
    size_t cap;
    size_t first;
    size_t count;
};

struct redis {
    struct redis_options options;
    struct redis_url url;
    enum state state;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    bool socket_open; /* initialised and not yet asked to close */
    uv_connect_t connect;
    uv_getaddrinfo_t lookup;
    bool lookup_running;
    uv_timer_t retry;
    uv_timer_t deadline;
    uv_prepare_t flush;
    int handles; /* timers and prepare, until closed */
    redisReader *reader;
    struct ring waiting; /* for replies */
    struct ring failed;  /* owed an error, paid in the next turn */
    struct err why;      /* of the last loss */
    struct buf out;      /* collected in this turn */
    struct buf writing;  /* handed to uv_write */
    uv_write_t write;
    bool write_running;
    unsigned attempts;
    bool outage; /* on_down has been called, on_ready not yet */
    char (*shas)[SHA_TEXT_SIZE];
    size_t greetings_left;
    size_t scripts_loaded;
    char *read_memory;
    bool keep_reply; /* redis_call takes the reply over */
    bool freed_when_idle;
};

static void connect_start(struct redis *redis);
static void connection_drop(struct redis *redis, struct err why);
static void maybe_free(struct redis *redis);

/* --- ring ------------------------------------------------------------------------------------ */

static void ring_push(struct ring *ring, struct pending item)
{
    if (ring->count == ring->cap) {
        size_t cap = ring->cap != 0 ? ring->cap * 2 : 64;
        struct pending *items = mem_alloc(cap * sizeof *items);
        for (size_t i = 0; i < ring->count; i++)
            items[i] = ring->items[(ring->first + i) % ring->cap];
        free(ring->items);
        *ring = (struct ring){items, cap, 0, ring->count};
    }
    ring->items[(ring->first + ring->count) % ring->cap] = item;
    ring->count++;
}

static struct pending ring_pop(struct ring *ring)
{
    struct pending item = ring->items[ring->first];
    ring->first = (ring->first + 1) % ring->cap;
    ring->count--;
    return item;
}

/* --- writing --------------------------------------------------------------------------------- */

static void on_write(uv_write_t *write, int status)
{
    struct redis *redis = write->data;
    redis->write_running = false;
    buf_clear(&redis->writing);
    if (status < 0 && status != UV_ECANCELED)
        connection_drop(redis, err_make(ERR_REDIS_DOWN, "Redis: %s", uv_strerror(status)));
    maybe_free(redis);
}

static void deadline_arm(struct redis *redis);

static void flush_now(struct redis *redis)
{
    if (redis->out.len == 0 || redis->write_running || !redis->socket_open)
        return;
    uv_buf_t buffer = uv_buf_init(redis->out.ptr, (unsigned)redis->out.len);
    int written = uv_try_write(&redis->socket.stream, &buffer, 1);
    if (written > 0 && (size_t)written == redis->out.len) {
        buf_clear(&redis->out);
        return;
    }
    if (written > 0)
        buf_consume(&redis->out, (size_t)written);
    struct buf swap = redis->writing;
    redis->writing = redis->out;
    redis->out = swap;
    redis->write_running = true;
    redis->write.data = redis;
    buffer = uv_buf_init(redis->writing.ptr, (unsigned)redis->writing.len);
    int status = uv_write(&redis->write, &redis->socket.stream, &buffer, 1, on_write);
    if (status < 0) {
        redis->write_running = false;
        connection_drop(redis, err_make(ERR_REDIS_DOWN, "Redis: %s", uv_strerror(status)));
    }
}

static void pay_failed(struct redis *redis)
{
    /* Only what is owed now: callbacks may queue more, which is for the next turn. */
    for (size_t left = redis->failed.count; left > 0; left--) {
        struct pending item = ring_pop(&redis->failed);
        free(item.command);
        if (item.callback != NULL)
            item.callback(&redis->why, NULL, item.data);
    }
}

/* Runs before each poll: commands of this turn leave together. */
static void on_flush(uv_prepare_t *prepare)
{
    struct redis *redis = prepare->data;
    pay_failed(redis);
    if (redis->state == STATE_GREETING || redis->state == STATE_READY)
        flush_now(redis);
    if (redis->failed.count == 0 && redis->out.len == 0)
        uv_prepare_stop(prepare);
    maybe_free(redis);
}

static void flush_soon(struct redis *redis)
{
    if (redis->handles == 0)
        return;
    uv_prepare_start(&redis->flush, on_flush);
}

/* The command is in redis->out. */
static void await_reply(struct redis *redis, struct pending item)
{
    item.sent_ms = clock_mono_ms();
    ring_push(&redis->waiting, item);
    if (redis->waiting.count == 1)
        deadline_arm(redis);
    flush_soon(redis);
}

static void send_command(struct redis *redis, struct pending item, const char *command, size_t len)
{
    buf_add(&redis->out, command, len);
    await_reply(redis, item);
}

/* --- time-outs ------------------------------------------------------------------------------- */

static void on_deadline(uv_timer_t *timer)
{
    struct redis *redis = timer->data;
    int64_t limit = redis->options.timeout_ms;
    if (redis->state == STATE_CONNECTING ||
        (redis->waiting.count > 0 &&
         clock_mono_ms() - redis->waiting.items[redis->waiting.first].sent_ms >= limit)) {
        connection_drop(redis, err_make(ERR_REDIS_TIMEOUT, "Redis did not answer within %lld ms",
                                        (long long)limit));
        return;
    }
    deadline_arm(redis);
}

/* One timer for the connection: at the time the oldest command becomes overdue. */
static void deadline_arm(struct redis *redis)
{
    int64_t wait = redis->options.timeout_ms;
    if (redis->handles == 0)
        return;
    if (redis->state != STATE_CONNECTING) {
        if (redis->waiting.count == 0) {
            uv_timer_stop(&redis->deadline);
            return;
        }
        wait -= clock_mono_ms() - redis->waiting.items[redis->waiting.first].sent_ms;
    }
    uv_update_time(redis->options.loop);
    uv_timer_start(&redis->deadline, on_deadline, wait > 1 ? (uint64_t)wait : 1, 0);
}

/* --- replies --------------------------------------------------------------------------------- */

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
        connection_drop(redis,
                        err_make(ERR_REDIS_REPLY, "Redis refused the connection: %s", reply->str));
        return;
    }
    if (reply->type == REDIS_REPLY_STRING && reply->len == SHA_TEXT_SIZE - 1)
        memcpy(redis->shas[redis->scripts_loaded++], reply->str, SHA_TEXT_SIZE);
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
static void repeat_after_load(struct redis *redis, struct pending item)
{
    const struct redis_script *script = &redis->options.scripts[item.script];
    const char *words[] = {"SCRIPT", "LOAD", script->source};
    size_t lens[] = {6, 4, script->size};
    char *load = NULL;
    long long len = redisFormatCommandArgv(&load, 3, words, lens);
    REQUIRE(len > 0);
    send_command(redis, (struct pending){0}, load, (size_t)len);
    redisFreeCommand(load);
    struct pending again = item;
    again.command = NULL;
    send_command(redis, again, item.command, item.command_len);
    free(item.command);
}

static void dispatch(struct redis *redis, redisReply *reply)
{
    struct pending item = ring_pop(&redis->waiting);
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
        connection_drop(redis, err);
}

static void read_replies(struct redis *redis)
{
    redisReader *reader = redis->reader;
    while (redis->reader == reader && redis->state >= STATE_GREETING) {
        void *reply = NULL;
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            connection_drop(redis, err_make(ERR_REDIS_DOWN, "Redis sent what is not its protocol"));
            return;
        }
        if (reply == NULL)
            break;
        if (redis->waiting.count == 0) {
            freeReplyObject(reply);
            connection_drop(redis, err_make(ERR_REDIS_DOWN, "Redis sent a reply nobody asked for"));
            return;
        }
        redis->keep_reply = false;
        dispatch(redis, reply);
        if (!redis->keep_reply)
            freeReplyObject(reply);
        redis->keep_reply = false;
    }
    if (redis->state == STATE_GREETING || redis->state == STATE_READY)
        deadline_arm(redis);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct redis *redis = handle->data;
    (void)suggested;
    *out = uv_buf_init(redis->read_memory, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct redis *redis = stream->data;
    if (len < 0) {
        connection_drop(redis, err_make(ERR_REDIS_DOWN, "Redis closed the connection: %s",
                                        uv_strerror((int)len)));
        return;
    }
    if (len == 0)
        return;
    redisReaderFeed(redis->reader, buffer->base, (size_t)len);
    read_replies(redis);
}

/* --- connecting ------------------------------------------------------------------------------ */

static void greet_one(struct redis *redis, const char *const *words, const size_t *lens, int count)
{
    char *command = NULL;
    long long len = redisFormatCommandArgv(&command, count, (const char **)(uintptr_t)words, lens);
    REQUIRE(len > 0);
    redis->greetings_left++;
    send_command(redis, (struct pending){.greeting = true}, command, (size_t)len);
    explicit_bzero(command, (size_t)len);
    redisFreeCommand(command);
}

static void greet(struct redis *redis)
{
    const struct redis_url *url = &redis->url;
    redis->greetings_left = 0;
    redis->scripts_loaded = 0;
    if (!text_is_empty(url->password)) {
        bool named = !text_is_empty(url->user);
        const char *words[] = {"AUTH", named ? url->user : url->password, url->password};
        size_t lens[] = {4, strlen(words[1]), strlen(words[2])};
        greet_one(redis, words, lens, named ? 3 : 2);
    }
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)url->db);
    greet_one(redis, (const char *[]){"SELECT", number}, (size_t[]){6, strlen(number)}, 2);
    for (size_t i = 0; i < redis->options.script_count; i++) {
        const struct redis_script *script = &redis->options.scripts[i];
        greet_one(redis, (const char *[]){"SCRIPT", "LOAD", script->source},
                  (size_t[]){6, 4, script->size}, 3);
    }
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct redis *redis = connect->data;
    if (status == UV_ECANCELED || redis->state != STATE_CONNECTING)
        return;
    if (status < 0) {
        connection_drop(redis, err_make(ERR_REDIS_DOWN, "cannot connect to Redis at %s: %s",
                                        redis->url.path != NULL ? redis->url.path : redis->url.host,
                                        uv_strerror(status)));
        return;
    }
    redis->state = STATE_GREETING;
    redis->reader = redisReaderCreate();
    REQUIRE(redis->reader != NULL);
    if (redis->url.path == NULL)
        uv_tcp_nodelay(&redis->socket.tcp, 1);
    uv_read_start(&redis->socket.stream, on_alloc, on_read);
    greet(redis);
    deadline_arm(redis);
}

static void on_lookup(uv_getaddrinfo_t *lookup, int status, struct addrinfo *found)
{
    struct redis *redis = lookup->data;
    redis->lookup_running = false;
    if (redis->state == STATE_CONNECTING) {
        if (status == 0) {
            uv_tcp_init(redis->options.loop, &redis->socket.tcp);
            redis->socket.handle.data = redis;
            redis->socket_open = true;
            redis->connect.data = redis;
            status =
                uv_tcp_connect(&redis->connect, &redis->socket.tcp, found->ai_addr, on_connect);
        }
        if (status < 0)
            connection_drop(redis, err_make(ERR_REDIS_DOWN, "cannot connect to Redis at %s: %s",
                                            redis->url.host, uv_strerror(status)));
    }
    if (found != NULL)
        uv_freeaddrinfo(found);
    maybe_free(redis);
}

static void connect_start(struct redis *redis)
{
    redis->state = STATE_CONNECTING;
    deadline_arm(redis);
    if (redis->url.path != NULL) {
        uv_pipe_init(redis->options.loop, &redis->socket.pipe, 0);
        redis->socket.handle.data = redis;
        redis->socket_open = true;
        redis->connect.data = redis;
        uv_pipe_connect(&redis->connect, &redis->socket.pipe, redis->url.path, on_connect);
        return;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    redis->lookup.data = redis;
    int status = uv_getaddrinfo(redis->options.loop, &redis->lookup, on_lookup, redis->url.host,
                                redis->url.port, &hints);
    redis->lookup_running = status == 0;
    if (status < 0)
        connection_drop(redis, err_make(ERR_REDIS_DOWN, "cannot look up %s: %s", redis->url.host,
                                        uv_strerror(status)));
}

static void retry_arm(struct redis *redis);

static void on_retry(uv_timer_t *timer)
{
    struct redis *redis = timer->data;
    if (redis->lookup_running) /* a name server that hangs; the request's memory is in use */
        retry_arm(redis);
    else
        connect_start(redis);
}

/* Backoff 50 ms to 5 s, half of it random, so that processes do not come back together. */
static void retry_arm(struct redis *redis)
{
    unsigned shift = redis->attempts < 7 ? redis->attempts : 7;
    uint32_t wait = (uint32_t)BACKOFF_FIRST_MS << shift;
    if (wait > BACKOFF_LAST_MS)
        wait = BACKOFF_LAST_MS;
    redis->attempts++;
    uv_update_time(redis->options.loop);
    uv_timer_start(&redis->retry, on_retry, wait / 2 + random_below(wait / 2 + 1), 0);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct redis *redis = handle->data;
    handle->data = NULL;
    redis->handles--;
    if (redis->state == STATE_DOWN)
        retry_arm(redis);
    maybe_free(redis);
}

static void fail_waiting(struct redis *redis)
{
    while (redis->waiting.count > 0) {
        struct pending item = ring_pop(&redis->waiting);
        if (item.greeting || (item.callback == NULL && item.command == NULL))
            continue;
        ring_push(&redis->failed, item);
    }
}

/* Lets go of the socket; everything in flight is owed an error. From any open state to DOWN, or on
 * the way to CLOSING. */
static void connection_drop(struct redis *redis, struct err why)
{
    if (redis->state == STATE_DOWN)
        return;
    bool closing = redis->state == STATE_CLOSING;
    redis->why = why;
    if (!closing)
        redis->state = STATE_DOWN;
    uv_timer_stop(&redis->deadline);
    fail_waiting(redis);
    buf_clear(&redis->out);
    if (redis->reader != NULL) {
        redisReaderFree(redis->reader);
        redis->reader = NULL;
    }
    flush_soon(redis);
    if (redis->socket_open) {
        redis->socket_open = false;
        redis->handles++;
        uv_close(&redis->socket.handle, on_socket_closed);
    } else if (!closing) {
        retry_arm(redis);
    }
    if (!closing && !redis->outage && redis->options.on_down != NULL) {
        redis->outage = true;
        redis->options.on_down(&why, redis->options.data);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

struct err redis_new(const struct redis_options *options, struct redis **out)
{
    *out = NULL;
    struct redis_url url;
    TRY(redis_url_parse(options->url, &url));
    struct redis *redis = mem_zalloc(sizeof *redis);
    redis->options = *options;
    redis->url = url;
    redis->shas = mem_zalloc((options->script_count + 1) * sizeof *redis->shas);
    redis->read_memory = mem_alloc(READ_BYTES);
    uv_timer_init(options->loop, &redis->retry);
    uv_timer_init(options->loop, &redis->deadline);
    uv_prepare_init(options->loop, &redis->flush);
    redis->retry.data = redis->deadline.data = redis->flush.data = redis;
    redis->handles = 3;
    redis->why = err_make(ERR_REDIS_DOWN, "Redis has not been reached yet");
    connect_start(redis);
    *out = redis;
    return ERR_NONE;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct redis *redis = handle->data;
    redis->handles--;
    maybe_free(redis);
}

/* When closing: once all callbacks are paid the handles go, and with the last of them the memory.
 */
static void maybe_free(struct redis *redis)
{
    if (redis->state != STATE_CLOSING || redis->lookup_running || redis->write_running ||
        redis->socket_open || redis->failed.count > 0)
        return;
    if (!redis->freed_when_idle) {
        if (redis->handles != 3)
            return;
        redis->freed_when_idle = true;
        uv_close((uv_handle_t *)&redis->retry, on_handle_closed);
        uv_close((uv_handle_t *)&redis->deadline, on_handle_closed);
        uv_close((uv_handle_t *)&redis->flush, on_handle_closed);
        return;
    }
    if (redis->handles > 0)
        return;
    redis_url_close(&redis->url);
    buf_close(&redis->out);
    buf_close(&redis->writing);
    free(redis->waiting.items);
    free(redis->failed.items);
    free(redis->shas);
    free(redis->read_memory);
    free(redis);
}

void redis_close(struct redis *redis)
{
    if (redis == NULL)
        return;
    REQUIRE(redis->state != STATE_CLOSING);
    bool was_down = redis->state == STATE_DOWN;
    redis->state = STATE_CLOSING;
    uv_timer_stop(&redis->retry);
    if (redis->lookup_running)
        uv_cancel((uv_req_t *)&redis->lookup);
    if (was_down)
        redis->why = err_make(ERR_CANCELLED, "the connection to Redis is being closed");
    else
        connection_drop(redis, err_make(ERR_CANCELLED, "the connection to Redis is being closed"));
    /* The memory goes in a later turn, never under a caller's feet. */
    uv_prepare_start(&redis->flush, on_flush);
}

bool redis_is_ready(const struct redis *redis)
{
    return redis->state == STATE_READY;
}

size_t redis_pending(const struct redis *redis)
{
    return redis->waiting.count + redis->failed.count;
}

/* --- commands -------------------------------------------------------------------------------- */

enum { ARGS_INLINE = 64 };

/* "*3\r\n" or "$17\r\n". */
static void add_count(struct buf *out, char sign, size_t count)
{
    char line[24];
    size_t at = sizeof line;
    line[--at] = '\n';
    line[--at] = '\r';
    do
        line[--at] = (char)('0' + count % 10);
    while ((count /= 10) > 0);
    line[--at] = sign;
    buf_add(out, line + at, sizeof line - at);
}

/* By hand, since hiredis prints each length with sprintf, measures twice and copies: that was a
 * tenth of what an event cost ingest. */
static void add_command(struct buf *out, const struct span *args, size_t count)
{
    add_count(out, '*', count);
    for (size_t i = 0; i < count; i++) {
        add_count(out, '$', args[i].len);
        buf_add(out, args[i].ptr, args[i].len);
        buf_add(out, "\r\n", 2);
    }
}

static void queue_command(struct redis *redis, struct pending item, const struct span *args,
                          size_t count, bool keep)
{
    if (redis->state != STATE_READY) {
        ring_push(&redis->failed, item);
        flush_soon(redis);
        return;
    }
    size_t start = redis->out.len;
    add_command(&redis->out, args, count);
    if (keep) {
        item.command_len = redis->out.len - start;
        item.command = mem_alloc(item.command_len);
        memcpy(item.command, redis->out.ptr + start, item.command_len);
    }
    await_reply(redis, item);
}

void redis_command(struct redis *redis, const struct span *args, size_t count,
                   redis_callback *callback, void *data)
{
    queue_command(redis, (struct pending){.callback = callback, .data = data}, args, count, false);
}

void redis_eval(struct redis *redis, size_t script, size_t key_count, const struct span *args,
                size_t count, redis_callback *callback, void *data)
{
    REQUIRE(script < redis->options.script_count);
    struct span inline_all[ARGS_INLINE];
    bool many = count + 3 > ARGS_INLINE;
    struct span *all = many ? mem_alloc((count + 3) * sizeof *all) : inline_all;
    char keys[24];
    snprintf(keys, sizeof keys, "%zu", key_count);
    all[0] = SPAN("EVALSHA");
    all[1] = (struct span){redis->shas[script], SHA_TEXT_SIZE - 1};
    all[2] = span_of(keys);
    memcpy(all + 3, args, count * sizeof *args);
    queue_command(redis, (struct pending){.callback = callback, .data = data, .script = script},
                  all, count + 3, true);
    if (many)
        free(all);
}

struct call {
    struct redis *redis;
    struct err err;
    struct redis_reply *reply;
    bool finished;
};

static void on_called(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct call *call = data;
    call->finished = true;
    if (err != NULL) {
        call->err = *err;
        return;
    }
    call->reply = (struct redis_reply *)(uintptr_t)reply;
    call->redis->keep_reply = true;
}

struct err redis_wait_ready(struct redis *redis)
{
    int64_t until = clock_mono_ms() + redis->options.timeout_ms;
    while (redis->state != STATE_READY && clock_mono_ms() < until)
        uv_run(redis->options.loop, UV_RUN_ONCE);
    return redis->state == STATE_READY ? ERR_NONE : redis->why;
}

struct err redis_call(struct redis *redis, const struct span *args, size_t count,
                      struct redis_reply **out)
{
    *out = NULL;
    TRY(redis_wait_ready(redis));
    struct call call = {.redis = redis, .err = ERR_NONE};
    redis_command(redis, args, count, on_called, &call);
    while (!call.finished)
        uv_run(redis->options.loop, UV_RUN_ONCE);
    *out = call.reply;
    return call.err;
}

void redis_settle(struct redis *redis, const size_t *left)
{
    while (*left > 0)
        uv_run(redis->options.loop, UV_RUN_ONCE);
}

void redis_reply_free(struct redis_reply *reply)
{
    freeReplyObject(reply);
}

/* --- replies, seen from outside -------------------------------------------------------------- */

static const redisReply *inner(const struct redis_reply *reply)
{
    return (const redisReply *)(const void *)reply;
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
    return (const struct redis_reply *)(const void *)inner(reply)->element[index];
}

bool redis_reply_is_nil(const struct redis_reply *reply)
{
    return reply == NULL || inner(reply)->type == REDIS_REPLY_NIL;
}
