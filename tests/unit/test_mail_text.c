/* Covers codec/mail_text: what a template may say, and what becomes of the values it is given. */
#include "codec/mail_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_check(void **state)
{
    (void)state;
    static const struct {
        enum mail_text_kind kind;
        const char *text;
        const char *problems;
    } cases[] = {
        {MAIL_TEXT_PLAIN, "Hello {{name}}, {{ tier }}!", ""},
        {MAIL_TEXT_PLAIN, "a } b { c {d}", "f: does not show {{name}}\n"},
        {MAIL_TEXT_PLAIN, "{{name}}\n\n{{nmae}}", "f:3: unknown placeholder nmae\n"},
        {MAIL_TEXT_PLAIN, "{{name}} {{name", "f:1: no placeholder such as {{name}}: {{name\n"},
        {MAIL_TEXT_PLAIN, "{{name}} {{Name}}",
         "f:1: no placeholder such as {{name}}: {{Name}}\nf:1: }} without {{\n"},
        {MAIL_TEXT_PLAIN, "{{name}} }}", "f:1: }} without {{\n"},
        {MAIL_TEXT_PLAIN, "{{name}} {{}}",
         "f:1: no placeholder such as {{name}}: {{}}\nf:1: }} without {{\n"},
        {MAIL_TEXT_HTML, "<p class=\"x\">{{name}}</p>", ""},
        {MAIL_TEXT_HTML, "{{name}} {{& tier}}",
         "f:1: a value that is not escaped: write {{name}}\nf:1: }} without {{\n"},
        {MAIL_TEXT_HTML, "<a href=\"{{name}}\">{{name}}</a>",
         "f:1: a placeholder within a tag, a comment, a script or a style: name\n"},
        {MAIL_TEXT_HTML, "{{name}}<style>a > b {{tier}}</style>{{tier}}",
         "f:1: a placeholder within a tag, a comment, a script or a style: tier\n"},
        {MAIL_TEXT_HTML, "{{name}}<SCRIPT>\n{{tier}}</script>",
         "f:2: a placeholder within a tag, a comment, a script or a style: tier\n"},
        {MAIL_TEXT_HTML, "{{name}}<!-- {{tier}} -->",
         "f:1: a placeholder within a tag, a comment, a script or a style: tier\n"},
        {MAIL_TEXT_HTML, "{{name}}<!-- don't > --> {{tier}} <b title='>' id='{{tier}}'>",
         "f:1: a placeholder within a tag, a comment, a script or a style: tier\n"},
        {MAIL_TEXT_HTML, "", "f: does not show {{name}}\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf problems = {0};
        mail_text_check(cases[i].kind, "f", cases[i].text, "name tier", "name", &problems);
        if (strcmp(buf_text(&problems), cases[i].problems) != 0)
            fail_msg("%s: %s", cases[i].text, buf_text(&problems));
        buf_close(&problems);
    }
}

static const char *value_of(const char *name, void *data)
{
    return strcmp(name, "name") == 0 ? data : NULL;
}

static void test_fill(void **state)
{
    (void)state;
    static const struct {
        enum mail_text_kind kind;
        const char *text;
        const char *value;
        const char *filled;
    } cases[] = {
        {MAIL_TEXT_PLAIN, "a {{name}} b {{ name }}", "x", "a x b x"},
        {MAIL_TEXT_PLAIN, "{{tier}}|", "x", "|"},
        {MAIL_TEXT_PLAIN, "{{name}}", "<&>\"'", "<&>\"'"},
        {MAIL_TEXT_HTML, "<p>{{name}}</p>", "<&>\"'", "<p>&lt;&amp;&gt;&quot;&#39;</p>"},
        {MAIL_TEXT_PLAIN, "{{name}}", "a\r\nBcc: x\tb\x7f", "a  Bcc: x b "},
        {MAIL_TEXT_PLAIN, "{{name}}", "{{name}}", "{{name}}"},
        {MAIL_TEXT_HTML, "{{name}}", "&amp;", "&amp;amp;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        char value[64];
        snprintf(value, sizeof value, "%s", cases[i].value);
        mail_text_fill(cases[i].kind, cases[i].text, value_of, value, &out);
        assert_string_equal(buf_text(&out), cases[i].filled);
        buf_close(&out);
    }
}

/* Never within a character of UTF-8. */
static void test_long_values_are_cut(void **state)
{
    (void)state;
    char value[MAIL_VALUE_MAX + 20];
    struct buf out = {0};
    memset(value, 'a', sizeof value);
    memcpy(value + MAIL_VALUE_MAX - 1, "\xc3\xbc", 2);
    value[sizeof value - 1] = '\0';
    mail_text_fill(MAIL_TEXT_PLAIN, "{{name}}", value_of, value, &out);
    assert_int_equal(out.len, MAIL_VALUE_MAX - 1);
    buf_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_long_values_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
