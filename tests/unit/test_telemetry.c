/* A worker's pages over a socket, as a supervisor and Prometheus see them. Its Redis is not there;
 * the registry against a real one is tests/integration/test_metrics.py's. */
#include "base/clock.h"
#include "runtime/worker_telemetry.h"
#include "service/scripts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MAX = 65536 };

struct fixture {
    uv_loop_t loop;
    uv_async_t wake; /* the client has its answer */
    struct config config;
    struct redis *redis;
    struct queue queue;
    struct worker_telemetry telemetry;
    struct worker_look look;
};

struct client {
    struct fixture *fixture;
    struct sockaddr_storage address;
    const char *request;
    char answer[ANSWER_MAX];
    atomic_bool done;
};

static void look(void *data, struct worker_look *out)
{
    const struct fixture *fixture = data;
    *out = fixture->look;
}

static void on_wake(uv_async_t *async)
{
    (void)async;
}

static int begin(void **state)
{
    static struct fixture fixture;
    static const struct config config = {.worker_listen = "127.0.0.1:0",
                                         .stream_prefix = "wl",
                                         .lease_ms = 30000,
                                         .read_block_ms = 2000};
    memset(&fixture, 0, sizeof fixture);
    fixture.config = config;
    assert_int_equal(uv_loop_init(&fixture.loop), 0);
    assert_int_equal(uv_async_init(&fixture.loop, &fixture.wake, on_wake), 0);
    const struct redis_options redis = {.loop = &fixture.loop,
                                        .url = "unix:///nonexistent/redis.sock",
                                        .scripts = scripts_all(),
                                        .script_count = SCRIPT_COUNT,
                                        .timeout_ms = 1000};
    struct err err = redis_new(&redis, &fixture.redis);
    assert_false(err_failed(&err));
    queue_init(&fixture.queue, fixture.redis, "wl", QUEUE_credits);
    fixture.look = (struct worker_look){REGISTRY_WORKING, {8, 3, 5, 2}};
    const struct worker_telemetry_options options = {.loop = &fixture.loop,
                                                     .config = &fixture.config,
                                                     .program = "whopline-test",
                                                     .queue = &fixture.queue,
                                                     .look = look,
                                                     .data = &fixture};
    err = worker_telemetry_start(&fixture.telemetry, &options);
    assert_false(err_failed(&err));
    *state = &fixture;
    return 0;
}

static int end(void **state)
{
    struct fixture *fixture = *state;
    telemetry_close(&fixture->telemetry.shown);
    redis_close(fixture->redis);
    uv_close((uv_handle_t *)&fixture->wake, NULL);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    return 0;
}

static void *ask_in_thread(void *data)
{
    struct client *client = data;
    size_t len = 0;
    ssize_t got = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (struct sockaddr *)&client->address, sizeof(struct sockaddr_in)) == 0 &&
        send(fd, client->request, strlen(client->request), MSG_NOSIGNAL) > 0)
        while (len < ANSWER_MAX - 1 &&
               (got = recv(fd, client->answer + len, ANSWER_MAX - 1 - len, 0)) > 0)
            len += (size_t)got;
    if (fd >= 0)
        close(fd);
    atomic_store(&client->done, true);
    uv_async_send(&client->fixture->wake);
    return NULL;
}

/* The whole answer; valid until the next call. */
static const char *ask(struct fixture *fixture, const char *path)
{
    static struct client client;
    static char request[128];
    pthread_t thread;
    memset(&client, 0, sizeof client);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
    client.fixture = fixture;
    client.request = request;
    struct err err = net_parse(fixture->telemetry.shown.private.address, &client.address);
    assert_false(err_failed(&err));
    assert_int_equal(pthread_create(&thread, NULL, ask_in_thread, &client), 0);
    while (!atomic_load(&client.done))
        uv_run(&fixture->loop, UV_RUN_ONCE);
    pthread_join(thread, NULL);
    return client.answer;
}

static void expect(const char *answer, const char *part)
{
    if (strstr(answer, part) == NULL)
        fail_msg("no %s in\n%s", part, answer);
}

