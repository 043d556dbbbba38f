#include "io/redis.h"

#include "base/clock.h"
#include "base/random.h"
#include "io/redis_impl.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_LAST_MS = 5000,
    /* A connection lost so soon has not ended the trouble: a replica lets in whom it then refuses.
     */
    STEADY_MS = 250,
};

/* --- time-outs -----------------------------------------------------------------------------------
 */

static void on_deadline(uv_timer_t *timer)
{
    struct redis *redis = timer->data;
    int64_t limit = redis->options.timeout_ms;
    if (redis->state == STATE_CONNECTING ||
        (redis->waiting.count > 0 &&
         clock_mono_ms() - redis->waiting.items[redis->waiting.first].sent_ms >= limit)) {
        redis_drop(redis, err_make(ERR_REDIS_TIMEOUT, "Redis did not answer within %lld ms",
                                   (long long)limit));
        return;
    }
    redis_arm_deadline(redis);
}

void redis_arm_deadline(struct redis *redis)
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

/* --- connecting ----------------------------------------------------------------------------------
 */

static void greet_one(struct redis *redis, const struct span *args, size_t count)
{
    redis->greetings_left++;
    redis_send_own(redis, (struct redis_pending){.greeting = true}, args, count);
}

static void greet(struct redis *redis)
{
    const struct redis_url *url = &redis->url;
    redis->greetings_left = 0;
    redis->scripts_loaded = 0;
    if (!text_is_empty(url->user))
        greet_one(redis,
                  (const struct span[]){SPAN("AUTH"), span_of(url->user), span_of(url->password)},
                  3);
    else if (!text_is_empty(url->password))
        greet_one(redis, (const struct span[]){SPAN("AUTH"), span_of(url->password)}, 2);
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)url->db);
    greet_one(redis, (const struct span[]){SPAN("SELECT"), span_of(number)}, 2);
    for (size_t i = 0; i < redis->options.script_count; i++) {
        const struct redis_script *script = &redis->options.scripts[i];
        greet_one(
            redis,
            (const struct span[]){SPAN("SCRIPT"), SPAN("LOAD"), {script->source, script->size}}, 3);
    }
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct redis *redis = connect->data;
    if (status == UV_ECANCELED || redis->state != STATE_CONNECTING)
        return;
    if (status < 0) {
        redis_drop(redis, err_make(ERR_REDIS_DOWN, "cannot connect to Redis at %s: %s",
                                   redis->url.path != NULL ? redis->url.path : redis->url.host,
                                   uv_strerror(status)));
        return;
    }
    redis->state = STATE_GREETING;
    if (redis->url.path == NULL)
        uv_tcp_nodelay(&redis->socket.tcp, 1);
    redis_start_reading(redis);
    greet(redis);
    redis_arm_deadline(redis);
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
            redis_drop(redis, err_make(ERR_REDIS_DOWN, "cannot connect to Redis at %s: %s",
                                       redis->url.host, uv_strerror(status)));
    }
    if (found != NULL)
        uv_freeaddrinfo(found);
    redis_maybe_free(redis);
}

static void connect_start(struct redis *redis)
{
    redis->state = STATE_CONNECTING;
    redis_arm_deadline(redis);
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
        redis_drop(redis, err_make(ERR_REDIS_DOWN, "cannot look up %s: %s", redis->url.host,
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

/* Backoff from 50 ms, half of it random, so that processes do not come back together. */
static void retry_arm(struct redis *redis)
{
    int64_t most = redis->options.retry_max_ms;
    uint32_t last = most > 0 && most < BACKOFF_LAST_MS ? (uint32_t)most : BACKOFF_LAST_MS;
    unsigned shift = redis->attempts < 7 ? redis->attempts : 7;
    uint32_t wait = (uint32_t)BACKOFF_FIRST_MS << shift;
    if (wait > last)
        wait = last;
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
    redis_maybe_free(redis);
}

static void fail_waiting(struct redis *redis)
{
    while (redis->waiting.count > 0) {
        struct redis_pending item = redis_ring_pop(&redis->waiting);
        if (item.greeting || (item.callback == NULL && item.command == NULL))
            continue;
        redis_ring_push(&redis->failed, item);
    }
}

void redis_drop(struct redis *redis, struct err why)
{
    if (redis->state == STATE_DOWN)
        return;
    bool closing = redis->state == STATE_CLOSING;
    if (redis->state == STATE_READY && clock_mono_ms() - redis->ready_ms < STEADY_MS)
        redis->attempts = redis->attempts_before;
    redis->why = why;
    if (!closing)
        redis->state = STATE_DOWN;
    uv_timer_stop(&redis->deadline);
    fail_waiting(redis);
    buf_clear(&redis->out);
    redis_stop_reading(redis);
    redis_flush_soon(redis);
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

void redis_reset(struct redis *redis, const struct err *why)
{
    if (redis->state != STATE_CLOSING)
        redis_drop(redis, *why);
}

/* --- life ----------------------------------------------------------------------------------------
 */

struct err redis_new(const struct redis_options *options, struct redis **out)
{
    *out = NULL;
    struct redis_url url;
    TRY(redis_url_parse(options->url, &url));
    struct redis *redis = mem_zalloc(sizeof *redis);
    redis->options = *options;
    redis->url = url;
    redis->shas = mem_zalloc((options->script_count + 1) * sizeof *redis->shas);
    redis->read_memory = mem_alloc(REDIS_READ_BYTES);
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
    redis_maybe_free(redis);
}

void redis_maybe_free(struct redis *redis)
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
    arena_close(&redis->replies); /* closed from within a callback */
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
        redis_drop(redis, err_make(ERR_CANCELLED, "the connection to Redis is being closed"));
    /* The memory goes in a later turn, never under a caller's feet. */
    redis_flush_soon(redis);
}

bool redis_is_ready(const struct redis *redis)
{
    return redis->state == STATE_READY;
}

size_t redis_pending(const struct redis *redis)
{
    return redis->waiting.count + redis->failed.count;
}
