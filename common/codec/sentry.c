#include "codec/sentry.h"

#include "base/random.h"
#include "codec/encoding.h"
#include "codec/json.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#define MASK "[scrubbed]"

/* --- DSN ------------------------------------------------------------------------------------- */

static struct err refuse(const char *why)
{
    return err_make(ERR_CONFIG, "SENTRY_DSN: %s; it looks like https://KEY@HOST/PROJECT", why);
}

/* Not empty, fits, and made of letters, digits and others. */
static bool copy_word(struct span text, const char *others, char *out, size_t size)
{
    if (text.len == 0 || text.len >= size)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum((unsigned char)text.ptr[i]) && strchr(others, text.ptr[i]) == NULL)
            return false;
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

static struct span between(const char *from, const char *to)
{
    return (struct span){from, (size_t)(to - from)};
}

static bool is_host(struct span text)
{
    char host[256];
    if (!copy_word(text, ".-_:[]", host, sizeof host))
        return false;
    const char *port = strrchr(host, ':');
    if (port == NULL || strchr(port, ']') != NULL)
        return true;
    return port != host && port[1] != '\0' && strlen(port + 1) <= 5 &&
           strspn(port + 1, "0123456789") == strlen(port + 1);
}

static bool parse_credentials(struct span text, struct sentry_dsn *out)
{
    const char *colon = memchr(text.ptr, ':', text.len);
    struct span key = colon != NULL ? between(text.ptr, colon) : text;
    if (!copy_word(key, "-_", out->key, sizeof out->key))
        return false;
    return colon == NULL || copy_word(between(colon + 1, text.ptr + text.len), "-_", out->secret,
                                      sizeof out->secret);
}

struct err sentry_dsn_parse(const char *text, struct sentry_dsn *out)
{
    char path[256] = "";
    char project[64];
    *out = (struct sentry_dsn){0};
    if (strlen(text) >= REPORT_DSN_MAX)
        return refuse("too long");
    if (strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0)
        return refuse("begins with neither https:// nor http://");
    const char *rest = strstr(text, "://") + 3;
    const char *slash = strchr(rest, '/');
    const char *at = strchr(rest, '@');
    if (at == NULL || (slash != NULL && slash < at))
        return refuse("has no key before an @");
    if (!parse_credentials(between(rest, at), out))
        return refuse("the key has odd characters");
    if (slash == NULL || !is_host(between(at + 1, slash)))
        return refuse("the host is not one");
    const char *last = strrchr(slash, '/');
    if (!copy_word(span_of(last + 1), "-_", project, sizeof project))
        return refuse("has no project at its end");
    if (last > slash && !copy_word(between(slash, last), "/-_.~", path, sizeof path))
        return refuse("the path has odd characters");
    snprintf(out->url, sizeof out->url, "%.*s%.*s%s/api/%s/envelope/", (int)(rest - text), text,
             (int)(slash - at - 1), at + 1, path, project);
    return ERR_NONE;
}

void sentry_dsn_check(const char *text, struct buf *problems)
{
    struct sentry_dsn dsn;
    if (text_is_empty(text))
        return;
    struct err err = sentry_dsn_parse(text, &dsn);
    if (err_failed(&err))
        buf_printf(problems, "%s\n", err_text(&err));
}

void sentry_write_auth(const struct sentry_dsn *dsn, struct buf *out)
{
    buf_printf(out,
               "X-Sentry-Auth: Sentry sentry_version=7, sentry_client=whopline/" WHOPLINE_VERSION
               ", sentry_key=%s",
               dsn->key);
    if (!text_is_empty(dsn->secret))
        buf_printf(out, ", sentry_secret=%s", dsn->secret);
}

/* --- scrubbing ------------------------------------------------------------------------------- */

static bool ends_word(char c)
{
    return c == '\0' || isspace((unsigned char)c) || strchr("\"'(),;<>[]{}", c) != NULL;
}

static bool has_word(struct span text, const char *word)
{
    size_t len = strlen(word);
    for (size_t i = 0; i + len <= text.len; i++)
        if (strncasecmp(text.ptr + i, word, len) == 0)
            return true;
    return false;
}

/* Secrets of Whop and of those it is used beside, by how they begin. */
static bool is_secret(struct span word)
{
    static const char *const prefixes[] = {"ws_", "whsec_", "apik_", "sk_", "sk-", "rk_", "eyJ"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (word.len > len && strncmp(word.ptr, prefixes[i], len) == 0)
            return true;
    }
    return false;
}

