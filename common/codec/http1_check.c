#include "codec/http1_check.h"

#include <strings.h>

static bool refuse(struct http1_request *request, int status, const char *reason)
{
    request->status = status;
    request->reason = reason;
    return false;
}

static bool is_name(struct span name, const char *expected, size_t len)
{
    return name.len == len && strncasecmp(name.ptr, expected, len) == 0;
}

struct span http1_header(const struct http1_request *request, const char *name, size_t *count)
{
    struct span value = {NULL, 0};
    size_t found = 0;
    size_t len = strlen(name);
    for (size_t i = 0; i < request->header_count; i++)
        if (is_name(request->headers[i].name, name, len) && found++ == 0)
            value = request->headers[i].value;
    if (count != NULL)
        *count = found;
    return value;
}

/* llhttp lets several blanks, HTTP/0.9, other protocols' names and any line ends before the request
 * pass. RFC 9112 has one form: method, a blank, target, a blank, version. One CRLF may go before.
 */
static bool check_request_line(const struct http1_head *head, struct http1_request *request)
{
    static const char version[] = " HTTP/1.";
    struct span bytes = head->bytes;
    size_t version_len = sizeof version - 1;
    size_t method_len = strlen(head->method);
    size_t start = bytes.len >= 2 && memcmp(bytes.ptr, "\r\n", 2) == 0 ? 2 : 0;
    size_t end = head->target_at + head->target_len;
    bool exact = head->target_at == start + method_len + 1 &&
                 memcmp(bytes.ptr + start, head->method, method_len) == 0 &&
                 bytes.ptr[head->target_at - 1] == ' ' && end + version_len + 3 <= bytes.len &&
                 memcmp(bytes.ptr + end, version, version_len) == 0 &&
                 memcmp(bytes.ptr + end + version_len + 1, "\r\n", 2) == 0;
    return exact || refuse(request, 400, "bad_request_line");
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* RFC 3986: letters, digits, the signs given, and whole percent escapes. */
static bool is_uri_text(struct span text, const char *signs)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (is_alnum(c) || (c != '\0' && strchr(signs, c) != NULL))
            continue;
        if (c != '%' || text.len - i < 3 || !is_hex(text.ptr[i + 1]) || !is_hex(text.ptr[i + 2]))
            return false;
        i += 2;
    }
    return true;
}

/* Origin form only: nobody takes this server for a proxy. */
static bool check_target(const struct http1_head *head, struct http1_request *request)
{
    struct span target = {head->bytes.ptr + head->target_at, head->target_len};
    if (target.len == 0 || target.ptr[0] != '/' || !is_uri_text(target, "-._~!$&'()*+,;=:@/?"))
        return refuse(request, 400, "bad_target");
    const char *query = memchr(target.ptr, '?', target.len);
    size_t path_len = query != NULL ? (size_t)(query - target.ptr) : target.len;
    request->path = (struct span){target.ptr, path_len};
    return true;
}

static bool check_host(const struct http1_head *head, struct http1_request *request)
{
    size_t count = 0;
    struct span host = http1_header(request, "host", &count);
    if (count > 1)
        return refuse(request, 400, "two_hosts");
    if (count == 0)
        return head->is_1_0 || refuse(request, 400, "no_host");
    if (host.len == 0 || !is_uri_text(host, "-._~!$&'()*+;=:[]"))
        return refuse(request, 400, "bad_host");
    return true;
}

static bool check_framing(const struct http1_head *head, struct http1_request *request)
{
    size_t encodings = 0;
    size_t lengths = 0;
    struct span encoding = http1_header(request, "transfer-encoding", &encodings);
    http1_header(request, "content-length", &lengths);
    if (encodings > 0 && lengths > 0)
        return refuse(request, 400, "two_lengths");
    if (encodings > 0 && head->is_1_0)
        return refuse(request, 400, "encoding_in_1_0");
    if (encodings > 1 || (encodings == 1 && !is_name(encoding, "chunked", 7)))
        return refuse(request, 501, "bad_encoding");
    request->chunked = encodings == 1;
    uint64_t length = lengths > 0 ? head->content_length : 0;
    if ((request->method == HTTP1_GET || request->method == HTTP1_HEAD_METHOD) &&
        (request->chunked || length > 0))
        return refuse(request, 400, "body_on_get");
    if (length > head->body_max_bytes)
        return refuse(request, 413, "body_too_large");
    if (lengths > 0)
        request->content_length = (int64_t)length;
    return true;
}

static bool check_expect(const struct http1_head *head, struct http1_request *request)
{
    size_t count = 0;
    struct span expect = http1_header(request, "expect", &count);
    if (count == 0 || head->is_1_0)
        return true; /* RFC 9110: not looked at in HTTP/1.0 */
    if (count > 1 || !is_name(expect, "100-continue", 12))
        return refuse(request, 417, "bad_expect");
    request->expect_continue = true;
    return true;
}

bool http1_check_head(const struct http1_head *head, struct http1_request *request)
{
    return check_request_line(head, request) && check_target(head, request) &&
           check_host(head, request) && check_framing(head, request) && check_expect(head, request);
}
