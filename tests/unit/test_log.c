/* Covers base/log: both formats, levels, whom a line is about, and that no value breaks a line.
 * What is written to standard error is read back through a pipe. */
#include "base/buf.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

static int saved;
static int ends[2];

static void capture(void)
{
    saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_true(saved >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
}

/* What was written since capture; a line is far smaller than a pipe. */
static struct buf captured(void)
{
    struct buf text = {0};
    dup2(saved, STDERR_FILENO);
    close(saved);
    buf_reserve(&text, 4096);
    for (ssize_t got = 1; got > 0; text.len += (size_t)got) {
        buf_reserve(&text, 4096);
        got = read(ends[0], text.ptr + text.len, 4096);
        assert_true(got >= 0);
    }
    close(ends[0]);
    return text;
}

/* The line behind its time stamp, whose form is checked. */
static const char *behind_time(struct buf *text, const char *prefix)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    const char *line = buf_text(text);
    assert_memory_equal(line, prefix, strlen(prefix));
    line += strlen(prefix);
    for (size_t i = 0; form[i] != '\0'; i++)
        if (form[i] == 'd' ? line[i] < '0' || line[i] > '9' : line[i] != form[i])
            fail_msg("%s", line);
    return line + strlen(form);
}

static void test_logfmt(void **state)
{
    (void)state;
    log_init("test", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture();
    log_info("mod", "hello", LOG_TEXT("plain", "a/b"), LOG_TEXT("odd", "a b=\"c\"\n\x01\\"),
             LOG_TEXT("empty", ""), LOG_INT("n", -5));
    struct buf text = captured();
    assert_string_equal(behind_time(&text, "ts="),
                        " level=info program=test module=mod msg=hello plain=a/b "
                        "odd=\"a b=\\\"c\\\"\\n\\u0001\\\\\" empty=\"\" n=-5\n");
    buf_close(&text);
}

static void test_json(void **state)
{
    (void)state;
    log_init("test", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    capture();
    log_debug("mod", "two words");
    log_error("mod", "x", LOG_INT("n", INT64_MAX), LOG_TEXT("quote", "\"\\\x7f\xc3\xa9"));
    struct buf text = captured();
    const char *first = behind_time(&text, "{\"ts\":\"");
    const char *want = "\",\"level\":\"debug\",\"program\":\"test\",\"module\":\"mod\","
                       "\"msg\":\"two words\"}\n";
    assert_memory_equal(first, want, strlen(want));
    const char *second = strchr(first, '\n');
    assert_non_null(second);
    assert_non_null(strstr(second, "\"level\":\"error\""));
    assert_non_null(strstr(second, "\"n\":9223372036854775807,"
                                   "\"quote\":\"\\\"\\\\\\u007f\xc3\xa9\"}\n"));
    buf_close(&text);
}

static void test_levels(void **state)
{
    (void)state;
    log_init("test", LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
    capture();
    log_debug("mod", "no");
    log_info("mod", "no");
    log_warning("mod", "w");
    log_error("mod", "e");
    struct buf text = captured();
    assert_null(strstr(buf_text(&text), "msg=no"));
    assert_non_null(strstr(buf_text(&text), "level=warning"));
    assert_non_null(strstr(buf_text(&text), "level=error"));
    buf_close(&text);
}

static void test_about(void **state)
{
    (void)state;
    log_init("test", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture();
    log_about((struct log_about){.job = "j.1", .event = "default/m", .tenant = "biz_x"});
    log_info("mod", "one");
    log_about((struct log_about){0});
    log_info("mod", "two");
    struct buf text = captured();
    assert_non_null(strstr(buf_text(&text), "msg=one job=j.1 event=default/m tenant=biz_x\n"));
    assert_non_null(strstr(buf_text(&text), "msg=two\n"));
    buf_close(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logfmt),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
