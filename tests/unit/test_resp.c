/* Commands in Redis' protocol, byte for byte. */
#include "codec/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

static void test_commands(void **state)
{
    struct buf out = {0};
    (void)state;
    resp_add_command(&out, (const struct span[]){SPAN("PING")}, 1);
    assert_string_equal(buf_text(&out), "*1\r\n$4\r\nPING\r\n");
    /* Appended; empty and binary arguments as they are. */
    resp_add_command(&out, (const struct span[]){SPAN("SET"), SPAN(""), SPAN("a\0\r\n")}, 3);
    static const char both[] = "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\0\r\n\r\n";
    assert_int_equal(out.len, sizeof both - 1);
    assert_memory_equal(out.ptr, both, sizeof both - 1);
    buf_close(&out);
}

static void test_lengths(void **state)
{
    static const size_t lens[] = {9, 10, 99, 100, 65536, 1048576};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct buf out = {0};
        struct buf wanted = {0};
        char *bytes = mem_alloc(lens[i]);
        memset(bytes, 'x', lens[i]);
        resp_add_command(&out, (const struct span[]){{bytes, lens[i]}}, 1);
        buf_printf(&wanted, "*1\r\n$%zu\r\n", lens[i]);
        buf_add(&wanted, bytes, lens[i]);
        buf_add_text(&wanted, "\r\n");
        assert_int_equal(out.len, wanted.len);
        assert_memory_equal(out.ptr, wanted.ptr, wanted.len);
        buf_close(&out);
        buf_close(&wanted);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests_name("resp", tests, NULL, NULL);
}
