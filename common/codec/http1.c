#include "codec/http1.h"

#include "base/buf.h"
#include "codec/http1_check.h"

#include <llhttp.h>
#include <stdlib.h>

enum {
    KEEP_BYTES = 4096, /* of the head's and of the body's memory, from one request to the next */
    /* Chunked framing that may come with a byte of body: the smallest chunk ("1" CRLF, a byte,
     * CRLF) has 5. What exceeds this by a whole head is padding. */
    FRAMING_PER_BODY_BYTE = 8,
};

/*   HEAD ─> BODY ─────────────> DONE ─> HEAD, by http1_next
 *             └──> TRAILER ───────┘            and FAILED from everywhere, for good */
enum phase { PHASE_HEAD, PHASE_BODY, PHASE_TRAILER, PHASE_DONE, PHASE_FAILED };

/* Part of the head, as a place: pointers would not survive its growing. */
struct part {
    uint32_t at;
    uint32_t len;
};

struct line {
    struct part name;
    struct part value;
};

struct http1 {
    llhttp_t llhttp;
    struct http1_limits limits;
    enum phase phase;
    struct buf head;   /* request line and headers as they came */
    const char *input; /* what llhttp is reading; goes to the end of head afterwards */
    struct part target;
    bool has_version;   /* the request line has been read up to its end */
    struct line *lines; /* limits.header_max_count of them, made for the first header */
    struct http1_header *headers;
    size_t line_count;
    size_t trailer_count;
    size_t framing; /* bytes so far of the chunked framing or, in TRAILER, of the trailers */
    struct buf body;
    struct http1_request request;
};

/* The first verdict stands. Callbacks return it to end llhttp_execute. */
static int fail(struct http1 *parser, int status, const char *reason)
{
    if (parser->phase != PHASE_FAILED) {
        parser->phase = PHASE_FAILED;
        parser->request.status = status;
        parser->request.reason = reason;
    }
    return -1;
}

static struct http1 *parser_of(const llhttp_t *llhttp)
{
    return llhttp->data;
}

/* llhttp hands out a token in as many pieces as the input has; they follow each other directly. */
static void extend(const struct http1 *parser, const char *at, size_t len, struct part *part)
{
    if (part->len == 0)
        part->at = (uint32_t)(parser->head.len + (size_t)(at - parser->input));
    part->len += (uint32_t)len;
}

static int on_url(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http1 *parser = parser_of(llhttp);
    extend(parser, at, len, &parser->target);
    return 0;
}

static int on_version_complete(llhttp_t *llhttp)
{
    struct http1 *parser = parser_of(llhttp);
    parser->has_version = true;
    if (llhttp->http_major != 1 || llhttp->http_minor > 1)
        return fail(parser, 505, "bad_version");
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http1 *parser = parser_of(llhttp);
    if (parser->phase != PHASE_HEAD || parser->line_count == parser->limits.header_max_count)
        return 0;
    if (parser->lines == NULL)
        parser->lines = mem_zalloc(parser->limits.header_max_count * sizeof *parser->lines);
    extend(parser, at, len, &parser->lines[parser->line_count].name);
    return 0;
}

/* Only here is it known to be a header's name: counting pieces would let the verdict on a bad name
 * depend on where the input was cut. */
static int on_header_field_complete(llhttp_t *llhttp)
{
    struct http1 *parser = parser_of(llhttp);
    bool trailer = parser->phase != PHASE_HEAD;
    size_t *count = trailer ? &parser->trailer_count : &parser->line_count;
    if (*count == parser->limits.header_max_count)
        return fail(parser, 431, trailer ? "too_many_trailers" : "too_many_headers");
    ++*count;
    if (!trailer && *count < parser->limits.header_max_count)
        parser->lines[*count] = (struct line){0};
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http1 *parser = parser_of(llhttp);
    if (parser->phase == PHASE_HEAD)
        extend(parser, at, len, &parser->lines[parser->line_count - 1].value);
    return 0;
}

/* Says HTTP1_HEAD, once what llhttp has read is in the head (finish_head). */
static int on_headers_complete(llhttp_t *llhttp)
{
    parser_of(llhttp)->phase = PHASE_BODY;
    return HPE_PAUSED;
}

