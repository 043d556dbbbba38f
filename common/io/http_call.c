#include "base/clock.h"
#include "base/fault.h"
#include "io/address.h"
#include "io/http_impl.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEAD_MAX_BYTES = 65536,
    MS_PER_S = 1000,
};

static const int64_t retry_after_max_s = 7LL * 24 * 3600; /* beyond it nobody means it */

/* --- what goes out --------------------------------------------------------------------------- */

static bool is_late(struct http_call *call)
{
    call->late = call->begin_by_ms != 0 && clock_mono_ms() > call->begin_by_ms;
    return call->late;
}

static size_t on_read(char *ptr, size_t size, size_t count, void *data)
{
    struct http_call *call = data;
    size_t len = call->body.len - call->body_sent;
    if (!call->asked)
        (void)FAULT(call_first_byte);
    if (is_late(call))
        return CURL_READFUNC_ABORT;
    call->asked = true;
    if (len > size * count)
        len = size * count;
    memcpy(ptr, call->body.ptr + call->body_sent, len);
    call->body_sent += len;
    return len;
}

/* Going back is how libcurl would send a body again. */
static int on_seek(void *data, curl_off_t offset, int origin)
{
    (void)data;
    (void)offset;
    (void)origin;
    return CURL_SEEKFUNC_FAIL;
}

static bool has_begun(const struct http_call *call)
{
    long bytes = 0;
    if (call->body.len > 0)
        return call->asked;
    curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &bytes); /* of all tries */
    return bytes > 0;
}

/* There is a connection, and the request is about to be written. */
static int on_before_request(void *data, char *ip, char *own_ip, int port, int own_port)
{
    struct http_call *call = data;
    (void)ip;
    (void)own_ip;
    (void)port;
    (void)own_port;
    if (!has_begun(call))
        return is_late(call) ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
    call->resent = true;
    return CURL_PREREQFUNC_ABORT;
}

static curl_socket_t on_open(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_call *call = data;
    (void)purpose;
    if (!call->client->options.allow_private && !address_is_public(&address->addr)) {
        call->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* --- what comes back ------------------------------------------------------------------------- */

static struct span trim(const char *ptr, size_t len)
{
    while (len > 0 && strchr(" \t\r\n", ptr[len - 1]) != NULL)
        len--;
    while (len > 0 && (*ptr == ' ' || *ptr == '\t')) {
        ptr++;
        len--;
    }
    return (struct span){ptr, len};
}

static int64_t parse_retry_after(struct span value)
{
    char text[64];
    int64_t seconds = 0;
    size_t digits = 0;
    if (value.len == 0 || value.len >= sizeof text)
        return -1;
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++)
        if (seconds <= retry_after_max_s)
            seconds = seconds * 10 + (text[digits] - '0');
    if (text[digits] != '\0') {
        time_t date = curl_getdate(text, NULL);
        if (date == -1)
            return -1;
        seconds = (int64_t)date - clock_wall_ms() / MS_PER_S;
    }
    if (seconds < 0)
        return 0;
    return (seconds < retry_after_max_s ? seconds : retry_after_max_s) * MS_PER_S;
}

static bool is_name(struct span line, const char *name, struct span *value)
{
    size_t len = strlen(name);
    if (line.len <= len || strncasecmp(line.ptr, name, len) != 0 || line.ptr[len] != ':')
        return false;
    *value = trim(line.ptr + len + 1, line.len - len - 1);
    return true;
}

static size_t on_head(char *ptr, size_t size, size_t count, void *data)
{
    struct http_call *call = data;
    struct span line = trim(ptr, size * count);
    struct span value;
    call->head_bytes += size * count;
    if (call->head_bytes > HEAD_MAX_BYTES) {
        call->too_large = true;
        return 0;
    }
    if (line.len >= 5 && memcmp(line.ptr, "HTTP/", 5) == 0) { /* the one before was a 1xx */
        call->head_done = false;
        call->response.retry_after_ms = -1;
        call->response.replayed = false;
    } else if (line.len == 0) {
        call->head_done = true;
    } else if (is_name(line, "Retry-After", &value)) {
        call->response.retry_after_ms = parse_retry_after(value);
    } else if (is_name(line, "Idempotent-Replayed", &value)) {
        call->response.replayed = value.len == 4 && strncasecmp(value.ptr, "true", 4) == 0;
    }
    return size * count;
}

static size_t on_body(char *ptr, size_t size, size_t count, void *data)
{
    struct http_call *call = data;
    size_t len = size * count;
    if (len > call->body_max - call->response.body.len) {
        call->too_large = true;
        return 0; /* ends the transfer */
    }
    buf_add(&call->response.body, ptr, len);
    return len;
}

/* --- outcome --------------------------------------------------------------------------------- */

static const char *describe(const struct http_call *call, CURLcode result)
{
    if (call->refused && result == CURLE_COULDNT_CONNECT)
        return "the address is of a private network, which HTTP_ALLOW_PRIVATE=false refuses";
    if (call->broken)
        return "a header or the method has a line end in it, which would begin another header";
    if (call->late)
        return "this process stood still, and its time was over";
    if (call->too_large)
        return "the answer is larger than it may be";
    if (call->resent || result == CURLE_SEND_FAIL_REWIND)
        return "the connection was closed before an answer came";
    if (result == CURLE_OK)
        return "the answer's head was cut short";
    return text_is_empty(call->why) ? curl_easy_strerror(result) : call->why;
}

static void finish(struct http_call *call, bool answered, const char *why)
{
    struct http_response *response = &call->response;
    response->took_us = clock_mono_us() - call->started_us;
    if (answered) {
        response->outcome = HTTP_ANSWERED;
        return;
    }
    bool begun = has_begun(call);
    response->outcome = begun ? HTTP_LOST : HTTP_NOT_BEGUN;
    response->why = err_make(
        begun ? ERR_HTTP_LOST : ERR_HTTP_NOT_SENT,
        begun ? "the call was sent and no answer came: %s" : "the call could not be made: %s", why);
    response->status = 0;
    response->retry_after_ms = -1;
    response->replayed = false;
    buf_close(&response->body);
}

void http_call_finish(struct http_call *call, int result)
{
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    bool answered = result == CURLE_OK && call->head_done && status >= 200; /* 1xx announce one */
    call->response.status = (int)status;
    call->went_well = answered;
    finish(call, answered, answered ? "" : describe(call, (CURLcode)result));
}

void http_call_finish_cancelled(struct http_call *call)
{
    call->response.cancelled = true;
    finish(call, false, "it was cancelled");
}

/* --- life ------------------------------------------------------------------------------------ */

/* libcurl sends them as they are. It looks after URLs itself. */
static bool has_line_ends(const struct http_request *request)
{
    bool found = strpbrk(request->method, "\r\n") != NULL;
    for (size_t i = 0; i < request->header_count; i++)
        found |= strpbrk(request->headers[i], "\r\n") != NULL;
    return found;
}

static struct curl_slist *make_headers(const struct http_request *request)
{
    /* Without "Expect:" libcurl waits for a 100 before larger bodies; without "Content-Type:" it
     * makes one up for POST. A caller's own line goes beside it. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    REQUIRE(list != NULL);
    REQUIRE(curl_slist_append(list, "Content-Type:") != NULL);
    for (size_t i = 0; i < request->header_count; i++)
        REQUIRE(curl_slist_append(list, request->headers[i]) != NULL);
    return list;
}

static void set_method(struct http_call *call, const struct http_request *request)
{
    CURL *easy = call->easy;
    bool is_get = strcmp(request->method, "GET") == 0;
    if (request->body.ptr != NULL) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        if (request->body.len == 0)
            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
    }
    if (!is_get || request->body.ptr != NULL)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

static void set_security(struct http_call *call)
{
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
    if (call->client->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, call->client->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* the system's own */
    }
}

