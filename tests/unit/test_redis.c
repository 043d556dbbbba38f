/* The Redis client against a server that says what the test wants: replies cut at every byte, a
 * lost connection, silence, NOSCRIPT. Each command's callback fires exactly once, whatever happens.
 * (That it speaks with a real Redis is shown by every integration test.) */
#include "base/buf.h"
#include "base/clock.h"
#include "service/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 3, TIMEOUT_MS = 2000 };

/* What the server writes on its n-th connection, after the bytes that a command begins with. NULL
 * text: nothing, and the connection stays open. Afterwards the connection is closed. */
struct reply {
    const char *to;
    const char *text;
    size_t len;
};

struct server {
    pthread_t thread;
    int listener;
    char folder[32];
    char path[64];
    char url[80];
    struct reply script[CONNECTIONS_MAX][8];
    size_t connections;
};

/* Reads until the word has been seen. False: the peer is gone. */
static bool await(int fd, const char *word)
{
    char seen[4096];
    size_t len = 0;
    while (len < sizeof seen) {
        ssize_t got = recv(fd, seen + len, sizeof seen - len, 0);
        if (got <= 0)
            return false;
        len += (size_t)got;
        if (memmem(seen, len, word, strlen(word)) != NULL)
            return true;
    }
    return false;
}

static void *serve(void *data)
{
    struct server *server = data;
    for (size_t c = 0; c < server->connections; c++) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            break;
        for (const struct reply *reply = server->script[c]; reply->to != NULL; reply++) {
            if (!await(fd, reply->to))
                break;
            if (reply->text == NULL) {
                await(fd, "a word that never comes");
                break;
            }
            if (send(fd, reply->text, reply->len, MSG_NOSIGNAL) < 0)
                break;
        }
        close(fd);
    }
    return NULL;
}

static void server_start(struct server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(server->folder, sizeof server->folder, "/tmp/wl-redis-XXXXXX");
    assert_non_null(mkdtemp(server->folder));
    snprintf(server->path, sizeof server->path, "%s/s", server->folder);
    snprintf(server->url, sizeof server->url, "unix://%s", server->path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server->path);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0) {
        fail_msg("no socket");
        return;
    }
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->listener, 8), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    unlink(server->path);
    rmdir(server->folder);
}

struct seen {
    int calls;
    enum err_code code;
    int64_t integer;
    char text[32];
};

static void on_reply(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct seen *seen = data;
    struct span text = redis_reply_text(redis_reply_at(reply, 1));
    seen->calls++;
    seen->code = err != NULL ? err->code : ERR_OK;
    seen->integer = redis_reply_integer(redis_reply_at(reply, 0));
    snprintf(seen->text, sizeof seen->text, "%.*s", (int)text.len,
             text.ptr != NULL ? text.ptr : "");
}

static const struct redis_script scripts[] = {{"one", "return 1", 8}};

#define SHA                  "0123456789abcdef0123456789abcdef01234567"
#define BULK_SHA             "$40\r\n" SHA "\r\n"
#define TEXT_REPLY(to, text) {to, text, sizeof(text) - 1}

static struct redis *client_new(uv_loop_t *loop, const char *url, size_t script_count)
{
    const struct redis_options options = {.loop = loop,
                                          .url = url,
                                          .scripts = scripts,
                                          .script_count = script_count,
                                          .timeout_ms = TIMEOUT_MS};
    struct redis *redis;
    struct err err = redis_new(&options, &redis);
    assert_int_equal(err.code, ERR_OK);
    return redis;
}

static void run_until(uv_loop_t *loop, const struct seen *seen)
{
    int64_t until = clock_mono_ms() + 2LL * TIMEOUT_MS;
    while (seen->calls == 0 && clock_mono_ms() < until)
        uv_run(loop, UV_RUN_ONCE);
    assert_int_equal(seen->calls, 1);
}

static void client_end(uv_loop_t *loop, struct redis *redis)
{
    redis_close(redis);
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
}

/* A server, a client of it that is ready, and their end. */
static struct redis *begin(struct server *server, uv_loop_t *loop, size_t script_count)
{
    uv_loop_init(loop);
    server_start(server);
    struct redis *redis = client_new(loop, server->url, script_count);
    struct err err = redis_wait_ready(redis);
    assert_int_equal(err.code, ERR_OK);
    return redis;
}

