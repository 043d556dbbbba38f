#include "base/clock.h"
#include "codec/resp.h"
#include "io/redis_impl.h"

#include <stdio.h>
#include <stdlib.h>

/* --- ring ----------------------------------------------------------------------------------------
 */

void redis_ring_push(struct redis_ring *ring, struct redis_pending item)
{
    if (ring->count == ring->cap) {
        size_t cap = ring->cap != 0 ? ring->cap * 2 : 64;
        struct redis_pending *items = mem_alloc(cap * sizeof *items);
        for (size_t i = 0; i < ring->count; i++)
            items[i] = ring->items[(ring->first + i) % ring->cap];
        free(ring->items);
        *ring = (struct redis_ring){items, cap, 0, ring->count};
    }
    ring->items[(ring->first + ring->count) % ring->cap] = item;
    ring->count++;
}

struct redis_pending redis_ring_pop(struct redis_ring *ring)
{
    struct redis_pending item = ring->items[ring->first];
    ring->first = (ring->first + 1) % ring->cap;
    ring->count--;
    return item;
}

/* --- sending -------------------------------------------------------------------------------------
 */

static void on_write(uv_write_t *write, int status)
{
    struct redis *redis = write->data;
    redis->write_running = false;
    buf_clear(&redis->writing);
    if (status < 0 && status != UV_ECANCELED)
        redis_drop(redis, err_make(ERR_REDIS_DOWN, "Redis: %s", uv_strerror(status)));
    redis_maybe_free(redis);
}

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
        redis_drop(redis, err_make(ERR_REDIS_DOWN, "Redis: %s", uv_strerror(status)));
    }
}

static void pay_failed(struct redis *redis)
{
    /* Only what is owed now: callbacks may queue more, which is for the next turn. */
    for (size_t left = redis->failed.count; left > 0; left--) {
        struct redis_pending item = redis_ring_pop(&redis->failed);
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
    redis_maybe_free(redis);
}

void redis_flush_soon(struct redis *redis)
{
    if (redis->handles == 0)
        return;
    uv_prepare_start(&redis->flush, on_flush);
}

/* The command is in redis->out. */
static void redis_await_reply(struct redis *redis, struct redis_pending item)
{
    item.sent_ms = clock_mono_ms();
    redis_ring_push(&redis->waiting, item);
    if (redis->waiting.count == 1)
        redis_arm_deadline(redis);
    redis_flush_soon(redis);
}

void redis_send(struct redis *redis, struct redis_pending item, const char *command, size_t len)
{
    buf_add(&redis->out, command, len);
    redis_await_reply(redis, item);
}

void redis_send_own(struct redis *redis, struct redis_pending item, const struct span *args,
                    size_t count)
{
    resp_add_command(&redis->out, args, count);
    redis_await_reply(redis, item);
}

/* --- commands ------------------------------------------------------------------------------------
 */

enum { ARGS_INLINE = 64 };

static void queue_command(struct redis *redis, struct redis_pending item, const struct span *args,
                          size_t count, bool keep)
{
    if (redis->state != STATE_READY) {
        redis_ring_push(&redis->failed, item);
        redis_flush_soon(redis);
        return;
    }
    size_t start = redis->out.len;
    resp_add_command(&redis->out, args, count);
    if (keep) {
        item.command_len = redis->out.len - start;
        item.command = mem_alloc(item.command_len);
        memcpy(item.command, redis->out.ptr + start, item.command_len);
    }
    redis_await_reply(redis, item);
}

void redis_command(struct redis *redis, const struct span *args, size_t count,
                   redis_callback *callback, void *data)
{
    queue_command(redis, (struct redis_pending){.callback = callback, .data = data}, args, count,
                  false);
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
    all[1] = (struct span){redis->shas[script], REDIS_SHA_SIZE - 1};
    all[2] = span_of(keys);
    memcpy(all + 3, args, count * sizeof *args);
    queue_command(redis,
                  (struct redis_pending){.callback = callback, .data = data, .script = script}, all,
                  count + 3, true);
    if (many)
        free(all);
}

/* --- blocking face -------------------------------------------------------------------------------
 */

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
