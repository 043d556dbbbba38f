#include "cli/body.h"

#include "base/random.h"
#include "codec/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void body_fresh_id(const char *prefix, char out[BODY_ID_SIZE])
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    enum { RANDOM_LETTERS = 14 };
    size_t len = strlen(prefix);
    REQUIRE(len + RANDOM_LETTERS < BODY_ID_SIZE);
    memcpy(out, prefix, len);
    for (size_t i = 0; i < RANDOM_LETTERS; i++)
        out[len++] = letters[random_below(sizeof letters - 1)];
    out[len] = '\0';
}

bool body_is_amount(const char *text)
{
    size_t whole = strspn(text, "0123456789");
    if (whole == 0)
        return false;
    if (text[whole] == '\0')
        return true;
    size_t fraction = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    return fraction > 0 && text[whole + 1 + fraction] == '\0';
}

/* --- walking over JSON text -------------------------------------------------------------------
 * The text is known to be valid JSON, so these only look for ends. */

static const char *skip_space(const char *text)
{
    return text + strspn(text, " \t\r\n");
}

/* text is at the opening quote; behind the closing one afterwards. */
static const char *skip_string(const char *text)
{
    for (text++; *text != '"' && *text != '\0'; text++)
        if (*text == '\\' && text[1] != '\0')
            text++;
    return *text == '"' ? text + 1 : text;
}

static const char *skip_value(const char *text)
{
    size_t depth = 0;
    do {
        if (*text == '"') {
            text = skip_string(text);
        } else if (*text == '{' || *text == '[') {
            depth++;
            text++;
        } else if (*text == '}' || *text == ']') {
            depth--;
            text++;
        } else if (depth == 0) {
            return text + strcspn(text, ",]} \t\r\n");
        } else {
            text++;
        }
    } while (depth > 0 && *text != '\0');
    return text;
}

/* --- samples --------------------------------------------------------------------------------- */

static void add_string(struct buf *out, const char *text)
{
    struct json_writer writer = {.out = out};
    json_put_text(&writer, NULL, text);
}

static void add_chosen(struct buf *out, const char *given, const char *fallback)
{
    const char *text = given != NULL && given[0] != '\0' ? given : fallback;
    add_string(out, text[0] != '\0' ? text : NULL);
}

static void add_iso(struct buf *out, int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    char text[40];
    gmtime_r(&seconds, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    buf_printf(out, "\"%s.%03dZ\"", text, (int)(ms % 1000));
}

static bool add_time(struct buf *out, const char *name, int64_t now_ms)
{
    bool iso = strncmp(name, "iso", 3) == 0;
    if (!iso && strncmp(name, "unix", 4) != 0)
        return false;
    char *end = NULL;
    const char *offset = name + (iso ? 3 : 4);
    int64_t ms = now_ms + strtoll(offset, &end, 10) * 1000;
    if (*end != '\0')
        return false;
    if (iso)
        add_iso(out, ms);
    else
        buf_printf(out, "%lld", (long long)(ms / 1000));
    return true;
}

/* name: what is between '@' and the closing quote, cut into name and fallback here. */
static bool add_variable(struct buf *out, char *name, const struct body_values *values)
{
    const struct {
        const char *name;
        const char *given;
    } texts[] = {
        {"message", values->message},   {"company", values->company},
        {"payment", values->payment},   {"user", values->user},
        {"member", values->member},     {"membership", values->membership},
        {"plan", values->plan},         {"pack", values->pack},
        {"currency", values->currency},
    };
    if (add_time(out, name, values->now_ms))
        return true;
    char *colon = strchr(name, ':');
    const char *fallback = colon != NULL ? colon + 1 : "";
    if (colon != NULL)
        *colon = '\0';
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (strcmp(name, texts[i].name) == 0) {
            add_chosen(out, texts[i].given, fallback);
            return true;
        }
    }
    const char *amount = values->amount != NULL ? values->amount : fallback;
    char id[BODY_ID_SIZE];
    if (strcmp(name, "amount") == 0) {
        buf_add_text(out, amount);
    } else if (strcmp(name, "amount_text") == 0) {
        add_string(out, amount);
    } else if (strcmp(name, "fresh") == 0) {
        body_fresh_id(fallback, id);
        add_string(out, id);
    } else {
        return false;
    }
    return true;
}

void body_render(struct span sample, const struct body_values *values, struct buf *out)
{
    enum { NAME_MAX_BYTES = 96 };
    char *copy = mem_alloc(sample.len + 1);
    memcpy(copy, sample.ptr, sample.len);
    copy[sample.len] = '\0';
    for (const char *text = skip_space(copy); *text != '\0'; text = skip_space(text)) {
        if (*text != '"') {
            buf_add(out, text++, 1);
            continue;
        }
        const char *end = skip_string(text);
        size_t len = (size_t)(end - text);
        char name[NAME_MAX_BYTES] = "";
        if (text[1] == '@' && len >= 3 && len - 3 < sizeof name)
            memcpy(name, text + 2, len - 3);
        if (name[0] == '\0' || !add_variable(out, name, values))
            buf_add(out, text, len);
        text = end;
    }
    free(copy);
}