static void end(struct server *server, uv_loop_t *loop, struct redis *redis)
{
    client_end(loop, redis);
    server_stop(server);
}

/* {7, "hello"}, cut after every number of bytes. The command after it works on a new connection. */
static void test_cut_everywhere(void **state)
{
    static const char whole[] = "*2\r\n:7\r\n$5\r\nhello\r\n";
    const struct span command[] = {SPAN("ECHO")};
    (void)state;
    for (size_t cut = 0; cut < sizeof whole; cut++) {
        struct server server = {
            .connections = 2,
            .script = {{TEXT_REPLY("SELECT", "+OK\r\n"), {"ECHO", whole, cut}},
                       {TEXT_REPLY("SELECT", "+OK\r\n"), TEXT_REPLY("ECHO", whole)}}};
        uv_loop_t loop;
        struct redis *redis = begin(&server, &loop, 0);
        struct seen first = {0};
        struct seen second = {0};
        redis_command(redis, command, 1, on_reply, &first);
        assert_int_equal(first.calls, 0); /* never from within */
        run_until(&loop, &first);
        if (cut < sizeof whole - 1) {
            assert_int_equal(first.code, ERR_REDIS_DOWN);
            struct err err = redis_wait_ready(redis);
            assert_int_equal(err.code, ERR_OK);
            redis_command(redis, command, 1, on_reply, &second);
            run_until(&loop, &second);
            assert_int_equal(second.code, ERR_OK);
            assert_string_equal(second.text, "hello");
        } else {
            assert_int_equal(first.code, ERR_OK);
            assert_int_equal(first.integer, 7);
            assert_string_equal(first.text, "hello");
        }
        end(&server, &loop, redis);
        assert_int_equal(first.calls, 1);
    }
}

/* What a worker hears on a connection: the greeting, then START, XREADGROUP, an empty read, DONE
 * and a refusal. Recorded from Redis 7.0, with shorter ids. */
static const char greeting[] = "+OK\r\n" BULK_SHA;
static const char *const replies[] = {
    "*2\r\n:2\r\n*4\r\n$2\r\nid\r\n$3\r\nj.0\r\n$3\r\njob\r\n$4\r\n\x93\xa1k\x01\r\n",
    "*1\r\n*2\r\n$3\r\nq:x\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$2\r\nid\r\n$3\r\nj.0\r\n",
    "*-1\r\n",
    ":1\r\n",
    "-WRONGTYPE no stream\r\n",
};

/* A client whose first connection ends after `cut` bytes of that. */
struct trial {
    struct server server;
    struct redis *redis;
    size_t cut;
    bool sent;
    int again_sent;
    struct seen seen[ARRAY_LEN(replies)];
    struct seen again;
};

static void trial_start(struct trial *trial, uv_loop_t *loop, const struct buf *all)
{
    const struct reply again = TEXT_REPLY("AGAIN", ":1\r\n");
    const size_t greeted = sizeof greeting - 1;
    struct reply(*script)[8] = trial->server.script;
    bool early = trial->cut < greeted;
    trial->server.connections = 2;
    script[0][0] = (struct reply){"SCRIPT", all->ptr, early ? trial->cut : greeted};
    if (!early)
        script[0][1] = (struct reply){"LAST", all->ptr + greeted, trial->cut - greeted};
    script[1][0] = (struct reply){"SCRIPT", all->ptr, greeted};
    if (early)
        script[1][1] = (struct reply){"LAST", all->ptr + greeted, all->len - greeted};
    script[1][early ? 2 : 1] = again;
    server_start(&trial->server);
    trial->redis = client_new(loop, trial->server.url, 1);
}

/* Does what can be done now. True when all is answered, in the end on a second connection. */
static bool trial_goes_on(struct trial *trial)
{
    const struct span command[] = {SPAN("ECHO")};
    const struct span last[] = {SPAN("LAST")};
    const struct span again[] = {SPAN("AGAIN")};
    bool ready = redis_is_ready(trial->redis);
    if (!trial->sent && ready) {
        trial->sent = true;
        for (size_t i = 0; i < ARRAY_LEN(replies); i++)
            redis_command(trial->redis, i + 1 < ARRAY_LEN(replies) ? command : last, 1, on_reply,
                          &trial->seen[i]);
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(replies); i++)
        if (trial->seen[i].calls == 0)
            return false;
    if (trial->again.calls > 0 && trial->again.code == ERR_OK)
        return true;
    /* The first connection may be about to end. */
    if (ready && trial->again.calls == trial->again_sent) {
        trial->again_sent++;
        redis_command(trial->redis, again, 1, on_reply, &trial->again);
    }
    return false;
}