static int on_chunk_header(llhttp_t *llhttp)
{
    struct http1 *parser = parser_of(llhttp);
    if (llhttp->content_length == 0) {
        parser->phase = PHASE_TRAILER;
        return HPE_PAUSED;
    }
    if (llhttp->content_length > parser->limits.body_max_bytes - parser->body.len)
        return fail(parser, 413, "body_too_large");
    return 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t len)
{
    struct http1 *parser = parser_of(llhttp);
    if (parser->body.cap == 0 && parser->request.content_length > 0)
        buf_reserve(&parser->body, (size_t)parser->request.content_length);
    buf_add(&parser->body, at, len);
    return 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    parser_of(llhttp)->phase = PHASE_DONE;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* Everything of a request but the memory. */
static void start(struct http1 *parser)
{
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &settings);
    parser->llhttp.data = parser;
    parser->phase = PHASE_HEAD;
    parser->target = (struct part){0};
    parser->has_version = false;
    parser->line_count = 0;
    parser->trailer_count = 0;
    parser->framing = 0;
    if (parser->lines != NULL)
        parser->lines[0] = (struct line){0};
    parser->request = (struct http1_request){.content_length = -1};
}

struct http1 *http1_new(const struct http1_limits *limits)
{
    REQUIRE(limits->head_max_bytes > 0 && limits->head_max_bytes < UINT32_MAX / 2);
    REQUIRE(limits->header_max_count > 0 && limits->body_max_bytes < SIZE_MAX / 16);
    struct http1 *parser = mem_zalloc(sizeof *parser);
    parser->limits = *limits;
    start(parser);
    return parser;
}

void http1_free(struct http1 *parser)
{
    if (parser == NULL)
        return;
    buf_close(&parser->head);
    buf_close(&parser->body);
    free(parser->lines);
    free(parser->headers);
    free(parser);
}

static void forget(struct buf *buf)
{
    if (buf->cap > KEEP_BYTES)
        buf_close(buf);
    else
        buf_clear(buf);
}

void http1_next(struct http1 *parser)
{
    REQUIRE(parser->phase == PHASE_DONE);
    bool closed = !parser->request.keep_alive;
    forget(&parser->head);
    forget(&parser->body);
    start(parser);
    if (closed)
        fail(parser, 400, "after_close");
}

static int fail_as(struct http1 *parser, llhttp_errno_t error)
{
    switch (error) {
    case HPE_INVALID_METHOD: return fail(parser, 400, "bad_method");
    case HPE_INVALID_URL: return fail(parser, 400, "bad_target");
    case HPE_PAUSED_H2_UPGRADE: return fail(parser, 505, "bad_version");
    case HPE_INVALID_VERSION:
        return parser->has_version ? fail(parser, 400, "bad_request_line")
                                   : fail(parser, 505, "bad_version");
    case HPE_INVALID_CONTENT_LENGTH: /* also one that comes behind a transfer encoding */
        if ((parser->llhttp.flags & F_TRANSFER_ENCODING) == 0)
            return fail(parser, 400, "bad_length");
        return fail(parser, 400, "two_lengths");
    case HPE_UNEXPECTED_CONTENT_LENGTH: return fail(parser, 400, "two_lengths");
    case HPE_INVALID_TRANSFER_ENCODING: /* also one that comes behind a length */
        if ((parser->llhttp.flags & F_CONTENT_LENGTH) != 0)
            return fail(parser, 400, "two_lengths");
        if (parser->llhttp.http_minor == 0)
            return fail(parser, 400, "encoding_in_1_0");
        return fail(parser, 501, "bad_encoding");
    case HPE_INVALID_HEADER_TOKEN: return fail(parser, 400, "bad_header");
    case HPE_INVALID_CHUNK_SIZE: return fail(parser, 400, "bad_chunk");
    default: return fail(parser, 400, "bad_grammar");
    }
}

/* Returns how much of the input was taken: all of it, or up to a pause. Fails where llhttp does. */
static size_t run(struct http1 *parser, const char *ptr, size_t len)
{
    parser->input = ptr;
    llhttp_errno_t error = llhttp_execute(&parser->llhttp, ptr, len);
    if (error == HPE_OK)
        return len;
    if (error != HPE_PAUSED) {
        fail_as(parser, error);
        return len;
    }
    size_t used = (size_t)(llhttp_get_error_pos(&parser->llhttp) - ptr);
    llhttp_resume(&parser->llhttp);
    return used;
}

static struct span part_of(const struct http1 *parser, struct part part)
{
    return (struct span){buf_span(&parser->head).ptr + (part.len > 0 ? part.at : 0), part.len};
}

