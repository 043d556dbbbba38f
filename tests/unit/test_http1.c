/* Covers codec/http1: what is accepted and refused, with which status, and that no verdict depends
 * on where the input is cut: every case is fed whole, in two parts cut at every byte, and byte by
 * byte, and must give the same events. */
#include "base/buf.h"
#include "codec/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static const struct http1_limits limits = {
    .head_max_bytes = 512, .header_max_count = 8, .body_max_bytes = 1000};

static void record_head(const struct http1_request *request, struct buf *out)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "other"};
    buf_printf(out, "[%s %.*s", methods[request->method], (int)request->path.len,
               request->path.ptr);
    for (size_t i = 0; i < request->header_count; i++)
        buf_printf(out, " %.*s=<%.*s>", (int)request->headers[i].name.len,
                   request->headers[i].name.ptr, (int)request->headers[i].value.len,
                   request->headers[i].value.ptr);
    buf_printf(out, " length %lld%s%s%s]", (long long)request->content_length,
               request->chunked ? " chunked" : "", request->keep_alive ? " keep" : "",
               request->expect_continue ? " expect" : "");
}

/* Feeds one piece of input as a server would; false once the connection is to be closed. */
static bool feed(struct http1 *parser, const char *ptr, size_t len, struct buf *out)
{
    /* Its own memory, of exactly this size: reading beyond it is found by ASan. */
    char *piece = mem_alloc(len);
    memcpy(piece, ptr, len);
    size_t at = 0;
    bool open = true;
    bool again = true;
    while (open && again) {
        size_t used = 0;
        const struct http1_request *request = http1_request(parser);
        enum http1_event event = http1_feed(parser, piece + at, len - at, &used);
        at += used;
        assert_true(at <= len);
        again = event != HTTP1_MORE;
        if (event == HTTP1_MORE) {
            assert_int_equal(at, len);
        } else if (event == HTTP1_HEAD) {
            record_head(request, out);
        } else if (event == HTTP1_DONE) {
            buf_printf(out, "(%.*s)", (int)request->body.len, request->body.ptr);
            open = request->keep_alive;
            http1_next(parser);
            again = at < len;
        } else {
            buf_printf(out, "!%d %s", request->status, request->reason);
            open = false;
        }
    }
    free(piece);
    return open;
}

/* The events of an input cut into pieces of the size given, after a first piece of another. */
static struct buf events_of(const char *input, size_t len, size_t first, size_t size)
{
    struct buf out = {0};
    struct http1 *parser = http1_new(&limits);
    size_t at = 0;
    bool open = true;
    while (open && at < len) {
        size_t want = at == 0 ? first : size;
        size_t step = want < len - at ? want : len - at;
        open = feed(parser, input + at, step, &out);
        at += step;
    }
    if (open)
        buf_add_text(&out, http1_is_idle(parser) ? "." : "...");
    http1_free(parser);
    return out;
}

static void check(const char *name, const char *input, size_t len, const char *expected)
{
    struct buf whole = events_of(input, len, len, len);
    if (strcmp(buf_text(&whole), expected) != 0)
        fail_msg("%s:\n  got      %s\n  expected %s", name, buf_text(&whole), expected);
    for (size_t cut = 1; cut < len; cut++) {
        struct buf parts = events_of(input, len, cut, len);
        if (strcmp(buf_text(&parts), expected) != 0)
            fail_msg("%s, cut at %zu:\n  got      %s\n  expected %s", name, cut, buf_text(&parts),
                     expected);
        buf_close(&parts);
    }
    struct buf bytes = events_of(input, len, 1, 1);
    if (strcmp(buf_text(&bytes), expected) != 0)
        fail_msg("%s, byte by byte:\n  got      %s\n  expected %s", name, buf_text(&bytes),
                 expected);
    buf_close(&bytes);
    buf_close(&whole);
}

struct sample {
    const char *name;
    struct span input;
    const char *expected; /* events: [head] (body) !status reason . end, idle */
};

#define CASE(name, input, expected) {name, {input, sizeof(input) - 1}, expected}
#define POST                        "POST /w HTTP/1.1\r\nHost: h\r\n"
#define HEAD_OF_POST                "[POST /w Host=<h> "
#define CHUNKED                     POST "Transfer-Encoding: chunked\r\n\r\n"
#define CHUNKED_HEAD                HEAD_OF_POST "Transfer-Encoding=<chunked> length -1 chunked keep]"
#define FIVE                        POST "Content-Length: 5\r\n\r\nhello"
#define FIVE_EVENTS                 HEAD_OF_POST "Content-Length=<5> length 5 keep](hello)"