/* Each callback has fired once: with its reply if that had come whole. */
static void trial_end(struct trial *trial)
{
    size_t come = sizeof greeting - 1;
    bool early = trial->cut < come;
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        come += strlen(replies[i]);
        bool whole = early || come <= trial->cut;
        enum err_code answer = replies[i][0] == '-' ? ERR_REDIS_REPLY : ERR_OK;
        assert_int_equal(trial->seen[i].calls, 1);
        assert_int_equal(trial->seen[i].code, whole ? answer : ERR_REDIS_DOWN);
    }
    assert_int_equal(trial->again.calls, trial->again_sent);
    redis_close(trial->redis);
}

/* All at once, since each waits for its reconnection. */
static void test_a_conversation_is_cut_everywhere(void **state)
{
    struct buf all = {0};
    uv_loop_t loop;
    size_t left;
    (void)state;
    uv_loop_init(&loop);
    buf_add_text(&all, greeting);
    for (size_t i = 0; i < ARRAY_LEN(replies); i++)
        buf_add_text(&all, replies[i]);
    size_t count = all.len + 1;
    struct trial *trials = mem_zalloc(count * sizeof *trials);
    for (size_t i = 0; i < count; i++) {
        trials[i].cut = i;
        trial_start(&trials[i], &loop, &all);
    }
    int64_t until = clock_mono_ms() + 10LL * TIMEOUT_MS;
    do {
        left = 0;
        for (size_t i = 0; i < count; i++)
            left += !trial_goes_on(&trials[i]);
    } while (left > 0 && clock_mono_ms() < until && uv_run(&loop, UV_RUN_ONCE) != 0);
    assert_int_equal(left, 0);
    for (size_t i = 0; i < count; i++)
        trial_end(&trials[i]);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < count; i++)
        server_stop(&trials[i].server);
    free(trials);
    buf_close(&all);
}

static void test_garbage_and_extra_replies(void **state)
{
    static const char *const texts[] = {"?what\r\n", ":1\r\n:2\r\n:3\r\n:4\r\n"};
    const struct span command[] = {SPAN("ECHO")};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct server server = {.connections = 1,
                                .script = {{TEXT_REPLY("SELECT", "+OK\r\n"),
                                            {"ECHO", texts[i], strlen(texts[i])},
                                            {"ECHO", NULL, 0}}}};
        uv_loop_t loop;
        struct redis *redis = begin(&server, &loop, 0);
        struct seen first = {0};
        redis_command(redis, command, 1, on_reply, &first);
        run_until(&loop, &first);
        assert_int_equal(first.code, i == 0 ? ERR_REDIS_DOWN : ERR_OK);
        assert_false(redis_is_ready(redis));
        end(&server, &loop, redis);
    }
}

static void test_silence_is_a_broken_connection(void **state)
{
    struct server server = {.connections = 1,
                            .script = {{TEXT_REPLY("SELECT", "+OK\r\n"), {"ECHO", NULL, 0}}}};
    const struct span command[] = {SPAN("ECHO")};
    uv_loop_t loop;
    (void)state;
    struct redis *redis = begin(&server, &loop, 0);
    struct seen seen = {0};
    redis_command(redis, command, 1, on_reply, &seen);
    run_until(&loop, &seen);
    assert_int_equal(seen.code, ERR_REDIS_TIMEOUT);
    end(&server, &loop, redis);
}

static void test_loading_drops_the_connection(void **state)
{
    struct server server = {.connections = 2,
                            .script = {{TEXT_REPLY("SELECT", "-LOADING wait\r\n")},
                                       {TEXT_REPLY("SELECT", "+OK\r\n"),
                                        TEXT_REPLY("ECHO", "-READONLY replica\r\n"),
                                        {"ECHO", NULL, 0}}}};
    const struct span command[] = {SPAN("ECHO")};
    uv_loop_t loop;
    (void)state;
    struct redis *redis = begin(&server, &loop, 0);
    struct seen seen = {0};
    redis_command(redis, command, 1, on_reply, &seen);
    run_until(&loop, &seen);
    assert_int_equal(seen.code, ERR_REDIS_DOWN);
    assert_false(redis_is_ready(redis));
    end(&server, &loop, redis);
}