static void set_options(struct http_call *call, const struct http_request *request)
{
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Giving up must not wait for a name server. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)call->client->options.connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->why);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "whopline/" WHOPLINE_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, call);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_before_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
}

static CURL *take_easy(struct http_client *client)
{
    if (client->idle_count > 0)
        return client->idle[--client->idle_count];
    CURL *easy = curl_easy_init();
    REQUIRE(easy != NULL);
    return easy;
}

/* Used again only if the call went well: libcurl 8.14 leaks where a handle is used again after a
 * name could not be resolved. Connections are the multi handle's. */
static void give_easy_back(struct http_call *call)
{
    struct http_client *client = call->client;
    if (!call->went_well || client->idle_count == client->options.max_connections) {
        curl_easy_cleanup(call->easy);
        return;
    }
    curl_easy_reset(call->easy); /* nothing of this call stays: texts, callbacks, figures */
    client->idle[client->idle_count++] = call->easy;
}

void http_call_free_idle(struct http_client *client)
{
    while (client->idle_count > 0)
        curl_easy_cleanup(client->idle[--client->idle_count]);
    free(client->idle);
    client->idle = NULL;
}

struct http_call *http_call_new(struct http_client *client, const struct http_request *request)
{
    struct http_call *call = mem_zalloc(sizeof *call);
    call->client = client;
    call->started_us = clock_mono_us();
    call->body_max = request->body_max_bytes;
    call->begin_by_ms = request->begin_by_ms;
    call->response.retry_after_ms = -1;
    if (request->body.len > 0) {
        char *copy = mem_alloc(request->body.len);
        memcpy(copy, request->body.ptr, request->body.len);
        call->body = (struct span){copy, request->body.len};
    }
    call->broken = has_line_ends(request);
    call->headers = make_headers(request);
    call->easy = take_easy(client);
    set_options(call, request);
    set_security(call);
    set_method(call, request);
    return call;
}

void http_call_free(struct http_call *call)
{
    give_easy_back(call);
    curl_slist_free_all(call->headers);
    free((char *)(uintptr_t)call->body.ptr);
    free(call);
}