/* --- setting one member ---------------------------------------------------------------------- */

static bool is_json(const char *text)
{
    struct json_doc *doc = json_parse(span_of(text));
    json_free(doc);
    return doc != NULL;
}

/* Finds the member of the object or the element of the array that begins at text. NULL if there is
 * none; *end then is where the closing bracket stands, and *empty whether anything precedes it. */
static const char *find_member(const char *text, struct span name, const char **end, bool *empty)
{
    bool object = *text == '{';
    *empty = true;
    text = skip_space(text + 1);
    for (size_t index = 0; *text != '}' && *text != ']' && *text != '\0'; index++) {
        char number[24];
        struct span key;
        snprintf(number, sizeof number, "%zu", index);
        key = span_of(number);
        if (object) {
            const char *key_end = skip_string(text);
            key = (struct span){text + 1, (size_t)(key_end - text) - 2};
            text = skip_space(skip_space(key_end) + 1);
        }
        if (span_equal(key, name))
            return text;
        *empty = false;
        text = skip_space(skip_value(text));
        if (*text == ',')
            text = skip_space(text + 1);
    }
    *end = text;
    return NULL;
}

/* {"a":{"b":value}} for the path "a.b"; just the value for "". */
static void add_nested(struct buf *out, const char *path, const char *value)
{
    size_t depth = 0;
    for (; *path != '\0'; depth++) {
        size_t len = strcspn(path, ".");
        buf_printf(out, "{\"%.*s\":", (int)len, path);
        path += len + (path[len] == '.' ? 1 : 0);
    }
    buf_add_text(out, value);
    for (; depth > 0; depth--)
        buf_add_text(out, "}");
}

static bool is_path(const char *path)
{
    if (path[0] == '\0' || path[0] == '.' || path[strlen(path) - 1] == '.')
        return false;
    return strpbrk(path, "\"\\") == NULL && strstr(path, "..") == NULL;
}

/* Replaces the bytes from..to of body by what add_nested makes. */
static void splice(struct buf *body, const char *from, const char *to, const char *before,
                   const char *path, const char *value)
{
    struct buf made = {0};
    buf_add(&made, body->ptr, (size_t)(from - body->ptr));
    buf_add_text(&made, before);
    add_nested(&made, path, value);
    buf_add(&made, to, body->len - (size_t)(to - body->ptr));
    buf_close(body);
    *body = made;
}

struct err body_set(struct buf *body, const char *path, const char *value)
{
    struct buf quoted = {0};
    struct buf before = {0};
    struct err err = ERR_NONE;
    if (!is_path(path))
        return err_make(ERR_USAGE, "\"%s\" is not a path like data.user.id", path);
    if (!is_json(buf_text(body)))
        return err_make(ERR_USAGE, "the body is not JSON, so %s cannot be set in it", path);
    if (!is_json(value)) {
        add_string(&quoted, value);
        value = buf_text(&quoted);
    }
    const char *rest = path;
    const char *at = skip_space(body->ptr);
    while (*rest != '\0' && (*at == '{' || *at == '[')) {
        struct span name = {rest, strcspn(rest, ".")};
        const char *end = NULL;
        bool empty = false;
        const char *found = find_member(at, name, &end, &empty);
        const char *below = name.ptr[name.len] == '.' ? name.ptr + name.len + 1 : "";
        if (found == NULL && *at == '[') {
            err = err_make(ERR_USAGE, "%s: there is no element %.*s", path, (int)name.len, rest);
            goto out;
        }
        if (found == NULL) {
            buf_printf(&before, "%s\"%.*s\":", empty ? "" : ",", (int)name.len, rest);
            splice(body, end, end, buf_text(&before), below, value);
            goto out;
        }
        at = found;
        rest = below;
    }
    /* A null on the way becomes an object; any other scalar is a mistake. */
    if (*rest != '\0' && *at != 'n')
        err = err_make(ERR_USAGE, "%s: what comes before %s has no members", path, rest);
    else
        splice(body, at, skip_value(at), "", rest, value);
out:
    buf_close(&quoted);
    buf_close(&before);
    return err;
}

struct err body_assign(struct buf *body, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL)
        return err_make(ERR_USAGE, "\"%s\" is not PATH=VALUE", assignment);
    char *path = mem_strdup(assignment);
    path[equals - assignment] = '\0';
    struct err err = body_set(body, path, equals + 1);
    free(path);
    return err;
}