static bool names_secret(struct span name)
{
    return has_word(name, "password") || has_word(name, "passwd") || has_word(name, "secret") ||
           has_word(name, "token") || has_word(name, "apikey") || has_word(name, "api_key") ||
           has_word(name, "authorization");
}

/* From an opening quote to behind the closing one, or to the end. */
static const char *skip_quoted(const char *at)
{
    const char *end = strchr(at + 1, *at);
    return end != NULL ? end + 1 : at + strlen(at);
}

/* One word, or name=value with a value in quotes; returns what follows. */
static const char *scrub_word(const char *at, bool secret, struct buf *out)
{
    const char *end = at;
    while (!ends_word(*end))
        end++;
    const char *equals = memchr(at, '=', (size_t)(end - at));
    if (equals != NULL && memchr(at, '@', (size_t)(equals - at)) == NULL &&
        names_secret(between(at, equals))) {
        buf_add(out, at, (size_t)(equals + 1 - at));
        buf_add_text(out, MASK);
        return equals[1] == '\'' || equals[1] == '"' ? skip_quoted(equals + 1) : end;
    }
    struct span word = between(at, end);
    if (secret || memchr(at, '@', word.len) != NULL || is_secret(word) ||
        (equals != NULL && is_secret(between(equals + 1, end))))
        buf_add_text(out, MASK);
    else
        buf_add(out, at, word.len);
    return end;
}

void sentry_scrub(const char *text, struct buf *out)
{
    bool secret = false; /* the word before was "Bearer" */
    const char *at = text;
    while (*at != '\0') {
        /* PostgreSQL quotes names as it does values, but puts a colon before the latter. */
        if (*at == '"' && at - text >= 2 && at[-1] == ' ' && at[-2] == ':') {
            buf_add_text(out, "\"" MASK "\"");
            at = skip_quoted(at);
        } else if (ends_word(*at)) {
            buf_add(out, at++, 1);
        } else {
            const char *word = at;
            at = scrub_word(at, secret, out);
            secret = at - word == 6 && strncasecmp(word, "bearer", 6) == 0;
        }
    }
}

/* --- the event ------------------------------------------------------------------------------- */

const char *sentry_signal_name(int number)
{
    switch (number) {
    case SIGSEGV: return "SIGSEGV";
    case SIGABRT: return "SIGABRT";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGILL: return "SIGILL";
    default: return "";
    }
}

/* In UTF-8, whatever it was. */
static void put_utf8(struct json_writer *writer, const char *key, struct buf *text)
{
    if (!encoding_is_text(buf_span(text)))
        for (size_t i = 0; i < text->len; i++)
            if (((unsigned char)text->ptr[i] & 0x80U) != 0)
                text->ptr[i] = '?';
    json_put_text(writer, key, buf_text(text));
}

/* Scrubbed; left out where there is none. */
static void put_text(struct json_writer *writer, const char *key, const char *text)
{
    struct buf clean = {0};
    if (text_is_empty(text))
        return;
    sentry_scrub(text, &clean);
    put_utf8(writer, key, &clean);
    buf_close(&clean);
}

/* Chosen by us or by the operator, for these reports. */
static void put_own(struct json_writer *writer, const char *key, const char *text)
{
    struct buf copy = {0};
    buf_add_text(&copy, text);
    put_utf8(writer, key, &copy);
    buf_close(&copy);
}

static void put_time(struct json_writer *writer, const char *key, int64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm utc;
    char text[40];
    gmtime_r(&seconds, &utc);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, sizeof text - len, ".%03dZ", (int)(time_ms % 1000));
    json_put_text(writer, key, text);
}

/* Sentry's form of a UUID has no dashes. */
static void put_id(struct json_writer *writer, const char *key, const char *id)
{
    char plain[UUID_TEXT_SIZE];
    size_t len = 0;
    for (; *id != '\0' && len < sizeof plain - 1; id++)
        if (*id != '-')
            plain[len++] = *id;
    plain[len] = '\0';
    json_put_text(writer, key, plain);
}

static const char *type_of(const struct report *report)
{
    if (report->what == REPORT_DEAD_JOB)
        return report->error;
    const char *name = sentry_signal_name(report->signal);
    return text_is_empty(name) ? "vanished" : name;
}