static void test_noscript_loads_and_repeats_once(void **state)
{
    struct server server = {.connections = 1,
                            .script = {{TEXT_REPLY("SCRIPT", "+OK\r\n" BULK_SHA),
                                        TEXT_REPLY("EVALSHA", "-NOSCRIPT No matching script.\r\n"),
                                        TEXT_REPLY("EVALSHA", BULK_SHA "*2\r\n:9\r\n+fine\r\n"),
                                        {"EVALSHA", NULL, 0}}}};
    const struct span args[] = {SPAN("key"), SPAN("value")};
    uv_loop_t loop;
    (void)state;
    struct redis *redis = begin(&server, &loop, 1);
    struct seen seen = {0};
    redis_eval(redis, 0, 1, args, 2, on_reply, &seen);
    run_until(&loop, &seen);
    assert_int_equal(seen.code, ERR_OK);
    assert_int_equal(seen.integer, 9);
    end(&server, &loop, redis);
}

/* No server at all: commands are answered for, and closing does not wait for anybody. */
static void on_verdict(enum accept_verdict verdict, void *data)
{
    struct seen *seen = data;
    seen->calls++;
    seen->integer = verdict;
}

/* A 200 rests on this reply: what is not a number of ACCEPT's is nobody's duplicate. */
static void test_accept_believes_only_its_own_answers(void **state)
{
    static const struct {
        struct reply reply;
        enum accept_verdict verdict;
    } cases[] = {
        {TEXT_REPLY("EVALSHA", ":1\r\n"), ACCEPT_NEW},
        {TEXT_REPLY("EVALSHA", ":0\r\n"), ACCEPT_DUPLICATE},
        {TEXT_REPLY("EVALSHA", "+OK\r\n"), ACCEPT_FAILED},
        {TEXT_REPLY("EVALSHA", "$-1\r\n"), ACCEPT_FAILED},
        {TEXT_REPLY("EVALSHA", "*1\r\n:1\r\n"), ACCEPT_FAILED},
        {TEXT_REPLY("EVALSHA", "-ERR no\r\n"), ACCEPT_FAILED},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct server server = {.script = {{TEXT_REPLY("LOAD", "+OK\r\n" BULK_SHA),
                                            cases[i].reply,
                                            {"never", NULL, 0}}},
                                .connections = 1};
        uv_loop_t loop;
        struct redis *redis = begin(&server, &loop, 1);
        struct accept accept_to = {.redis = redis, .prefix = "wl", .ttl_s = 1};
        struct seen seen = {0};
        struct accept_request request = {.callback = on_verdict, .data = &seen};
        const struct accept_record record = {.id = SPAN("default/x"), .version = 1};
        accept_packed(&accept_to, &record, &request);
        run_until(&loop, &seen);
        assert_int_equal(seen.integer, cases[i].verdict);
        accept_close(&accept_to);
        end(&server, &loop, redis);
    }
}

static void test_nobody_there(void **state)
{
    const struct span command[] = {SPAN("ECHO")};
    uv_loop_t loop;
    (void)state;
    uv_loop_init(&loop);
    struct redis *redis = client_new(&loop, "unix:///nonexistent/redis.sock", 0);
    struct seen seen[3] = {{0}};
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        redis_command(redis, command, 1, on_reply, &seen[i]);
    run_until(&loop, &seen[2]);
    assert_int_equal(seen[0].calls, 1);
    assert_int_equal(seen[0].code, ERR_REDIS_DOWN);
    struct seen last = {0};
    redis_command(redis, command, 1, on_reply, &last);
    client_end(&loop, redis);
    assert_int_equal(last.calls, 1);
    assert_int_equal(last.code, ERR_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_a_conversation_is_cut_everywhere),
        cmocka_unit_test(test_garbage_and_extra_replies),
        cmocka_unit_test(test_silence_is_a_broken_connection),
        cmocka_unit_test(test_loading_drops_the_connection),
        cmocka_unit_test(test_noscript_loads_and_repeats_once),
        cmocka_unit_test(test_accept_believes_only_its_own_answers),
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests_name("redis", tests, NULL, NULL);
}
