/* Covers codec/job: the tables of the .def files, payloads there and back, and what is refused.
 * Hostile payloads are written as bytes, by hand. */
#include "codec/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static void test_tables(void **state)
{
    (void)state;
    enum job_kind kind = JOB_KIND_COUNT;
    assert_true(job_kind_find(SPAN("credits.payment_succeeded"), &kind));
    assert_int_equal(kind, JOB_credits_payment_succeeded);
    assert_string_equal(job_type(kind)->kind, "credits.payment_succeeded");
    assert_int_equal(job_type(kind)->payload, PAYLOAD_event);
    assert_int_equal(job_type(kind)->version, 1);
    assert_string_equal(queue_text(job_type(kind)->queue), "credits");
    assert_false(job_kind_find(SPAN("credits.payment_succeeded2"), &kind));
    assert_false(job_kind_find(SPAN(""), &kind));
    for (int i = 0; i < JOB_KIND_COUNT; i++) {
        const struct job_type *type = job_type((enum job_kind)i);
        assert_true(job_kind_find(span_of(type->kind), &kind) && kind == (enum job_kind)i);
        assert_true(strlen(type->kind) <= JOB_KIND_MAX && type->run_max >= 1);
        assert_true(type->queue < QUEUE_COUNT && type->version >= 1);
    }
}

static void test_empty(void **state)
{
    (void)state;
    struct event event;
    struct event again;
    struct buf out = {0};
    struct arena arena;
    arena_init(&arena);
    payload_init(PAYLOAD_event, &event);
    assert_int_equal(payload_size(PAYLOAD_event), sizeof event);
    assert_string_equal(event.id, "");
    assert_string_equal(event.credits_claimed, "");
    assert_int_equal(event.paid_ms, 0);
    struct err err = payload_encode(PAYLOAD_event, &event, &out);
    assert_int_equal(err.code, ERR_OK);
    assert_int_equal(out.len, 1);
    assert_memory_equal(out.ptr, "\x80", 1);
    memset(&again, 0xff, sizeof again);
    err = payload_decode(PAYLOAD_event, 1, buf_span(&out), &arena, &again);
    assert_int_equal(err.code, ERR_OK);
    assert_string_equal(again.user, "");
    assert_false(again.occurred_known);
    buf_close(&out);
    arena_close(&arena);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct event event;
    struct event again;
    struct buf out = {0};
    struct arena arena;
    char text[301];
    memset(text, 'x', 300);
    text[300] = '\0';
    static const int64_t numbers[] = {1,          -1,        127,       128,       -32,
                                      -33,        65535,     65536,     INT32_MIN, UINT32_MAX,
                                      1786400000, INT64_MAX, INT64_MIN, 0};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        arena_init(&arena);
        payload_init(PAYLOAD_event, &event);
        event.id = "default/m1";
        event.user = text;
        event.order_id = "\xc3\xa9";
        event.occurred_known = i % 2 == 0;
        event.paid_ms = numbers[i];
        buf_clear(&out);
        buf_add_text(&out, "kept"); /* encode appends */
        struct err err = payload_encode(PAYLOAD_event, &event, &out);
        assert_int_equal(err.code, ERR_OK);
        struct span bytes = {out.ptr + 4, out.len - 4};
        err = payload_decode(PAYLOAD_event, 1, bytes, &arena, &again);
        assert_int_equal(err.code, ERR_OK);
        memset(out.ptr, 0, out.len); /* texts are the arena's */
        assert_string_equal(again.id, event.id);
        assert_string_equal(again.user, text);
        assert_string_equal(again.order_id, event.order_id);
        assert_string_equal(again.kind, "");
        assert_int_equal(again.occurred_known, event.occurred_known);
        assert_true(again.paid_ms == numbers[i] && again.received_ms == 0);
        arena_close(&arena);
    }
    buf_close(&out);
}