static void run(const struct sample *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(cases[i].name, cases[i].input.ptr, cases[i].input.len, cases[i].expected);
}

static void test_accepted(void **state)
{
    (void)state;
    static const struct sample cases[] = {
        CASE("a body", FIVE, FIVE_EVENTS "."),
        CASE("no body", POST "\r\n", HEAD_OF_POST "length -1 keep]()."),
        CASE("length 0", POST "Content-Length: 0\r\n\r\n",
             HEAD_OF_POST "Content-Length=<0> length 0 keep]()."),
        CASE("leading zeros of a length", POST "Content-Length: 0005\r\n\r\nhello",
             HEAD_OF_POST "Content-Length=<0005> length 5 keep](hello)."),
        CASE("get", "GET /livez HTTP/1.1\r\nHost: h:80\r\n\r\n",
             "[GET /livez Host=<h:80> length -1 keep]()."),
        CASE("get of length 0", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
             "[GET / Host=<h> Content-Length=<0> length 0 keep]()."),
        CASE("head", "HEAD / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
             "[HEAD / Host=<[::1]> length -1 keep]()."),
        CASE("other method", "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n",
             "[other /x Host=<h> length -1 keep]()."),
        CASE("query", "GET /a%2Fb?c=/d?e HTTP/1.1\r\nHost: h\r\n\r\n",
             "[GET /a%2Fb Host=<h> length -1 keep]()."),
        CASE("blanks around values", POST "A:  b c \t \r\nB:\r\nC: \t\r\nD:d\r\n\r\n",
             HEAD_OF_POST "A=<b c> B=<> C=<> D=<d> length -1 keep]()."),
        CASE("bytes beyond ASCII in a value", POST "A: \xc3\xa9\xff\r\n\r\n",
             HEAD_OF_POST "A=<\xc3\xa9\xff> length -1 keep]()."),
        CASE("chunked", CHUNKED "5\r\nhello\r\n0\r\n\r\n", CHUNKED_HEAD "(hello)."),
        CASE("chunks", CHUNKED "1\r\nh\r\n3\r\nell\r\n01\r\no\r\n0\r\n\r\n",
             CHUNKED_HEAD "(hello)."),
        CASE("chunk size in hex", CHUNKED "1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
             CHUNKED_HEAD "(abcdefghijklmnopqrstuvwxyz)."),
        CASE("chunk extension", CHUNKED "5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n",
             CHUNKED_HEAD "(hello)."),
        CASE("chunked, other case", POST "transfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
             HEAD_OF_POST "transfer-encoding=<Chunked> length -1 chunked keep]()."),
        CASE("trailers", CHUNKED "5\r\nhello\r\n0\r\nA: b\r\nHost: x\r\n\r\n",
             CHUNKED_HEAD "(hello)."),
        CASE("pipelined", FIVE FIVE "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
             FIVE_EVENTS FIVE_EVENTS "[GET / Host=<h> length -1 keep]()."),
        CASE("pipelined behind chunks", CHUNKED "0\r\n\r\n" FIVE,
             CHUNKED_HEAD "()" FIVE_EVENTS "."),
        CASE("a CRLF before", "\r\n" FIVE "\r\n" FIVE, FIVE_EVENTS FIVE_EVENTS "."),
        CASE("close", POST "Connection: close\r\n\r\n",
             HEAD_OF_POST "Connection=<close> length -1]()"),
        CASE("close among others", POST "Connection: foo, Close\r\n\r\n",
             HEAD_OF_POST "Connection=<foo, Close> length -1]()"),
        CASE("1.0", "POST /w HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
             "[POST /w Content-Length=<2> length 2](hi)"),
        CASE("1.0 that stays", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
             "[GET / Connection=<keep-alive> length -1 keep]()."),
        CASE("expect", POST "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi",
             HEAD_OF_POST "Expect=<100-Continue> Content-Length=<2> length 2 keep expect](hi)."),
        CASE("expect in 1.0", "POST /w HTTP/1.0\r\nExpect: x\r\n\r\n",
             "[POST /w Expect=<x> length -1]()"),
        CASE("upgrade is ignored",
             POST "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi" FIVE,
             HEAD_OF_POST "Connection=<upgrade> Upgrade=<h2c> Content-Length=<2> length 2 keep]"
                          "(hi)" FIVE_EVENTS "."),
        CASE(
            "upgrade of a get",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" FIVE,
            "[GET / Host=<h> Connection=<upgrade> Upgrade=<websocket> length -1 keep]()" FIVE_EVENTS
            "."),
        CASE("upgrade with chunks",
             POST "Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "1\r\na\r\n0\r\n\r\n" FIVE,
             HEAD_OF_POST "Connection=<upgrade> Upgrade=<x> Transfer-Encoding=<chunked> length -1 "
                          "chunked keep](a)" FIVE_EVENTS "."),
        CASE("unfinished line", "POST /w HT", "..."),
        CASE("unfinished head", POST "A: b\r\n", "..."),
        CASE("unfinished body", POST "Content-Length: 5\r\n\r\nhell",
             HEAD_OF_POST "Content-Length=<5> length 5 keep]..."),
        CASE("unfinished chunks", CHUNKED "5\r\nhello\r\n", CHUNKED_HEAD "..."),
        CASE("eight headers", POST "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\n\r\n",
             HEAD_OF_POST "A=<> B=<> C=<> D=<> E=<> F=<> G=<> length -1 keep]()."),
    };
    run(cases, ARRAY_LEN(cases));
}

