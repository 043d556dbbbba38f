#include "codec/cron.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

enum {
    FIELDS = 5,
    TEXT_MAX = 256,
    MINUTES_PER_HOUR = 60,
    MINUTES_PER_DAY = 1440,
    DAYS_PER_ERA = 146097, /* 400 years */
    EPOCH_WEEKDAY = 4,     /* 1970-01-01 was a Thursday */
    LAST_DAY = 2932896,    /* 9999-12-31 */
};

struct field {
    const char *name;
    int min;
    int max;
    const char *const *names; /* of the values from min on; NULL for none */
    size_t name_count;
};

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

enum field_place { MINUTE, HOUR, DAY, MONTH, WEEKDAY };
static const struct field fields[FIELDS] = {
    [MINUTE] = {"minute", 0, 59, NULL, 0},
    [HOUR] = {"hour", 0, 23, NULL, 0},
    [DAY] = {"day of month", 1, 31, NULL, 0},
    [MONTH] = {"month", 1, 12, month_names, ARRAY_LEN(month_names)},
    [WEEKDAY] = {"day of week", 0, 7, day_names, ARRAY_LEN(day_names)},
};

/* --- reading --------------------------------------------------------------------------------- */

static struct err wrong(const struct field *field, const char *why, const char *text, size_t len)
{
    return err_make(ERR_USAGE, "cron, %s: %s: \"%.*s\"", field->name, why,
                    (int)(len < 40 ? len : 40), text);
}

/* A number or a name at *text, which moves behind it; -1: neither. */
static int read_value(const struct field *field, const char **text)
{
    if (isdigit((unsigned char)**text)) {
        char *end;
        unsigned long number = strtoul(*text, &end, 10);
        size_t digits = (size_t)(end - *text);
        *text = end;
        return digits <= 4 ? (int)number : INT16_MAX;
    }
    for (size_t i = 0; i < field->name_count; i++) {
        if (strncasecmp(*text, field->names[i], 3) == 0) {
            *text += 3;
            return field->min + (int)i;
        }
    }
    return -1;
}

/* The range's ends; a step asks for one, so *is_range says whether there was. */
static struct err read_range(const struct field *field, const char **at, const char *whole,
                             size_t len, int *from, int *to, bool *is_range)
{
    *is_range = true;
    *from = field->min;
    *to = field == &fields[WEEKDAY] ? 6 : field->max;
    if (**at == '*') {
        ++*at;
        return ERR_NONE;
    }
    *from = *to = read_value(field, at);
    if (*from < 0)
        return wrong(field,
                     field->names != NULL ? "expected *, a number or a name (mon, jan ...)"
                                          : "expected * or a number",
                     whole, len);
    *is_range = **at == '-';
    if (*is_range) {
        ++*at;
        *to = read_value(field, at);
        if (*to == 0 && *from > 0 && field == &fields[WEEKDAY])
            *to = 7; /* sat-sun */
        if (*to < 0)
            return wrong(field, "the range has no end", whole, len);
    }
    if (*from < field->min || *from > field->max || *to < field->min || *to > field->max)
        return err_make(ERR_USAGE, "cron, %s: goes from %d to %d, not \"%.*s\"", field->name,
                        field->min, field->max, (int)(len < 40 ? len : 40), whole);
    if (*to < *from)
        return wrong(field, "the range ends before it begins", whole, len);
    return ERR_NONE;
}

/* One of a list: *, 5, 1-5, or one of *, 1-5 with a step. */
static struct err read_item(const struct field *field, const char *text, size_t len, uint64_t *bits)
{
    const char *at = text;
    int from;
    int to;
    int step = 1;
    bool is_range;
    TRY(read_range(field, &at, text, len, &from, &to, &is_range));
    if (*at == '/') {
        ++at;
        step = isdigit((unsigned char)*at) ? read_value(field, &at) : 0;
        if (!is_range)
            return wrong(field, "a step needs a range or * before it", text, len);
        if (step < 1 || step > field->max)
            return wrong(field, "the step must be a number from 1 on, within the field", text, len);
    }
    if (at != text + len)
        return wrong(field, "not understood", text, len);
    for (unsigned value = (unsigned)from; value <= (unsigned)to; value += (unsigned)step)
        *bits |= (uint64_t)1 << value;
    return ERR_NONE;
}

static struct err read_field(const struct field *field, const char *text, uint64_t *bits)
{
    *bits = 0;
    for (;;) {
        size_t len = strcspn(text, ",");
        if (len == 0)
            return err_make(ERR_USAGE, "cron, %s: something is missing beside a comma",
                            field->name);
        TRY(read_item(field, text, len, bits));
        if (text[len] == '\0')
            return ERR_NONE;
        text += len + 1;
    }
}