static struct err decode(int version, struct span bytes, struct event *event, struct arena *arena)
{
    char *copy = mem_alloc(bytes.len); /* exactly this size, for ASan */
    if (bytes.len > 0)
        memcpy(copy, bytes.ptr, bytes.len);
    struct err err =
        payload_decode(PAYLOAD_event, version, (struct span){copy, bytes.len}, arena, event);
    free(copy);
    return err;
}

#define MALFORMED(name, bytes) {name, {bytes, sizeof(bytes) - 1}, ERR_MALFORMED}
#define GOOD(name, bytes)      {name, {bytes, sizeof(bytes) - 1}, ERR_OK}

static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span bytes;
        enum err_code code;
    } cases[] = {
        GOOD("id", "\x81\xa2id\xa1x"),
        GOOD("id as str8", "\x81\xa2id\xd9\x01x"),
        GOOD("id as str32", "\xdf\0\0\0\1\xdb\0\0\0\2id\xdb\0\0\0\1x"),
        GOOD("unknown name", "\x82\xa3new\x93\x01\xc0\xcb\0\0\0\0\0\0\0\0\xa2id\xa1x"),
        GOOD("unknown, nested", "\x82\xa1z\x81\xa1y\x81\xa1x\xc4\x01q\xa2id\xa1x"),
        GOOD("unknown, all types",
             "\x82\xa1z\xdc\0\x0d\xc2\xc3\xca\0\0\0\0\xcc\1\xcd\0\1\xce\0\0\0\1\xd0\1\xd1\0\1"
             "\xd4\1\1\xd5\1\1\1\xc7\1\2\3\xe0\xc5\0\1q\xa2id\xa1x"),
        MALFORMED("nothing", ""),
        MALFORMED("no map", "\x91\x01"),
        MALFORMED("nil", "\xc0"),
        MALFORMED("map cut off", "\x81\xa2id"),
        MALFORMED("text cut off", "\x81\xa2id\xa2x"),
        MALFORMED("header cut off", "\x81\xa2id\xda\x01"),
        MALFORMED("number cut off", "\x81\xa7paid_ms\xcf\0\0\0\0\0\0\0"),
        MALFORMED("rubbish behind", "\x81\xa2id\xa1x\x01"),
        MALFORMED("key that is no text", "\x81\x01\xa1x"),
        MALFORMED("same field twice", "\x82\xa2id\xa1x\xa2id\xa1x"),
        MALFORMED("number for a text", "\x81\xa2id\x01"),
        MALFORMED("bin for a text", "\x81\xa2id\xc4\x01x"),
        MALFORMED("nil for a text", "\x81\xa2id\xc0"),
        MALFORMED("text for a number", "\x81\xa7paid_ms\xa1x"),
        MALFORMED("number beyond 63 bits", "\x81\xa7paid_ms\xcf\x80\0\0\0\0\0\0\0"),
        MALFORMED("float for a number", "\x81\xa7paid_ms\xca\0\0\0\0"),
        MALFORMED("number for a flag", "\x81\xaeoccurred_known\x01"),
        MALFORMED("NUL in a text", "\x81\xa2id\xa3x\0y"),
        MALFORMED("bad UTF-8", "\x81\xa2id\xa1\xff"),
        MALFORMED("never used byte", "\x81\xa1z\xc1"),
        MALFORMED("promises 2^32-1 members", "\xdf\xff\xff\xff\xff"),
        MALFORMED("array of 33 million", "\x81\xa1z\xdd\x02\0\0\0"),
        MALFORMED("map of 33 million", "\x81\xa1z\xdf\x02\0\0\0\xa1x"),
        MALFORMED("text of 4 GiB", "\x81\xa2id\xdb\xff\xff\xff\xffx"),
        MALFORMED("ext of 4 GiB", "\x81\xa1z\xc9\xff\xff\xff\xff\x01x"),
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena;
        struct event event;
        arena_init(&arena);
        struct err err = decode(1, cases[i].bytes, &event, &arena);
        if (err.code != cases[i].code)
            fail_msg("%s: %s", cases[i].name, err_name(err.code));
        assert_string_equal(event.id, err_failed(&err) ? "" : "x");
        arena_close(&arena);
    }
}