static void collect_headers(struct http1 *parser)
{
    if (parser->headers == NULL && parser->line_count > 0)
        parser->headers = mem_alloc(parser->limits.header_max_count * sizeof *parser->headers);
    for (size_t i = 0; i < parser->line_count; i++) {
        struct span value = part_of(parser, parser->lines[i].value);
        while (value.len > 0 &&
               (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t'))
            value.len--;
        parser->headers[i] = (struct http1_header){part_of(parser, parser->lines[i].name), value};
    }
    parser->request.headers = parser->headers;
    parser->request.header_count = parser->line_count;
}

static enum http1_event finish_head(struct http1 *parser)
{
    struct http1_request *request = &parser->request;
    switch (parser->llhttp.method) {
    case HTTP_GET: request->method = HTTP1_GET; break;
    case HTTP_HEAD: request->method = HTTP1_HEAD_METHOD; break;
    case HTTP_POST: request->method = HTTP1_POST; break;
    default: request->method = HTTP1_OTHER; break;
    }
    request->keep_alive = llhttp_should_keep_alive(&parser->llhttp) != 0;
    collect_headers(parser);
    struct http1_head head = {
        .bytes = buf_span(&parser->head),
        .method = llhttp_method_name((llhttp_method_t)parser->llhttp.method),
        .target_at = parser->target.at,
        .target_len = parser->target.len,
        .is_1_0 = parser->llhttp.http_minor == 0,
        .content_length = parser->llhttp.content_length,
        .body_max_bytes = parser->limits.body_max_bytes,
    };
    if (http1_check_head(&head, request))
        return HTTP1_HEAD;
    parser->phase = PHASE_FAILED;
    return HTTP1_ERROR;
}

/* llhttp sees no byte beyond the limit, so that the verdict comes at the same byte however the
 * input is cut. */
static enum http1_event feed_head(struct http1 *parser, const char *ptr, size_t len, size_t *used)
{
    size_t left = parser->limits.head_max_bytes - parser->head.len;
    *used = run(parser, ptr, len < left ? len : left);
    if (parser->phase == PHASE_FAILED)
        return HTTP1_ERROR;
    buf_add(&parser->head, ptr, *used);
    if (parser->phase != PHASE_HEAD)
        return finish_head(parser);
    if (parser->head.len < parser->limits.head_max_bytes)
        return HTTP1_MORE;
    if (parser->has_version)
        fail(parser, 431, "head_too_large");
    else
        fail(parser, 414, "target_too_long");
    return HTTP1_ERROR;
}

/* One step: up to a pause, the end of the input or the end of what framing may take. */
static enum http1_event feed_body(struct http1 *parser, const char *ptr, size_t len, size_t *used)
{
    enum phase phase = parser->phase;
    size_t before = parser->body.len;
    size_t budget = parser->limits.head_max_bytes;
    if (phase == PHASE_BODY)
        budget += before * FRAMING_PER_BODY_BYTE;
    size_t left = parser->request.chunked ? budget - parser->framing : len;
    *used = run(parser, ptr, len < left ? len : left);
    if (parser->phase == PHASE_FAILED)
        return HTTP1_ERROR;
    if (parser->phase == PHASE_DONE) {
        parser->request.body = buf_span(&parser->body);
        return HTTP1_DONE;
    }
    parser->framing += *used - (parser->body.len - before);
    if (phase != parser->phase)
        parser->framing = 0; /* the last chunk's header has been read, trailers follow */
    else if (parser->framing == budget && phase == PHASE_TRAILER)
        fail(parser, 431, "trailers_too_large");
    else if (parser->framing == budget)
        fail(parser, 400, "bad_chunk");
    return parser->phase == PHASE_FAILED ? HTTP1_ERROR : HTTP1_MORE;
}

enum http1_event http1_feed(struct http1 *parser, const char *ptr, size_t len, size_t *used)
{
    enum http1_event event = HTTP1_MORE;
    REQUIRE(parser->phase != PHASE_DONE);
    *used = 0;
    if (len == 0)
        ptr = ""; /* not NULL: a request without a body is done without further input */
    if (parser->phase == PHASE_FAILED)
        return HTTP1_ERROR;
    do {
        size_t step = 0;
        if (parser->phase == PHASE_HEAD)
            event = feed_head(parser, ptr + *used, len - *used, &step);
        else
            event = feed_body(parser, ptr + *used, len - *used, &step);
        *used += step;
    } while (event == HTTP1_MORE && *used < len);
    return event;
}

const struct http1_request *http1_request(const struct http1 *parser)
{
    return &parser->request;
}

size_t http1_body_bytes(const struct http1 *parser)
{
    return parser->body.cap;
}

bool http1_is_idle(const struct http1 *parser)
{
    return parser->phase == PHASE_HEAD && parser->head.len == 0;
}
