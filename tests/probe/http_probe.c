/* whopline-http-probe: makes the calls that its standard input asks for, all at once, and writes
 * what came of each as a line of JSON, in order.
 *
 *   METHOD URL [body=TEXT] [zeros=BYTES] [timeout=MS] [max=BYTES] [cancel=MS|signal]
 *                                                                        [header=LINE]...
 *   wait [MS]      until all calls so far have ended, and so long beyond
 *   close          closes the client at once, whatever is in flight; the last line
 *
 * body= and zeros= give a body, "body=" an empty one; cancel= after so long, or at SIGUSR1; a
 * header's blanks are written "+", its line ends "^" (LF) and "~" (CR). Options: --private, --ca
 * FILE, --connect MS. */
#include "codec/json.h"
#include "io/http_client.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CALLS_MAX = 1024,
    HEADERS_MAX = 8,
    LINE_BYTES = 4096,
    TIMEOUT_MS = 5000,
    BODY_MAX = 1048576
};

struct asked {
    struct http_call *call;
    struct http_response response;
    union {
        uv_handle_t handle;
        uv_timer_t timer;
        uv_signal_t signal;
    } cancel;
    bool may_cancel; /* the handle is in use */
    bool over;
};

struct probe {
    uv_loop_t loop;
    struct http_client *client;
    struct asked calls[CALLS_MAX];
    size_t count;
};

static void on_called(struct http_response *response, void *data)
{
    struct asked *asked = data;
    REQUIRE(!asked->over);
    asked->response = *response;
    asked->over = true;
    if (asked->may_cancel && !uv_is_closing(&asked->cancel.handle))
        uv_close(&asked->cancel.handle, NULL);
}

static void cancel(struct asked *asked)
{
    http_client_cancel(asked->call);
    http_client_cancel(asked->call); /* twice is no harm */
    REQUIRE(!asked->over);
}

static void on_time(uv_timer_t *timer)
{
    cancel(timer->data);
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    uv_signal_stop(signal);
    cancel(signal->data);
}

/* when: of cancel= */
static void plan_cancel(struct probe *probe, struct asked *asked, const char *when)
{
    asked->may_cancel = true;
    if (strcmp(when, "signal") == 0) {
        uv_signal_init(&probe->loop, &asked->cancel.signal);
        uv_signal_start(&asked->cancel.signal, on_signal, SIGUSR1);
    } else {
        uv_timer_init(&probe->loop, &asked->cancel.timer);
        uv_timer_start(&asked->cancel.timer, on_time, strtoul(when, NULL, 10), 0);
    }
    asked->cancel.handle.data = asked;
}

static bool has_prefix(const char *word, const char *prefix, const char **rest)
{
    size_t len = strlen(prefix);
    *rest = word + len;
    return strncmp(word, prefix, len) == 0;
}

static void start_call(struct probe *probe, const char *method, char *words)
{
    const char *headers[HEADERS_MAX];
    struct buf body = {0};
    const char *cancel_when = NULL;
    struct asked *asked = &probe->calls[probe->count++];
    char *more = NULL;
    struct http_request request = {.method = method,
                                   .url = strtok_r(words, " \n", &more),
                                   .headers = headers,
                                   .timeout_ms = TIMEOUT_MS,
                                   .body_max_bytes = BODY_MAX};
    REQUIRE(probe->count < CALLS_MAX && request.url != NULL);
    for (char *word; (word = strtok_r(NULL, " \n", &more)) != NULL;) {
        const char *rest;
        if (has_prefix(word, "body=", &rest)) {
            buf_add_text(&body, rest);
            request.body.ptr = "";
        } else if (has_prefix(word, "zeros=", &rest)) {
            size_t zeros = (size_t)strtol(rest, NULL, 10);
            buf_reserve(&body, zeros);
            memset(body.ptr, '0', zeros);
            body.len = zeros;
        } else if (has_prefix(word, "timeout=", &rest)) {
            request.timeout_ms = strtol(rest, NULL, 10);
        } else if (has_prefix(word, "max=", &rest)) {
            request.body_max_bytes = (size_t)strtol(rest, NULL, 10);
        } else if (has_prefix(word, "cancel=", &rest)) {
            cancel_when = rest;
        } else if (has_prefix(word, "header=", &rest)) {
            REQUIRE(request.header_count < HEADERS_MAX);
            for (char *at = word; (at = strchr(at, '+')) != NULL;)
                *at = ' ';
            for (char *at = word; (at = strpbrk(at, "^~")) != NULL;)
                *at = *at == '^' ? '\n' : '\r';
            headers[request.header_count++] = rest;
        }
    }
    if (body.len > 0)
        request.body = buf_span(&body);
    asked->call = http_client_start(probe->client, &request, on_called, asked);
    REQUIRE(!asked->over);
    buf_close(&body);
    if (cancel_when != NULL)
        plan_cancel(probe, asked, cancel_when);
}