/* Every proper beginning of a payload is malformed, and none is read beyond. */
static void test_truncated(void **state)
{
    (void)state;
    struct event event;
    struct buf out = {0};
    payload_init(PAYLOAD_event, &event);
    event.id = "default/m1";
    event.received_ms = INT64_MAX;
    event.occurred_known = true;
    event.currency = "usd";
    struct err err = payload_encode(PAYLOAD_event, &event, &out);
    assert_int_equal(err.code, ERR_OK);
    for (size_t len = 0; len < out.len; len++) {
        struct arena arena;
        arena_init(&arena);
        err = decode(1, (struct span){out.ptr, len}, &event, &arena);
        if (err.code != ERR_MALFORMED)
            fail_msg("%zu of %zu bytes: %s", len, out.len, err_name(err.code));
        arena_close(&arena);
    }
    buf_close(&out);
}

static void test_deep(void **state)
{
    (void)state;
    struct buf out = {0};
    struct arena arena;
    struct event event;
    arena_init(&arena);
    buf_add_text(&out, "\x81\xa1z");
    for (int i = 0; i < 60000; i++)
        buf_add_text(&out, "\x91");
    buf_add_text(&out, "\x01");
    struct err err = decode(1, buf_span(&out), &event, &arena);
    assert_int_equal(err.code, ERR_MALFORMED);
    buf_close(&out);
    arena_close(&arena);
}

static void test_versions(void **state)
{
    (void)state;
    struct arena arena;
    struct event event;
    arena_init(&arena);
    struct err err = decode(2, SPAN("\x80"), &event, &arena);
    assert_int_equal(err.code, ERR_UNKNOWN_VERSION);
    err = decode(0, SPAN("\x80"), &event, &arena);
    assert_int_equal(err.code, ERR_MALFORMED);
    err = decode(1, SPAN("\x80"), &event, &arena);
    assert_int_equal(err.code, ERR_OK);
    arena_close(&arena);
}

static void test_too_large(void **state)
{
    (void)state;
    struct event event;
    struct buf out = {0};
    char *text = mem_zalloc(JOB_PAYLOAD_MAX + 1);
    /* map, key "user" and the header of a str16 (str32 beyond 65535) */
    size_t overhead = 1 + 5 + 3;
    memset(text, 'x', JOB_PAYLOAD_MAX - overhead);
    payload_init(PAYLOAD_event, &event);
    event.user = text;
    struct err err = payload_encode(PAYLOAD_event, &event, &out);
    assert_int_equal(err.code, ERR_OK);
    assert_int_equal(out.len, JOB_PAYLOAD_MAX);
    text[JOB_PAYLOAD_MAX - overhead] = 'x';
    buf_clear(&out);
    buf_add_text(&out, "kept");
    err = payload_encode(PAYLOAD_event, &event, &out);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_string_equal(buf_text(&out), "kept");

    struct arena arena;
    arena_init(&arena);
    buf_clear(&out);
    buf_add(&out, "\x82\xa1z\x01\xa4user\xda\xff\xf4", 12);
    memset(text, 'x', 0xfff4);
    buf_add(&out, text, 0xfff4);
    assert_int_equal(out.len, JOB_PAYLOAD_MAX);
    err = decode(1, buf_span(&out), &event, &arena);
    assert_int_equal(err.code, ERR_OK);
    out.ptr[11] = '\xf5';
    buf_add_text(&out, "x");
    err = decode(1, buf_span(&out), &event, &arena);
    assert_int_equal(err.code, ERR_MALFORMED);
    arena_close(&arena);
    buf_close(&out);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),     cmocka_unit_test(test_empty),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_truncated),  cmocka_unit_test(test_deep),
        cmocka_unit_test(test_versions),   cmocka_unit_test(test_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