#define GET_LINE(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"
#define WITH(header)     POST header "\r\n\r\n"

static void test_refused_lines(void **state)
{
    (void)state;
    static const struct sample cases[] = {
        CASE("0.9", "GET /\r\n\r\n", "!400 bad_request_line"),
        CASE("0.9 by name", "GET / HTTP/0.9\r\nHost: h\r\n\r\n", "!505 bad_version"),
        CASE("1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", "!505 bad_version"),
        CASE("2.0", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", "!505 bad_version"),
        CASE("3.0", "GET / HTTP/3.0\r\nHost: h\r\n\r\n", "!505 bad_version"),
        CASE("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "!505 bad_version"),
        CASE("1.10", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", "!400 bad_request_line"),
        CASE("RTSP", "OPTIONS /x RTSP/1.0\r\nHost: h\r\n\r\n", "!400 bad_request_line"),
        CASE("no protocol", "GET / HTTX/1.1\r\nHost: h\r\n\r\n", "!400 bad_grammar"),
        CASE("unknown method", "FETCH / HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_method"),
        CASE("lower case method", "post / HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_method"),
        CASE("TLS hello", "\x16\x03\x01\x02\x00", "!400 bad_method"),
        CASE("blank before", " GET / HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_method"),
        CASE("two blanks", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_request_line"),
        CASE("two blanks behind", "GET /  HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_request_line"),
        CASE("bare LF before", "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_request_line"),
        CASE("two CRLF before", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
             "!400 bad_request_line"),
        CASE("bare LF", "GET / HTTP/1.1\nHost: h\r\n\r\n", "!400 bad_request_line"),
        CASE("absolute", GET_LINE("http://h/"), "!400 bad_target"),
        CASE("asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_target"),
        CASE("authority", "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_target"),
        CASE("fragment", GET_LINE("/a#b"), "!400 bad_target"),
        CASE("not ASCII", GET_LINE("/\xc3\xa9"), "!400 bad_target"),
        CASE("control", GET_LINE("/a\x01"), "!400 bad_target"),
        CASE("DEL", GET_LINE("/a\x7f"), "!400 bad_target"),
        CASE("tab", GET_LINE("/a\tb"), "!400 bad_target"),
        CASE("NUL", GET_LINE("/a\0b"), "!400 bad_target"),
        CASE("quote", GET_LINE("/a\"b"), "!400 bad_target"),
        CASE("half an escape", GET_LINE("/a%2"), "!400 bad_target"),
        CASE("no escape", GET_LINE("/a%zz"), "!400 bad_target"),
        CASE("no target", "GET HTTP/1.1\r\nHost: h\r\n\r\n", "!400 bad_target"),
    };
    run(cases, ARRAY_LEN(cases));
}

static void test_refused_headers(void **state)
{
    (void)state;
    static const struct sample cases[] = {
        CASE("no host", "GET / HTTP/1.1\r\n\r\n", "!400 no_host"),
        CASE("two hosts", WITH("hOST: h"), "!400 two_hosts"),
        CASE("two hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "!400 two_hosts"),
        CASE("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "!400 bad_host"),
        CASE("list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "!400 bad_host"),
        CASE("host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "!400 bad_host"),
        CASE("obs-fold", WITH("A: b\r\n c"), "!400 bad_header"),
        CASE("line that begins with a blank", "GET / HTTP/1.1\r\n A: b\r\nHost: h\r\n\r\n",
             "!400 bad_grammar"),
        CASE("blank before the colon", WITH("A : b"), "!400 bad_header"),
        CASE("blank in a name", WITH("A b: c"), "!400 bad_header"),
        CASE("no name", WITH(": b"), "!400 bad_header"),
        CASE("no colon", WITH("A"), "!400 bad_header"),
        CASE("no token", WITH("A(: b"), "!400 bad_header"),
        CASE("not ASCII in a name", WITH("\xc3\xa9: b"), "!400 bad_header"),
        CASE("NUL in a name", WITH("A\0: b"), "!400 bad_header"),
        CASE("NUL in a value", WITH("A: b\0c"), "!400 bad_header"),
        CASE("control in a value", WITH("A: b\x01"), "!400 bad_header"),
        CASE("DEL in a value", WITH("A: b\x7f"), "!400 bad_header"),
        CASE("bare CR in a value", WITH("A: b\rc"), "!400 bad_grammar"),
        CASE("bare CR and a header", WITH("A:\rContent-Length: 5"), "!400 bad_grammar"),
        CASE("bare LF behind a value", POST "A: b\nC: d\r\n\r\n", "!400 bad_grammar"),
        CASE("bare LF at the end", POST "A: b\r\n\n", "!400 bad_header"),
        CASE("CR that ends the head", POST "A: b\r\n\rX", "!400 bad_grammar"),
        CASE("expect", WITH("Expect: 200-ok"), "!417 bad_expect"),
        CASE("two expects", WITH("Expect: 100-continue\r\nExpect: 100-continue"),
             "!417 bad_expect"),
        CASE("nine headers", WITH("A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:"),
             "!431 too_many_headers"),
        CASE("a bad ninth name", WITH("A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nHH(:"),
             "!400 bad_header"),
    };
    run(cases, ARRAY_LEN(cases));
}

static void test_refused_framing(void **state)
{
    (void)state;
    static const struct sample cases[] = {
        CASE("two lengths", WITH("Content-Length: 5\r\nContent-Length: 5"), "!400 two_lengths"),
        CASE("list of lengths", WITH("Content-Length: 5, 5"), "!400 bad_length"),
        CASE("length with a sign", WITH("Content-Length: +5"), "!400 bad_length"),
        CASE("negative length", WITH("Content-Length: -5"), "!400 bad_length"),
        CASE("hex length", WITH("Content-Length: 0x5"), "!400 bad_length"),
        CASE("length with a blank", WITH("Content-Length: 5 5"), "!400 bad_length"),
        CASE("empty length", WITH("Content-Length:"), "!400 bad_length"),
        CASE("length beyond 64 bits", WITH("Content-Length: 18446744073709551616"),
             "!400 bad_length"),
        CASE("length of 64 bits", WITH("Content-Length: 18446744073709551615"),
             "!413 body_too_large"),
        CASE("length and encoding", WITH("Content-Length: 5\r\nTransfer-Encoding: chunked"),
             "!400 two_lengths"),
        CASE("encoding and length", WITH("Transfer-Encoding: chunked\r\nContent-Length: 5"),
             "!400 two_lengths"),
        CASE("other encoding", WITH("Transfer-Encoding: gzip"), "!501 bad_encoding"),
        CASE("two encodings", WITH("Transfer-Encoding: gzip, chunked"), "!501 bad_encoding"),
        CASE("chunked first", WITH("Transfer-Encoding: chunked, gzip"), "!501 bad_encoding"),
        CASE("chunked twice", WITH("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
             "!501 bad_encoding"),
        CASE("identity", WITH("Transfer-Encoding: identity"), "!501 bad_encoding"),
        CASE("xchunked", WITH("Transfer-Encoding: xchunked"), "!501 bad_encoding"),
        CASE("quoted", WITH("Transfer-Encoding: \"chunked\""), "!501 bad_encoding"),
        CASE("empty encoding", WITH("Transfer-Encoding:"), "!501 bad_encoding"),
        CASE("encoding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
             "!400 encoding_in_1_0"),
        CASE("encodings in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked, x\r\n\r\n",
             "!400 encoding_in_1_0"),
        CASE("body on get", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
             "!400 body_on_get"),
        CASE("chunks on head", "HEAD / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
             "!400 body_on_get"),
        CASE("too large", WITH("Content-Length: 1001"), "!413 body_too_large"),
        CASE("chunk too large", CHUNKED "3e9\r\n", CHUNKED_HEAD "!413 body_too_large"),
        CASE("chunks too large", CHUNKED "1\r\nx\r\n3e8\r\n", CHUNKED_HEAD "!413 body_too_large"),
        CASE("chunk size with a sign", CHUNKED "+5\r\nhello\r\n", CHUNKED_HEAD "!400 bad_chunk"),
        CASE("chunk size with a blank", CHUNKED " 5\r\nhello\r\n", CHUNKED_HEAD "!400 bad_chunk"),
        CASE("blank behind a chunk size", CHUNKED "5 \r\nhello\r\n", CHUNKED_HEAD "!400 bad_chunk"),
        CASE("chunk size with 0x", CHUNKED "0x5\r\nhello\r\n", CHUNKED_HEAD "!400 bad_chunk"),
        CASE("chunk size beyond 64 bits", CHUNKED "10000000000000005\r\nhello",
             CHUNKED_HEAD "!400 bad_chunk"),
        CASE("no chunk size", CHUNKED "\r\nhello\r\n", CHUNKED_HEAD "!400 bad_chunk"),
        CASE("chunk size and a bare LF", CHUNKED "5\nhello\r\n", CHUNKED_HEAD "!400 bad_grammar"),
        CASE("chunk without its CRLF", CHUNKED "5\r\nhelloXX0\r\n\r\n",
             CHUNKED_HEAD "!400 bad_grammar"),
        CASE("chunk and a bare LF", CHUNKED "5\r\nhello\n0\r\n\r\n",
             CHUNKED_HEAD "!400 bad_grammar"),
        CASE("length in a trailer", CHUNKED "0\r\nContent-Length: 5\r\n\r\n",
             CHUNKED_HEAD "!400 two_lengths"),
        CASE("nine trailers", CHUNKED "0\r\nA:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\nI:\r\n",
             CHUNKED_HEAD "!431 too_many_trailers"),
        CASE("rubbish behind", FIVE "rubbish", FIVE_EVENTS "!400 bad_method"),
    };
    run(cases, ARRAY_LEN(cases));
}

/* Inputs of a head, a fill of a certain length and a tail; at the limit and one byte beyond. */
static void check_filled(const char *name, const char *before, char fill, size_t count,
                         const char *after, const char *expected)
{
    struct buf input = {0};
    buf_add_text(&input, before);
    for (size_t i = 0; i < count; i++)
        buf_add(&input, &fill, 1);
    buf_add_text(&input, after);
    struct buf events = events_of(input.ptr, input.len, input.len, input.len);
    const char *end = strrchr(buf_text(&events), expected[0]);
    if (end == NULL || strcmp(end, expected) != 0)
        fail_msg("%s, %zu bytes: %s, expected %s", name, input.len, buf_text(&events), expected);
    check(name, input.ptr, input.len, buf_text(&events));
    buf_close(&events);
    buf_close(&input);
}

static void test_limits(void **state)
{
    (void)state;
    size_t room = limits.head_max_bytes - (sizeof(POST "A: \r\n\r\n") - 1);
    check_filled("head", POST "A: ", 'a', room, "\r\n\r\n", "]().");
    check_filled("head", POST "A: ", 'a', room + 1, "\r\n\r\n", "!431 head_too_large");
    check_filled("head without an end", POST "A: ", 'a', 5000, "", "!431 head_too_large");
    check_filled("name without an end", POST, 'a', 5000, "", "!431 head_too_large");
    check_filled("blanks without an end", POST "A:", ' ', 5000, "", "!431 head_too_large");
    check_filled("target", "GET /", 'a', 1000, " HTTP/1.1\r\nHost: h\r\n\r\n",
                 "!414 target_too_long");
    check_filled("CRs without an end", "", '\r', 1000, "", "!414 target_too_long");

    check_filled("body", POST "Content-Length: 1000\r\n\r\n", 'b', 1000, "", "b).");
    check_filled("chunk", CHUNKED "3e8\r\n", 'b', 1000, "\r\n0\r\n\r\n", "b).");

    check_filled("zeros of a chunk size", CHUNKED, '0', 10000, "", "!400 bad_chunk");
    check_filled("extension", CHUNKED "1;", 'x', 10000, "", "!400 bad_chunk");
    room = limits.head_max_bytes - (sizeof("A: \r\n\r\n") - 1);
    check_filled("trailer", CHUNKED "0\r\nA: ", 'a', room, "\r\n\r\n", "().");
    check_filled("trailer", CHUNKED "0\r\nA: ", 'a', room + 1, "\r\n\r\n",
                 "!431 trailers_too_large");
}

/* The smallest chunks there are must pass; chunks whose framing is mostly padding must not. */
static void test_tiny_chunks(void **state)
{
    (void)state;
    struct buf input = {0};
    struct buf expected = {0};
    buf_add_text(&input, CHUNKED);
    buf_add_text(&expected, CHUNKED_HEAD "(");
    for (int i = 0; i < 1000; i++) {
        buf_add_text(&input, "1\r\nx\r\n");
        buf_add_text(&expected, "x");
    }
    buf_add_text(&input, "0\r\n\r\n");
    buf_add_text(&expected, ").");
    struct buf events = events_of(input.ptr, input.len, input.len, input.len);
    assert_string_equal(buf_text(&events), buf_text(&expected));
    buf_close(&events);
    events = events_of(input.ptr, input.len, 1, 1);
    assert_string_equal(buf_text(&events), buf_text(&expected));
    buf_close(&events);

    buf_clear(&input);
    buf_add_text(&input, CHUNKED);
    for (int i = 0; i < 60; i++)
        buf_add_text(&input, "1;padding-padding-padding\r\nx\r\n");
    check("padded chunks", input.ptr, input.len, CHUNKED_HEAD "!400 bad_chunk");
    buf_close(&input);
    buf_close(&expected);
}

static void test_after_close(void **state)
{
    (void)state;
    struct http1 *parser = http1_new(&limits);
    size_t used = 0;
    struct span input = SPAN("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_int_equal(http1_feed(parser, input.ptr, input.len, &used), HTTP1_HEAD);
    assert_int_equal(used, input.len);
    assert_int_equal(http1_feed(parser, NULL, 0, &used), HTTP1_DONE);
    http1_next(parser);
    assert_int_equal(http1_feed(parser, input.ptr, input.len, &used), HTTP1_ERROR);
    assert_int_equal(http1_request(parser)->status, 400);
    assert_string_equal(http1_request(parser)->reason, "after_close");
    http1_free(parser);
}

static void test_header_lookup(void **state)
{
    (void)state;
    struct http1 *parser = http1_new(&limits);
    size_t used = 0;
    size_t count = 9;
    struct span input = SPAN(POST "Webhook-Id: a\r\nwebhook-ID: b\r\nEmpty:\r\n\r\n");
    assert_int_equal(http1_feed(parser, input.ptr, input.len, &used), HTTP1_HEAD);
    const struct http1_request *request = http1_request(parser);
    assert_true(span_equal(http1_header(request, "webhook-id", &count), SPAN("a")));
    assert_int_equal(count, 2);
    struct span value = http1_header(request, "empty", &count);
    assert_non_null(value.ptr);
    assert_int_equal(value.len, 0);
    assert_int_equal(count, 1);
    assert_null(http1_header(request, "webhook", &count).ptr);
    assert_int_equal(count, 0);
    assert_null(http1_header(request, "webhook-id-", NULL).ptr);
    http1_free(parser);
}

/* A declared body's memory is taken at once, when its first byte comes, and given back. */
static void test_body_memory(void **state)
{
    (void)state;
    struct http1_limits large = {
        .head_max_bytes = 512, .header_max_count = 8, .body_max_bytes = 100000};
    struct http1 *parser = http1_new(&large);
    size_t used = 0;
    struct span head = SPAN(POST "Content-Length: 100000\r\n\r\n");
    char *body = mem_zalloc(100000);
    assert_int_equal(http1_feed(parser, head.ptr, head.len, &used), HTTP1_HEAD);
    assert_int_equal(http1_body_bytes(parser), 0);
    assert_int_equal(http1_feed(parser, body, 1, &used), HTTP1_MORE);
    size_t reserved = http1_body_bytes(parser);
    assert_true(reserved >= 100000);
    assert_int_equal(http1_feed(parser, body, 99999, &used), HTTP1_DONE);
    assert_int_equal(http1_body_bytes(parser), reserved);
    assert_int_equal(http1_request(parser)->body.len, 100000);
    http1_next(parser);
    assert_int_equal(http1_body_bytes(parser), 0);
    assert_true(http1_is_idle(parser));
    free(body);
    http1_free(parser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),        cmocka_unit_test(test_refused_lines),
        cmocka_unit_test(test_refused_headers), cmocka_unit_test(test_refused_framing),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_tiny_chunks),
        cmocka_unit_test(test_after_close),     cmocka_unit_test(test_header_lookup),
        cmocka_unit_test(test_body_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
