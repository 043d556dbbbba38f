#include "cli/when.h"

#include <ctype.h>
#include <stdlib.h>

enum { AGE_DIGITS_MAX = 6 };

static bool parse_age(const char *text, struct buf *out)
{
    static const struct {
        char letter;
        const char *name;
    } units[] = {{'s', "seconds"}, {'m', "minutes"}, {'h', "hours"}, {'d', "days"}, {'w', "weeks"}};
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > AGE_DIGITS_MAX || text[digits] == '\0' || text[digits + 1] != '\0')
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (text[digits] == units[i].letter) {
            buf_printf(out, "%.*s %s", (int)digits, text, units[i].name);
            return true;
        }
    }
    return false;
}

/* How much of the text has the shape ('0' stands for a digit), or 0 if it does not begin like it.
 */
static size_t match(const char *text, const char *shape)
{
    size_t i = 0;
    for (; shape[i] != '\0'; i++)
        if (shape[i] == '0' ? !isdigit((unsigned char)text[i]) : text[i] != shape[i])
            return 0;
    return i;
}

/* Behind a time: nothing, Z, +01, +0100 or +01:00. */
static bool is_zone(const char *text)
{
    if (text[0] == '\0' || strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
        return true;
    if (text[0] != '+' && text[0] != '-')
        return false;
    size_t digits = match(text + 1, "00");
    if (digits == 0 || text[3] == '\0')
        return digits > 0;
    const char *minutes = text + 3 + (text[3] == ':' ? 1 : 0);
    return match(minutes, "00") == 2 && minutes[2] == '\0';
}

static bool parse_time(const char *text, struct buf *out)
{
    const char *at = text;
    size_t len = match(at, "0000-00-00");
    if (len == 0)
        return false;
    at += len;
    if (*at == '\0') {
        buf_printf(out, "%s 00:00+00", text);
        return true;
    }
    len = *at == 'T' || *at == ' ' ? match(at + 1, "00:00") : 0;
    if (len == 0)
        return false;
    at += 1 + len;
    at += match(at, ":00");
    if (*at == '.')
        at += 1 + strspn(at + 1, "0123456789");
    if (!is_zone(at))
        return false;
    buf_printf(out, "%s%s", text, *at == '\0' ? "+00" : "");
    return true;
}

bool when_parse(const char *text, bool *relative, struct buf *out)
{
    *relative = parse_age(text, out);
    return *relative || parse_time(text, out);
}
