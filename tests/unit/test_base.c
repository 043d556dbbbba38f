/* Covers base: spans, arena, buf, err, clock, random. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static void test_span(void **state)
{
    (void)state;
    assert_true(span_equal(SPAN("ab"), span_of("ab")));
    assert_false(span_equal(SPAN("ab"), SPAN("abc")));
    assert_false(span_equal(SPAN("ab"), SPAN("ac")));
    assert_true(span_equal(span_of(NULL), SPAN("")));
    assert_null(span_of(NULL).ptr);
    assert_int_equal(SPAN("a\0b").len, 3);
    assert_true(text_is_empty("") && !text_is_empty(" "));
}

/* Sizes around the block's, all kept apart, aligned and intact until the reset. */
static void test_arena(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 8191, 8192, 8193, 20000, 3};
    struct arena arena;
    arena_init(&arena);
    for (int round = 0; round < 3; round++) {
        unsigned char *got[ARRAY_LEN(sizes)];
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            got[i] = arena_alloc(&arena, sizes[i]);
            assert_int_equal((uintptr_t)got[i] % 16, 0);
            memset(got[i], (int)i + 1, sizes[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
            for (size_t k = 0; k < sizes[i]; k++)
                if (got[i][k] != i + 1)
                    fail_msg("allocation %zu, byte %zu", i, k);
        unsigned char *zeros = arena_zalloc(&arena, 64);
        for (size_t k = 0; k < 64; k++)
            assert_int_equal(zeros[k], 0);
        arena_reset(&arena);
    }
    assert_string_equal(arena_copy(&arena, "abc", 2), "ab");
    assert_string_equal(arena_copy(&arena, NULL, 0), "");
    assert_string_equal(arena_strdup(&arena, "xyz"), "xyz");
    assert_string_equal(arena_printf(&arena, "%s-%d", "a", 7), "a-7");
    arena_close(&arena);
    arena_close(&arena); /* harmless */
    arena_reset(&arena);
    assert_string_equal(arena_strdup(&arena, "again"), "again");
    arena_close(&arena);
}

static void test_buf(void **state)
{
    (void)state;
    struct buf buf = {0};
    assert_int_equal(buf_span(&buf).len, 0);
    assert_non_null(buf_span(&buf).ptr);
    assert_string_equal(buf_text(&buf), "");
    buf_add(&buf, NULL, 0);
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%03d,", i);
    assert_int_equal(buf.len, 4000);
    assert_memory_equal(buf.ptr + 3108, "777,", 4);
    buf_consume(&buf, 3996);
    assert_string_equal(buf_text(&buf), "999,");
    assert_int_equal(buf.len, 4);
    buf_add_text(&buf, "end");
    assert_true(span_equal(buf_span(&buf), SPAN("999,end")));
    size_t cap = buf.cap;
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.cap, cap);
    buf_reserve(&buf, 100000);
    assert_true(buf.cap >= 100000 && buf.len == 0);
    buf_close(&buf);
    assert_null(buf.ptr);
    buf_close(&buf);
}

static struct err passes_on(enum err_code code)
{
    TRY(code == ERR_OK ? ERR_NONE : err_make(code, "no %s", "luck"));
    return err_make(ERR_SKIPPED, "%s", "");
}

static void test_err(void **state)
{
    (void)state;
    struct err err = passes_on(ERR_PG_DOWN);
    assert_int_equal(err.code, ERR_PG_DOWN);
    assert_true(err_failed(&err));
    assert_string_equal(err_text(&err), "no luck");
    assert_string_equal(err_name(err.code), "PG_DOWN");
    assert_string_equal(err_class_name(err_class_of(err.code)), "unavailable");
    err = passes_on(ERR_OK);
    assert_int_equal(err.code, ERR_SKIPPED);
    assert_string_equal(err_text(&err), "nothing to do");
    assert_false(err_failed(&ERR_NONE));

    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    err = err_make(ERR_SYSTEM, "%s", text);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);

    for (int i = 0; i < ERR_CODE_COUNT; i++) {
        struct err bare = {.code = (enum err_code)i};
        assert_true(strlen(err_name(bare.code)) > 0 && strlen(err_text(&bare)) > 0);
        assert_true(strlen(err_class_name(err_class_of(bare.code))) > 0);
        assert_int_equal(err_class_of(bare.code) == ERR_CLASS_OK, i == ERR_OK);
    }
}

static void test_clock_and_random(void **state)
{
    (void)state;
    int64_t before = clock_mono_ms();
    assert_true(clock_wall_ms() > INT64_C(1700000000000)); /* 2023 */
    char last[UUID_TEXT_SIZE] = "";
    for (int i = 0; i < 100; i++) {
        char uuid[UUID_TEXT_SIZE];
        random_uuid(uuid);
        assert_int_equal(strlen(uuid), UUID_TEXT_SIZE - 1);
        assert_int_equal(strspn(uuid, "0123456789abcdef-"), UUID_TEXT_SIZE - 1);
        assert_true(uuid[8] == '-' && uuid[13] == '-' && uuid[14] == '7' && uuid[18] == '-');
        assert_non_null(strchr("89ab", uuid[19]));
        assert_string_not_equal(uuid, last);
        assert_true(strncmp(uuid, last, 13) >= 0); /* sorts by time */
        memcpy(last, uuid, sizeof last);
        assert_true(random_below(3) < 3 && random_below(1) == 0);
    }
    assert_true(clock_mono_ms() >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_span),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_buf),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_clock_and_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
