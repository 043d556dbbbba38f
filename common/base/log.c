#include "base/log.h"

#include "base/buf.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *program;
    enum log_level level;
    enum log_format format;
} settings = {"whopline", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT};

static _Thread_local struct log_about current;

void log_init(const char *program, enum log_level level, enum log_format format)
{
    settings.program = program;
    settings.level = level;
    settings.format = format;
}

void log_about(struct log_about about)
{
    current = about;
}

struct log_about log_about_now(void)
{
    return current;
}

enum log_level log_level_now(void)
{
    return settings.level;
}

enum log_format log_format_now(void)
{
    return settings.format;
}

/* Both formats quote alike: JSON's escapes are a superset of what logfmt readers understand. */
static void add_quoted(struct buf *line, const char *text)
{
    buf_add_text(line, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            buf_printf(line, "\\%c", *c);
        else if (*c == '\n')
            buf_add_text(line, "\\n");
        else if (*c < 0x20 || *c == 0x7f)
            buf_printf(line, "\\u%04x", *c);
        else
            buf_add(line, c, 1);
    }
    buf_add_text(line, "\"");
}

static bool is_plain(const char *text)
{
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++)
        if ((unsigned char)*text <= 0x20 || *text == '"' || *text == '=' || *text == '\\' ||
            (unsigned char)*text >= 0x7f)
            return false;
    return true;
}

static void add_name(struct buf *line, const char *name)
{
    if (settings.format == LOG_FORMAT_JSON)
        buf_printf(line, "%s\"%s\":", line->len > 1 ? "," : "", name);
    else
        buf_printf(line, "%s%s=", line->len > 0 ? " " : "", name);
}

static void add_text(struct buf *line, const char *name, const char *text)
{
    add_name(line, name);
    if (settings.format == LOG_FORMAT_LOGFMT && is_plain(text))
        buf_add_text(line, text);
    else
        add_quoted(line, text);
}

static void add_time(struct buf *line)
{
    struct timespec now;
    struct tm utc;
    char text[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, sizeof text - len, ".%03ldZ", now.tv_nsec / 1000000);
    add_text(line, "ts", text);
}

void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (level < settings.level)
        return;
    struct buf line = {0};
    bool json = settings.format == LOG_FORMAT_JSON;
    if (json)
        buf_add_text(&line, "{");
    add_time(&line);
    add_text(&line, "level", names[level]);
    add_text(&line, "program", settings.program);
    add_text(&line, "module", module);
    add_text(&line, "msg", message);
    if (current.job != NULL)
        add_text(&line, "job", current.job);
    if (current.event != NULL)
        add_text(&line, "event", current.event);
    if (current.tenant != NULL)
        add_text(&line, "tenant", current.tenant);
    for (; fields->name != NULL; fields++) {
        if (fields->text != NULL) {
            add_text(&line, fields->name, fields->text);
        } else {
            add_name(&line, fields->name);
            buf_printf(&line, "%lld", (long long)fields->number);
        }
    }
    buf_add_text(&line, json ? "}\n" : "\n");
    /* A log that cannot be written must not stop the work. */
    ssize_t written = write(STDERR_FILENO, line.ptr, line.len);
    (void)written;
    buf_close(&line);
}