static void put_value(struct json_writer *writer, const struct sentry_source *source,
                      const struct report *report)
{
    struct buf value = {0};
    if (report->what == REPORT_DEAD_JOB)
        buf_printf(&value, "%s: %s", report->kind, report->reason);
    else if (report->signal != 0)
        buf_printf(&value, "%s ended by signal %d%s%s", source->program, (int)report->signal,
                   text_is_empty(report->reason) ? "" : ": ", report->reason);
    else
        buf_printf(&value, "%s was killed, or vanished without a word", source->program);
    put_text(writer, "value", buf_text(&value));
    buf_close(&value);
}

static void put_exception(struct json_writer *writer, const struct sentry_source *source,
                          const struct report *report)
{
    json_begin_object(writer, "exception");
    json_begin_array(writer, "values");
    json_begin_object(writer, NULL);
    put_text(writer, "type", type_of(report));
    put_value(writer, source, report);
    json_begin_object(writer, "mechanism");
    json_put_text(writer, "type", report->what == REPORT_DEAD_JOB ? "dead_job" : "crash");
    json_put_flag(writer, "handled", report->what == REPORT_DEAD_JOB);
    json_end_object(writer);
    json_end_object(writer);
    json_end_array(writer);
    json_end_object(writer);
}

static void put_details(struct json_writer *writer, const struct sentry_source *source,
                        const struct report *report, int64_t left_out)
{
    json_begin_object(writer, "tags");
    put_text(writer, "program", source->program);
    put_text(writer, "kind", report->kind);
    put_text(writer, "queue", report->queue);
    put_text(writer, "error", report->error);
    put_text(writer, "signal", sentry_signal_name(report->signal));
    if (report->tenant != 0)
        json_put_integer(writer, "tenant", report->tenant);
    json_end_object(writer);
    json_begin_object(writer, "extra");
    put_text(writer, "job", report->job);
    put_text(writer, "event", report->event);
    put_text(writer, "reason", report->reason);
    if (report->what == REPORT_DEAD_JOB) {
        json_put_integer(writer, "attempts", report->attempts);
        json_put_integer(writer, "deliveries", report->deliveries);
    }
    json_put_integer(writer, "pid", source->pid);
    json_put_integer(writer, "uptime_s", source->uptime_ms / 1000);
    json_put_integer(writer, "left_out", left_out);
    json_put_integer(writer, "dropped", report->dropped);
    json_end_object(writer);
    /* What Sentry takes for one and the same. A dead job's reason may name the job. */
    json_begin_array(writer, "fingerprint");
    json_put_text(writer, NULL, report->what == REPORT_DEAD_JOB ? "dead_job" : "crash");
    put_text(writer, NULL, report->what == REPORT_DEAD_JOB ? report->kind : source->program);
    put_text(writer, NULL, type_of(report));
    if (report->what != REPORT_DEAD_JOB)
        put_text(writer, NULL, report->reason);
    json_end_array(writer);
}

void sentry_write_envelope(const struct sentry_source *source, const struct report *report,
                           int64_t left_out, const char *id, int64_t now_ms, struct buf *out)
{
    struct buf event = {0};
    struct json_writer writer = {.out = &event};
    json_begin_object(&writer, NULL);
    put_id(&writer, "event_id", id);
    put_time(&writer, "timestamp", report->time_ms != 0 ? report->time_ms : now_ms);
    json_put_text(&writer, "platform", "native");
    json_put_text(&writer, "level", report->what == REPORT_DEAD_JOB ? "error" : "fatal");
    json_put_text(&writer, "logger", source->program);
    put_own(&writer, "release", source->release);
    put_own(&writer, "environment", source->environment);
    put_own(&writer, "server_name", source->host);
    put_exception(&writer, source, report);
    put_details(&writer, source, report, left_out);
    json_end_object(&writer);

    writer = (struct json_writer){.out = out};
    json_begin_object(&writer, NULL);
    put_id(&writer, "event_id", id);
    put_time(&writer, "sent_at", now_ms);
    json_end_object(&writer);
    buf_printf(out, "\n{\"type\":\"event\",\"content_type\":\"application/json\",\"length\":%zu}\n",
               event.len);
    buf_add(out, event.ptr, event.len);
    buf_add_text(out, "\n");
    buf_close(&event);
}
