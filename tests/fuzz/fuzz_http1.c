/* The first byte says how the rest is cut into pieces. Whatever the cut, the events must be those
 * of the whole; and no request may break what the parser promises about it. */
#include "base/buf.h"
#include "codec/http1.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http1_limits limits = {
    .head_max_bytes = 512, .header_max_count = 8, .body_max_bytes = 1000};

static void check_request(const struct http1_request *request)
{
    REQUIRE(request->path.len > 0 && request->path.ptr[0] == '/');
    REQUIRE(memchr(request->path.ptr, '?', request->path.len) == NULL);
    REQUIRE(request->header_count <= limits.header_max_count);
    REQUIRE(request->content_length <= (int64_t)limits.body_max_bytes);
    REQUIRE(!request->chunked || request->content_length == -1);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http1_header *header = &request->headers[i];
        REQUIRE(header->name.len > 0 && header->value.ptr != NULL);
        REQUIRE(memchr(header->name.ptr, ':', header->name.len) == NULL);
        REQUIRE(memchr(header->value.ptr, '\n', header->value.len) == NULL);
        REQUIRE(memchr(header->value.ptr, '\0', header->value.len) == NULL);
    }
}

static bool feed(struct http1 *parser, const char *ptr, size_t len, struct buf *events)
{
    size_t at = 0;
    enum http1_event event;
    do {
        size_t used = 0;
        const struct http1_request *request = http1_request(parser);
        event = http1_feed(parser, ptr + at, len - at, &used);
        REQUIRE(used <= len - at);
        at += used;
        if (event == HTTP1_HEAD) {
            check_request(request);
            buf_printf(events, "[%d %.*s %zu]", (int)request->method, (int)request->path.len,
                       request->path.ptr, request->header_count);
        } else if (event == HTTP1_DONE) {
            REQUIRE(request->body.len <= limits.body_max_bytes);
            REQUIRE(request->content_length < 0 ||
                    request->body.len == (size_t)request->content_length);
            buf_add_text(events, "(");
            buf_add(events, request->body.ptr, request->body.len);
            buf_add_text(events, ")");
            http1_next(parser);
            if (at == len)
                return true;
        } else if (event == HTTP1_ERROR) {
            REQUIRE(request->status >= 400 && request->status <= 505);
            buf_printf(events, "!%d %s", request->status, request->reason);
            return false;
        }
    } while (event != HTTP1_MORE);
    REQUIRE(at == len);
    return true;
}

static struct buf events_of(const char *ptr, size_t len, size_t piece)
{
    struct buf events = {0};
    struct http1 *parser = http1_new(&limits);
    bool open = true;
    for (size_t at = 0; open && at < len; at += piece)
        open = feed(parser, ptr + at, piece < len - at ? piece : len - at, &events);
    buf_add_text(&events, open && http1_is_idle(parser) ? "." : "");
    http1_free(parser);
    return events;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const char *ptr = (const char *)data + 1;
    struct buf whole = events_of(ptr, size - 1, size);
    struct buf parts = events_of(ptr, size - 1, (size_t)data[0] + 1);
    REQUIRE(span_equal(buf_span(&whole), buf_span(&parts)));
    buf_close(&whole);
    buf_close(&parts);
    return 0;
}
