#include "codec/encoding.h"
#include "codec/json.h"
#include "codec/whop.h"

#include <ctype.h>

enum { SECRET_MIN = 32 /* characters without a break: no word and no id of Whop's is so long */ };
#define WAIT_MAX_MS INT64_C(3600000) /* what says more is not believed */

static const struct json_value *member(const struct json_value *object, const char *name)
{
    const struct json_value *value = NULL;
    return json_pick(object, &name, 1, &value) ? value : NULL;
}

static bool in_word(char c)
{
    return isalnum((unsigned char)c) || strchr("_-.+/=~@", c) != NULL;
}

/* Anywhere in the word ("key=apik_..."), but "ws_" only where a word of its own may begin. */
static bool is_private(const char *word, size_t len)
{
    static const char *const marks[] = {"apik_", "whsec_", "eyJ", "ws_"};
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        size_t own = strlen(marks[i]);
        bool begins = i == ARRAY_LEN(marks) - 1;
        for (size_t at = 0; at + own <= len; at++)
            if (memcmp(word + at, marks[i], own) == 0 &&
                (!begins || at == 0 || !isalnum((unsigned char)word[at - 1])))
                return true;
    }
    return len >= SECRET_MIN || memchr(word, '@', len) != NULL;
}

static size_t put(char *out, size_t size, size_t at, const char *ptr, size_t len)
{
    for (size_t i = 0; i < len && at + 1 < size; i++, at++)
        out[at] = (unsigned char)ptr[i] < 0x20 || ptr[i] == 0x7f ? ' ' : ptr[i];
    return at;
}

/* Copies what fits, never half a character of UTF-8, and no secret. */
static void copy_safely(const char *text, char *out, size_t size)
{
    size_t at = 0;
    while (*text != '\0' && at + 1 < size) {
        size_t len = 0;
        while (text[len] != '\0' && in_word(text[len]))
            len++;
        if (len == 0)
            at = put(out, size, at, text, len = 1);
        else if (is_private(text, len))
            at = put(out, size, at, "(hidden)", 8);
        else
            at = put(out, size, at, text, len);
        text += len;
    }
    out[at] = '\0';
    while (at > 0 && !encoding_is_text((struct span){out, at}))
        out[--at] = '\0';
}

static int64_t unit_ms(const char *unit)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1},      {"millisecond", 1}, {"s", 1000},       {"second", 1000},
                 {"sec", 1000},  {"m", 60000},       {"minute", 60000}, {"min", 60000},
                 {"h", 3600000}, {"hour", 3600000}};
    size_t len = 0;
    while (isalpha((unsigned char)unit[len]))
        len++;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t own = strlen(units[i].name);
        bool plural = len == own + 1 && unit[own] == 's' && own > 2;
        if ((len == own || plural) && strncmp(unit, units[i].name, own) == 0)
            return units[i].ms;
    }
    return 0;
}

/* The first number that a unit of time follows: "Try again in 12 seconds." */
static int64_t find_wait(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (!isdigit((unsigned char)*c))
            continue;
        int64_t number = 0;
        for (; isdigit((unsigned char)*c); c++)
            number = number < WAIT_MAX_MS ? number * 10 + (*c - '0') : number;
        if (*c == '.') /* a fraction is rounded up */
            for (number++, c++; isdigit((unsigned char)*c);)
                c++;
        int64_t unit = unit_ms(c + (*c == ' '));
        if (unit > 0)
            return number > WAIT_MAX_MS / unit ? WAIT_MAX_MS : number * unit;
        if (*c == '\0')
            break;
    }
    return -1;
}

/* {"error": {"type" | "code", "message"}}, {"error": "..", "error_description": ".."},
 * {"message": ".."}, {"errors": [{"message": ".."}]} */
static void read_json(const struct json_value *root, struct arena *arena, const char **code,
                      const char **message)
{
    const struct json_value *error = member(root, "error");
    if (error == NULL && json_is_array(member(root, "errors")))
        error = json_first(member(root, "errors"));
    if (json_is_object(error)) {
        *code = json_text(member(error, "type"), arena, NULL);
        if (text_is_empty(*code))
            *code = json_text(member(error, "code"), arena, NULL);
        *message = json_text(member(error, "message"), arena, NULL);
    } else {
        *code = json_text(error, arena, NULL);
        *message = json_text(member(root, "error_description"), arena, NULL);
    }
    if (text_is_empty(*message))
        *message = json_text(member(root, "message"), arena, NULL);
}

/* A text that is no JSON says something too, unless it is a page for people. */
static const char *read_raw(struct span body, struct arena *arena)
{
    size_t len = body.len < sizeof((struct whop_problem *)0)->message * 4
                     ? body.len
                     : sizeof((struct whop_problem *)0)->message * 4;
    if (len == 0 || memchr(body.ptr, '\0', len) != NULL || memchr(body.ptr, '<', len) != NULL)
        return "";
    return arena_copy(arena, body.ptr, len);
}

void whop_read_problem(struct span body, struct whop_problem *out)
{
    const char *code = "";
    const char *message = "";
    struct arena arena;
    arena_init(&arena);
    struct json_doc *doc = json_parse(body);
    if (doc != NULL)
        read_json(json_root(doc), &arena, &code, &message);
    else
        message = read_raw(body, &arena);
    copy_safely(code, out->code, sizeof out->code);
    copy_safely(message, out->message, sizeof out->message);
    out->wait_ms = find_wait(message);
    json_free(doc);
    arena_close(&arena);
}
