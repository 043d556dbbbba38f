/* A DSN and a reason. A refused DSN leaves no URL with a foreign byte, a scrubbed text holds no @,
 * and an envelope is JSON whatever bytes come. */
#include "codec/json.h"
#include "codec/sentry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_dsn(const char *text)
{
    struct sentry_dsn dsn;
    struct buf auth = {0};
    struct err err = sentry_dsn_parse(text, &dsn);
    if (err_failed(&err))
        return;
    sentry_write_auth(&dsn, &auth);
    for (const char *c = buf_text(&auth); *c != '\0'; c++)
        REQUIRE(*c >= ' ' && *c <= '~');
    for (const char *c = dsn.url; *c != '\0'; c++)
        REQUIRE(*c > ' ' && *c <= '~' && *c != '@');
    buf_close(&auth);
}

static void check_envelope(const char *text)
{
    static const struct sentry_source source = {"program", "release", "", "", 1, 1};
    struct report report = {.what = REPORT_DEAD_JOB};
    struct buf out = {0};
    report_set_text(report.reason, sizeof report.reason, text);
    report_set_text(report.event, sizeof report.event, text);
    sentry_write_envelope(&source, &report, 0, "0", 0, &out);
    const char *event = strchr(buf_text(&out), '\n') + 1;
    event = strchr(event, '\n') + 1;
    const char *end = buf_text(&out) + out.len - 1;
    REQUIRE(*end == '\n' && strchr(event, '\n') == end && strchr(event, '@') == NULL);
    struct json_doc *doc = json_parse((struct span){event, (size_t)(end - event)});
    REQUIRE(doc != NULL);
    json_free(doc);
    buf_close(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text = {0};
    buf_add(&text, data, size);
    check_dsn(buf_text(&text));
    check_envelope(buf_text(&text));
    buf_close(&text);
    return 0;
}
