/* codec/envelope: what is written is read; what is cut or changed is refused, never overrun. */
#include "codec/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static struct envelope make_full(void)
{
    return (struct envelope){
        .kind = SPAN("credits.payment_succeeded"),
        .version = 3,
        .key = SPAN("17/user_T3st"),
        .tenant = INT64_C(9007199254740993),
        .attempt = 200,
        .occurred_ms = 1786400000123,
        .enqueued_ms = -1,
        .trace = SPAN("default/msg_T3st"),
        .payload = SPAN("\x81\xa2id\xa1x\0with a NUL"),
    };
}

static void check_equal(const struct envelope *got, const struct envelope *want)
{
    assert_true(span_equal(got->kind, want->kind));
    assert_true(got->version == want->version && got->tenant == want->tenant);
    assert_true(span_equal(got->key, want->key) && span_equal(got->trace, want->trace));
    assert_true(got->attempt == want->attempt);
    assert_true(got->occurred_ms == want->occurred_ms && got->enqueued_ms == want->enqueued_ms);
    assert_true(span_equal(got->payload, want->payload));
}

static void test_round_trip(void **state)
{
    static char long_text[70000];
    const int64_t numbers[] = {
        0,    1,    127,    128,    255,      256,       65535,     65536,           -1, -32, -33,
        -128, -129, -32768, -32769, 1U << 31, INT64_MAX, INT64_MIN, INT64_C(1) << 32};
    const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, sizeof long_text};
    (void)state;
    memset(long_text, 'x', sizeof long_text);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        struct envelope envelope = make_full();
        struct envelope got;
        struct buf packed = {0};
        envelope.enqueued_ms = envelope.attempt = numbers[i];
        envelope.payload = envelope.trace = (struct span){long_text, sizes[i % ARRAY_LEN(sizes)]};
        envelope_encode(&envelope, &packed);
        struct err err = envelope_decode(buf_span(&packed), &got);
        assert_false(err_failed(&err));
        check_equal(&got, &envelope);
        buf_close(&packed);
    }
}

static void test_cut_anywhere(void **state)
{
    const struct envelope full = make_full();
    struct buf packed = {0};
    (void)state;
    envelope_encode(&full, &packed);
    for (size_t len = 0; len < packed.len; len++) {
        struct envelope got;
        char *copy = len > 0 ? mem_alloc(len) : NULL; /* so that ASan sees a byte too far */
        if (len > 0)
            memcpy(copy, packed.ptr, len);
        struct err err = envelope_decode((struct span){copy, len}, &got);
        assert_int_equal(err.code, ERR_MALFORMED);
        assert_int_equal(got.kind.len + got.payload.len, 0);
        free(copy);
    }
    buf_close(&packed);
}

static void test_every_byte_changed(void **state)
{
    const struct envelope full = make_full();
    struct buf packed = {0};
    (void)state;
    envelope_encode(&full, &packed);
    for (size_t at = 0; at < packed.len; at++) {
        for (int value = 0; value < 256; value++) {
            struct envelope got;
            char old = packed.ptr[at];
            packed.ptr[at] = (char)value;
            struct err err = envelope_decode(buf_span(&packed), &got);
            if (!err_failed(&err))
                assert_true(got.payload.len <= packed.len && got.trace.len <= packed.len);
            packed.ptr[at] = old;
        }
    }
    buf_close(&packed);
}

/* A newer release may add members; what is no envelope at all is refused. */
static void test_others(void **state)
{
    const struct span bad[] = {{NULL, 0},
                               SPAN(""),
                               SPAN("\x80"),
                               SPAN("\x91\xa0"),
                               SPAN("\xdc\xff\xff"),
                               SPAN("\xc0"),
                               SPAN("\x99\xc0"),
                               SPAN("\x99\xdb\xff\xff\xff\xff")};
    const struct envelope full = make_full();
    struct buf packed = {0};
    struct envelope got;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = envelope_decode(bad[i], &got);
        assert_int_equal(err.code, ERR_MALFORMED);
    }
    envelope_encode(&full, &packed);
    packed.ptr[0] = (char)0x9a; /* ten members */
    buf_add(&packed, "\xa3new", 4);
    struct err err = envelope_decode(buf_span(&packed), &got);
    assert_false(err_failed(&err));
    check_equal(&got, &full);
    buf_close(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_every_byte_changed),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