static void test_live(void **state)
{
    struct fixture *fixture = *state;
    struct worker_metrics *metrics = &fixture->telemetry.metrics;
    expect(ask(fixture, "/livez"), "HTTP/1.1 200 OK\r\n");
    /* As if it had begun to read ten seconds ago. */
    health_start(&metrics->watch, clock_mono_ms() - 10000);
    const char *answer = ask(fixture, "/livez");
    expect(answer, "HTTP/1.1 503 ");
    expect(answer, "\r\n\r\nno read of jobs has succeeded for 10");
    metrics_read(metrics, clock_mono_ms());
    answer = ask(fixture, "/livez");
    expect(answer, "HTTP/1.1 200 OK\r\n");
    expect(answer, "\r\n\r\nok\n");
}

static void test_ready(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        enum registry_state state;
        const char *why;
    } cases[] = {{REGISTRY_WORKING, "waiting for Redis\n"},
                 {REGISTRY_CHECKING, "waiting for Redis\n"},
                 {REGISTRY_STOPPING, "stopping\n"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fixture->look.state = cases[i].state;
        const char *answer = ask(fixture, "/readyz");
        expect(answer, "HTTP/1.1 503 Service Unavailable\r\n");
        expect(answer, cases[i].why);
    }
}

static void test_metrics(void **state)
{
    struct fixture *fixture = *state;
    static const char *const lines[] = {
        "Content-Type: text/plain; version=0.0.4\r\n",
        "\nwhopline_jobs_total{type=\"credits.payment_succeeded\",result=\"done\"} 1\n",
        "\nwhopline_slots 8\n",
        "\nwhopline_slots_busy 3\n",
        "\nwhopline_jobs_ready 5\n",
        "\nwhopline_jobs_unsettled 2\n",
        "\nwhopline_healthy 1\n",
        "\nwhopline_ready 0\n",
        "\nwhopline_redis_reconnects_total 2\n",
        "\n# TYPE whopline_loop_lag_seconds gauge\n",
    };
    const struct job job = {.kind_known = true, .known = JOB_credits_payment_succeeded};
    metrics_job_ended(&fixture->telemetry.metrics, &job, METRICS_DONE, 10, 10);
    for (int i = 0; i < 3; i++)
        telemetry_connected(&fixture->telemetry.shown);
    const char *answer = ask(fixture, "/metrics");
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        expect(answer, lines[i]);
}

/* The loop stands still for longer than a tick: seen afterwards. */
static void test_lag(void **state)
{
    struct fixture *fixture = *state;
    struct telemetry *telemetry = &fixture->telemetry.shown;
    int64_t until = clock_mono_ms() + 10000;
    assert_int_equal(telemetry->tick_ms, 1000);
    telemetry->ticked_ms -= 2500; /* as if it had ticked then */
    while (telemetry->lag_ms[1] == 0 && clock_mono_ms() < until)
        uv_run(&fixture->loop, UV_RUN_ONCE);
    assert_in_range(telemetry->lag_ms[1], 2400, 9000);
    telemetry->window_ms -= 31000;
    telemetry->ticked_ms = clock_mono_ms();
    while (telemetry->lag_ms[0] == 0 && clock_mono_ms() < until)
        uv_run(&fixture->loop, UV_RUN_ONCE);
    assert_in_range(telemetry->lag_ms[0], 2400, 9000); /* still shown */
}

static void on_left(const struct err *err, const struct redis_reply *reply, void *data)
{
    int *calls = data;
    (void)reply;
    assert_non_null(err);
    ++*calls;
}

/* Without Redis there is nothing to remove it from, and it is said so, once. */
static void test_leaving_without_redis(void **state)
{
    struct fixture *fixture = *state;
    int calls = 0;
    telemetry_leave(&fixture->telemetry.shown, on_left, &calls);
    assert_int_equal(calls, 0);
    while (calls == 0)
        uv_run(&fixture->loop, UV_RUN_ONCE);
    expect(ask(fixture, "/livez"), "HTTP/1.1 200 OK\r\n"); /* pages are still given */
    assert_int_equal(calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_live, begin, end),
        cmocka_unit_test_setup_teardown(test_ready, begin, end),
        cmocka_unit_test_setup_teardown(test_metrics, begin, end),
        cmocka_unit_test_setup_teardown(test_lag, begin, end),
        cmocka_unit_test_setup_teardown(test_leaving_without_redis, begin, end),
    };
    return cmocka_run_group_tests_name("telemetry", tests, NULL, NULL);
}