static const char *nickname(const char *text)
{
    static const char *const names[][2] = {
        {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
        {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
        {"@annually", "0 0 1 1 *"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(text, names[i][0]) == 0)
            return names[i][1];
    return NULL;
}

/* Cuts the text in place at its blanks. */
static size_t split(char *text, char *words[FIELDS + 1])
{
    size_t count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t", &rest); word != NULL && count <= FIELDS;
         word = strtok_r(NULL, " \t", &rest))
        words[count++] = word;
    return count;
}

static struct err read_fields(char *words[], struct cron *out)
{
    uint64_t bits[FIELDS];
    for (size_t i = 0; i < FIELDS; i++)
        TRY(read_field(&fields[i], words[i], &bits[i]));
    bits[WEEKDAY] |= bits[WEEKDAY] >> 7 & 1;
    *out = (struct cron){
        .minutes = bits[MINUTE],
        .hours = (uint32_t)bits[HOUR],
        .days = (uint32_t)bits[DAY],
        .months = (uint32_t)bits[MONTH],
        .weekdays = (uint32_t)bits[WEEKDAY] & 0x7f,
        .either_day = words[DAY][0] != '*' && words[WEEKDAY][0] != '*',
    };
    int64_t unused;
    if (!cron_next(out, 0, &unused))
        return err_make(ERR_USAGE,
                        "cron, day of month: no such day ever comes: \"%.40s\" in \"%.40s\"",
                        words[DAY], words[MONTH]);
    return ERR_NONE;
}

struct err cron_parse(const char *text, struct cron *out)
{
    char copy[TEXT_MAX];
    char *words[FIELDS + 1];
    if (strlen(text) >= sizeof copy)
        return err_make(ERR_USAGE, "cron: longer than %d characters", TEXT_MAX - 1);
    memcpy(copy, text, strlen(text) + 1);
    size_t count = split(copy, words);
    if (count == 1 && words[0][0] == '@') {
        const char *meant = nickname(words[0]);
        if (meant == NULL)
            return err_make(ERR_USAGE,
                            "cron: there is no \"%.40s\"; there are @hourly, @daily, @weekly,"
                            " @monthly and @yearly",
                            words[0]);
        memcpy(copy, meant, strlen(meant) + 1);
        count = split(copy, words);
    }
    if (count != FIELDS)
        return err_make(ERR_USAGE,
                        "cron: five fields are needed (minute, hour, day of month, month, day of"
                        " week), there are %s",
                        count > FIELDS ? "more" : "fewer");
    return read_fields(words, out);
}

/* --- searching ------------------------------------------------------------------------------- */

struct date {
    unsigned day;     /* from 1 */
    unsigned month;   /* from 1 */
    unsigned weekday; /* 0: Sunday */
};

/* Days since 1970-01-01, not negative, in the Gregorian calendar; after Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms", civil_from_days. */
static struct date date_of(int64_t days)
{
    unsigned era_day = (unsigned)((days + 719468) % DAYS_PER_ERA);
    unsigned era_year =
        (era_day - era_day / 1460 + era_day / 36524 - era_day / (DAYS_PER_ERA - 1)) / 365;
    unsigned year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    unsigned march_month = (5 * year_day + 2) / 153;
    return (struct date){
        .day = year_day - (153 * march_month + 2) / 5 + 1,
        .month = march_month < 10 ? march_month + 3 : march_month - 9,
        .weekday = (unsigned)((days + EPOCH_WEEKDAY) % 7),
    };
}

static bool day_matches(const struct cron *cron, int64_t days)
{
    struct date date = date_of(days);
    bool day = (cron->days >> date.day & 1) != 0;
    bool weekday = (cron->weekdays >> date.weekday & 1) != 0;
    return (cron->months >> date.month & 1) != 0 &&
           (cron->either_day ? day || weekday : day && weekday);
}

/* The first minute of a day from that one on that matches; -1: none. */
static int minute_of_day(const struct cron *cron, int from)
{
    for (int hour = from / MINUTES_PER_HOUR; hour < 24; hour++) {
        int minute = hour == from / MINUTES_PER_HOUR ? from % MINUTES_PER_HOUR : 0;
        if ((cron->hours >> hour & 1) == 0)
            continue;
        for (; minute < MINUTES_PER_HOUR; minute++)
            if ((cron->minutes >> minute & 1) != 0)
                return hour * MINUTES_PER_HOUR + minute;
    }
    return -1;
}

bool cron_next(const struct cron *cron, int64_t after, int64_t *out)
{
    int64_t at = after < 0 ? 0 : after < INT64_MAX ? after + 1 : after;
    int64_t first = at / MINUTES_PER_DAY;
    int64_t end = first + (int64_t)CRON_YEARS * 366;
    for (int64_t day = first; day <= end && day <= LAST_DAY; day++) {
        int minute = day_matches(cron, day)
                         ? minute_of_day(cron, day == first ? (int)(at % MINUTES_PER_DAY) : 0)
                         : -1;
        if (minute >= 0) {
            *out = day * MINUTES_PER_DAY + minute;
            return true;
        }
    }
    return false;
}

bool cron_is_hourly(const struct cron *cron)
{
    return cron->hours == (1U << 24) - 1;
}

/* A local minute beyond the change's reach is later than the moment for certain. What comes within
 * such a reach of it may yet be earlier: it may not exist, and stand for a later one. */
size_t cron_window(const struct cron *cron, int64_t local, int64_t out[CRON_WINDOW_MAX])
{
    size_t count = 0;
    int64_t at = local - CRON_CHANGE_MINUTES - 1;
    int64_t certain = -1;
    while (count < CRON_WINDOW_MAX && cron_next(cron, at, &at)) {
        if (certain >= 0 && at > certain + CRON_CHANGE_MINUTES)
            break;
        if (certain < 0 && at > local + CRON_CHANGE_MINUTES)
            certain = at;
        out[count++] = at;
    }
    return count;
}
