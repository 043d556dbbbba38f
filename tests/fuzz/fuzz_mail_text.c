/* Any bytes as a template: what the check lets pass is filled in, and no value leaves its place. */
#include "codec/mail_text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *hostile(const char *name, void *data)
{
    (void)name;
    (void)data;
    return "<script>\r\n\"'&";
}

static size_t count(const char *text, char c)
{
    size_t found = 0;
    for (; *text != '\0'; text++)
        found += *text == c;
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf problems = {0};
    struct buf out = {0};
    char *text = mem_alloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    mail_text_check(MAIL_TEXT_HTML, "f", text, "name tier", "", &problems);
    mail_text_fill(MAIL_TEXT_HTML, text, hostile, NULL, &out);
    if (problems.len == 0) {
        REQUIRE(count(buf_text(&out), '<') == count(text, '<'));
        REQUIRE(count(buf_text(&out), '\n') == count(text, '\n'));
    }
    buf_close(&problems);
    buf_close(&out);
    free(text);
    return 0;
}
