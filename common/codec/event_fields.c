#include "codec/event_fields.h"

void event_quarantine(struct event *event, const char *reason)
{
    if (text_is_empty(event->quarantine))
        event->quarantine = reason;
}

void event_pick(const struct reading *reading, const struct json_value *object,
                const char *const *names, size_t count, const struct json_value **out)
{
    if (!json_pick(object, names, count, out))
        event_quarantine(reading->event, "duplicate_key");
}

void event_read_data(const struct reading *reading, const struct json_value *object,
                     struct data *out)
{
    static const char *const names[] = {
#define X(name) #name,
        DATA_MEMBERS(X)
#undef X
    };
    event_pick(reading, object, names, DATA_COUNT, out->at);
}

const struct json_value *event_member(const struct reading *reading,
                                      const struct json_value *object, const char *name)
{
    const struct json_value *value = NULL;
    event_pick(reading, object, &name, 1, &value);
    return value;
}

const char *event_text(const struct reading *reading, const struct json_value *value)
{
    bool odd = false;
    const char *text = json_text(value, reading->arena, &odd);
    if (odd)
        event_quarantine(reading->event, "nul_in_text");
    if (strlen(text) <= EVENT_TEXT_MAX)
        return text;
    event_quarantine(reading->event, "too_long");
    return "";
}

const char *event_hint(const struct reading *reading, const struct json_value *value)
{
    bool odd = false;
    const char *text = json_text(value, reading->arena, &odd);
    return odd || strlen(text) > EVENT_TEXT_MAX ? "" : text;
}

const char *event_id(const struct reading *reading, const struct json_value *value)
{
    if (json_is_object(value))
        value = event_member(reading, value, "id");
    return event_text(reading, value);
}

const char *event_either(const char *first, const char *second)
{
    return text_is_empty(first) ? second : first;
}

/* Exactly count digits; moves text behind them. */
static bool take_digits(const char **text, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, ++*text) {
        if (**text < '0' || **text > '9')
            return false;
        *out = *out * 10 + (**text - '0');
    }
    return true;
}

static bool take_char(const char **text, const char *allowed)
{
    if (**text == '\0' || strchr(allowed, **text) == NULL)
        return false;
    ++*text;
    return true;
}

/* A fraction of a second, if there is one, cut to ms. */
static bool take_fraction(const char **text, int *out_ms)
{
    int weight = 100;
    *out_ms = 0;
    if (**text != '.')
        return true;
    ++*text;
    if (**text < '0' || **text > '9')
        return false;
    for (; **text >= '0' && **text <= '9'; ++*text, weight /= 10)
        *out_ms += (**text - '0') * weight;
    return true;
}

static bool take_offset(const char **text, int *out_seconds)
{
    int hours = 0;
    int minutes = 0;
    bool west = **text == '-';
    *out_seconds = 0;
    if (take_char(text, "Zz"))
        return true;
    if (!take_char(text, "+-") || !take_digits(text, 2, &hours))
        return false;
    take_char(text, ":");
    if (!take_digits(text, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *out_seconds = (hours * 60 + minutes) * (west ? -60 : 60);
    return true;
}

/* Days of the Gregorian calendar since 1970-01-01. Counted from March 1st of the year 0, so that a
 * leap day is the last of its year. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t months = month > 2 ? month - 3 : month + 9; /* since March */
    int64_t day_of_year = (153 * months + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* 2026-08-10T09:00:03.000Z, also with an offset; a time without one could mean anything. */
static bool parse_iso(const char *text, int64_t *out_ms)
{
    int year = 0;
    int month = 0;
    int day = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
    int ms = 0;
    int offset = 0;
    if (!take_digits(&text, 4, &year) || !take_char(&text, "-") || !take_digits(&text, 2, &month) ||
        !take_char(&text, "-") || !take_digits(&text, 2, &day) || !take_char(&text, "Tt ") ||
        !take_digits(&text, 2, &hour) || !take_char(&text, ":") ||
        !take_digits(&text, 2, &minute) || !take_char(&text, ":") ||
        !take_digits(&text, 2, &second) || !take_fraction(&text, &ms) ||
        !take_offset(&text, &offset) || *text != '\0')
        return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in(year, month) || hour > 23 ||
        minute > 59 || second > 60)
        return false;
    int64_t seconds = days_of(year, month, day) * 86400 + (int64_t)hour * 3600 +
                      (int64_t)minute * 60 + second - offset;
    *out_ms = seconds * 1000 + ms;
    return true;
}

/* At most 11 digits: seconds until the year 5138; more would be another unit. */
static bool parse_seconds(const char *text, int64_t *out_ms)
{
    int64_t seconds = 0;
    int ms = 0;
    size_t digits = 0;
    for (; *text >= '0' && *text <= '9'; text++, digits++)
        if (digits < 11)
            seconds = seconds * 10 + (*text - '0');
    if (digits == 0 || digits > 11 || !take_fraction(&text, &ms) || *text != '\0')
        return false;
    *out_ms = seconds * 1000 + ms;
    return true;
}

bool event_parse_time(const char *text, int64_t *out_ms)
{
    return parse_seconds(text, out_ms) || parse_iso(text, out_ms);
}

bool event_time(const struct reading *reading, const struct json_value *value, int64_t *out_ms)
{
    const char *text = event_text(reading, value);
    int64_t ms = 0;
    /* 0 is how a payload says "none" (jobs.def), and no event is of 1970. */
    if (text_is_empty(text) || !event_parse_time(text, &ms) || ms <= 0)
        return false;
    *out_ms = ms;
    return true;
}