static void on_waited(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, NULL);
}

static void wait_for_all(struct probe *probe, long ms)
{
    uv_timer_t timer;
    while (http_client_in_flight(probe->client) > 0)
        uv_run(&probe->loop, UV_RUN_ONCE);
    uv_timer_init(&probe->loop, &timer);
    uv_timer_start(&timer, on_waited, (uint64_t)ms, 0);
    while (!uv_is_closing((uv_handle_t *)&timer))
        uv_run(&probe->loop, UV_RUN_ONCE);
    uv_run(&probe->loop, UV_RUN_NOWAIT); /* the timer's memory is this function's */
}

static void print_answers(struct probe *probe)
{
    static const char *const outcomes[] = {
        [HTTP_NOT_BEGUN] = "not begun", [HTTP_LOST] = "lost", [HTTP_ANSWERED] = "answered"};
    for (size_t i = 0; i < probe->count; i++) {
        struct http_response *response = &probe->calls[i].response;
        struct buf out = {0};
        struct json_writer json = {.out = &out};
        REQUIRE(probe->calls[i].over);
        json_begin_object(&json, NULL);
        json_put_text(&json, "outcome", outcomes[response->outcome]);
        json_put_integer(&json, "status", response->status);
        json_put_integer(&json, "retry_after_ms", response->retry_after_ms);
        json_put_flag(&json, "replayed", response->replayed);
        json_put_flag(&json, "cancelled", response->cancelled);
        json_put_text(&json, "body", buf_text(&response->body));
        json_put_text(&json, "code", err_name(response->why.code));
        json_put_text(&json, "why", response->why.text);
        json_put_integer(&json, "took_ms", response->took_us / 1000);
        json_end_object(&json);
        printf("%s\n", buf_text(&out));
        buf_close(&out);
        buf_close(&response->body);
    }
}

static void read_options(int argc, char **argv, struct http_client_options *out)
{
    static const struct option options[] = {{"private", no_argument, NULL, 'p'},
                                            {"ca", required_argument, NULL, 'a'},
                                            {"connect", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        out->allow_private |= option == 'p';
        if (option == 'a')
            out->ca_file = optarg;
        if (option == 'c')
            out->connect_timeout_ms = strtol(optarg, NULL, 10);
    }
}

int main(int argc, char **argv)
{
    static struct probe probe;
    char line[LINE_BYTES];
    bool closed = false;
    struct http_client_options options = {
        .loop = &probe.loop, .connect_timeout_ms = TIMEOUT_MS, .max_connections = 8};
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv, &options);
    uv_loop_init(&probe.loop);
    struct err err = http_client_new(&options, &probe.client);
    if (err_failed(&err)) {
        printf("{\"code\":\"%s\",\"why\":\"%s\"}\n", err_name(err.code), err_text(&err));
        uv_loop_close(&probe.loop);
        return 2;
    }
    while (!closed && fgets(line, sizeof line, stdin) != NULL) {
        char *more = NULL;
        const char *method = strtok_r(line, " \n", &more);
        if (strcmp(method, "wait") == 0) {
            wait_for_all(&probe, strtol(more, NULL, 10));
        } else if (strcmp(method, "close") == 0) {
            closed = true;
            uv_run(&probe.loop, UV_RUN_NOWAIT);
        } else {
            start_call(&probe, method, more);
        }
    }
    if (!closed)
        wait_for_all(&probe, 0);
    http_client_close(probe.client);
    uv_run(&probe.loop, UV_RUN_DEFAULT);
    REQUIRE(uv_loop_close(&probe.loop) == 0);
    print_answers(&probe);
    return 0;
}
