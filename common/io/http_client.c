#include "io/http_client.h"

#include "io/http_impl.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* A socket of libcurl's while it is to be watched. */
struct watched {
    uv_poll_t poll;
    curl_socket_t fd;
    struct http_client *client;
};

/* --- calls that have ended ------------------------------------------------------------------- */

static void unlink_call(struct http_call **list, struct http_call *call)
{
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        *list = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    call->next = call->prev = NULL;
}

static void end_call(struct http_call *call)
{
    struct http_client *client = call->client;
    struct http_call *last = client->ended;
    curl_multi_remove_handle(client->multi, call->easy);
    unlink_call(&client->running, call);
    while (last != NULL && last->next != NULL)
        last = last->next;
    call->prev = last;
    if (last != NULL)
        last->next = call;
    else
        client->ended = call;
}

static void collect_ended(struct http_client *client)
{
    const CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        struct http_call *call = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result; /* the message dies with the handle's removal */
        REQUIRE(curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call) == CURLE_OK);
        http_call_finish(call, (int)result);
        end_call(call);
    }
}

static void close_for_good(struct http_client *client);

/* Callbacks may start further calls, and close the client. */
static void deliver_ended(struct http_client *client)
{
    while (client->ended != NULL) {
        struct http_call *call = client->ended;
        unlink_call(&client->ended, call);
        client->in_flight--;
        call->callback(&call->response, call->data);
        http_call_free(call);
    }
    if (client->closing && client->in_flight == 0)
        close_for_good(client);
}

static void on_deliver(uv_timer_t *timer)
{
    deliver_ended(timer->data);
}

static void deliver_soon(struct http_client *client)
{
    uv_timer_start(&client->deliver, on_deliver, 0, 0);
}

/* --- libcurl and the loop -------------------------------------------------------------------- */

static void act(struct http_client *client, curl_socket_t fd, int events)
{
    int running;
    REQUIRE(curl_multi_socket_action(client->multi, fd, events, &running) == CURLM_OK);
    collect_ended(client);
    deliver_ended(client);
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *data)
{
    struct http_client *client = data;
    (void)multi;
    if (client->closed)
        return 0;
    if (timeout_ms < 0) {
        uv_timer_stop(&client->timer);
        return 0;
    }
    uv_update_time(client->options.loop);
    uv_timer_start(&client->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watched *watched = poll->data;
    int flags = 0;
    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if ((events & UV_READABLE) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & UV_WRITABLE) != 0)
        flags |= CURL_CSELECT_OUT;
    act(watched->client, watched->fd, flags);
}

static void maybe_free(struct http_client *client)
{
    if (!client->closed || client->handles > 0)
        return;
    free(client->ca_file);
    free(client);
    curl_global_cleanup();
}

static void on_watched_closed(uv_handle_t *handle)
{
    struct watched *watched = handle->data;
    struct http_client *client = watched->client;
    client->handles--;
    free(watched);
    maybe_free(client);
}

static struct watched *watch(struct http_client *client, curl_socket_t fd)
{
    struct watched *watched = mem_zalloc(sizeof *watched);
    watched->fd = fd;
    watched->client = client;
    watched->poll.data = watched;
    REQUIRE(uv_poll_init_socket(client->options.loop, &watched->poll, fd) == 0);
    client->handles++;
    curl_multi_assign(client->multi, fd, watched);
    return watched;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *assigned)
{
    struct http_client *client = data;
    struct watched *watched = assigned;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        /* The descriptor may be closed already, or somebody else's: only the handle is touched. */
        if (watched != NULL) {
            uv_poll_stop(&watched->poll);
            uv_close((uv_handle_t *)&watched->poll, on_watched_closed);
            curl_multi_assign(client->multi, fd, NULL);
        }
        return 0;
    }
    if (watched == NULL)
        watched = watch(client, fd);
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    REQUIRE(uv_poll_start(&watched->poll, events, on_poll) == 0);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

struct err http_client_new(const struct http_client_options *options, struct http_client **out)
{
    *out = NULL;
    bool own_ca = options->ca_file != NULL && !text_is_empty(options->ca_file);
    if (own_ca && access(options->ca_file, R_OK) != 0)
        return err_make(ERR_CONFIG, "the certificates to trust, %s, cannot be read: %s",
                        options->ca_file, strerror(errno));
    REQUIRE(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    struct http_client *client = mem_zalloc(sizeof *client);
    client->options = *options;
    client->ca_file = own_ca ? mem_strdup(options->ca_file) : NULL;
    client->idle = mem_zalloc(options->max_connections * sizeof *client->idle);
    client->multi = curl_multi_init();
    REQUIRE(client->multi != NULL);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)options->max_connections);
    curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    uv_timer_init(options->loop, &client->timer);
    uv_timer_init(options->loop, &client->deliver);
    client->timer.data = client->deliver.data = client;
    client->handles = 2;
    *out = client;
    return ERR_NONE;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct http_client *client = handle->data;
    client->handles--;
    maybe_free(client);
}

static void close_for_good(struct http_client *client)
{
    if (client->closed)
        return;
    http_call_free_idle(client);
    curl_multi_cleanup(client->multi); /* closes kept connections */
    client->closed = true;
    uv_close((uv_handle_t *)&client->timer, on_timer_closed);
    uv_close((uv_handle_t *)&client->deliver, on_timer_closed);
}

void http_client_close(struct http_client *client)
{
    if (client == NULL)
        return;
    REQUIRE(!client->closing);
    client->closing = true;
    while (client->running != NULL)
        http_client_cancel(client->running);
    deliver_soon(client);
}

size_t http_client_in_flight(const struct http_client *client)
{
    return client->in_flight;
}

struct http_call *http_client_start(struct http_client *client, const struct http_request *request,
                                    http_callback *callback, void *data)
{
    REQUIRE(!client->closing);
    struct http_call *call = http_call_new(client, request);
    call->callback = callback;
    call->data = data;
    call->next = client->running;
    if (client->running != NULL)
        client->running->prev = call;
    client->running = call;
    client->in_flight++;
    if (call->broken) {
        http_call_finish(call, CURLE_BAD_FUNCTION_ARGUMENT);
        end_call(call);
        deliver_soon(client);
        return call;
    }
    /* Asks for the timer, which does all the rest. */
    REQUIRE(curl_multi_add_handle(client->multi, call->easy) == CURLM_OK);
    return call;
}

static bool has_ended(const struct http_call *call)
{
    for (const struct http_call *it = call->client->ended; it != NULL; it = it->next)
        if (it == call)
            return true;
    return false;
}

void http_client_cancel(struct http_call *call)
{
    if (has_ended(call))
        return;
    http_call_finish_cancelled(call);
    end_call(call);
    deliver_soon(call->client);
}
