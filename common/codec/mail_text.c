#include "codec/mail_text.h"

#include <ctype.h>
#include <strings.h>

bool mail_text_has_word(const char *words, const char *word, size_t len)
{
    while (*words != '\0') {
        size_t one = strcspn(words, " ");
        if (one == len && memcmp(words, word, len) == 0)
            return true;
        words += one;
        words += strspn(words, " ");
    }
    return false;
}

/* --- placeholders ---------------------------------------------------------------------------- */

struct placeholder {
    const char *name; /* within the text */
    size_t len;
    const char *end; /* behind the braces */
};

/* at: "{{". False if that is no placeholder. */
static bool read_placeholder(const char *at, struct placeholder *out)
{
    const char *name = at + 2;
    name += strspn(name, " ");
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz_");
    const char *end = name + len + strspn(name + len, " ");
    *out = (struct placeholder){name, len, end + 2};
    return len > 0 && len < MAIL_PLACEHOLDER_MAX && strncmp(end, "}}", 2) == 0 && end[2] != '}';
}

/* --- checking -------------------------------------------------------------------------------- */

/* Where in the HTML the reader is. */
struct place {
    bool in_tag;
    char quote; /* of an attribute's value, within a tag; 0: none is open */
    bool in_comment;
    const char *within; /* "script" or "style", in whose content nothing is text; NULL: neither */
};

struct checking {
    enum mail_text_kind kind;
    const char *file;
    const char *text;
    const char *known;
    struct buf *problems;
};

static void complain(const struct checking *it, const char *at, const char *what, const char *word,
                     size_t len)
{
    size_t line = 1;
    for (const char *c = it->text; c < at; c++)
        line += *c == '\n';
    buf_printf(it->problems, "%s:%zu: %s%.*s\n", it->file, line, what, (int)(len < 60 ? len : 60),
               word);
}

static bool begins_tag(const char *at, const char *name)
{
    size_t len = strlen(name);
    return strncasecmp(at, name, len) == 0 && !isalnum((unsigned char)at[len]);
}

static void move_in_tag(struct place *place, char c)
{
    if (place->quote != 0)
        place->quote = c == place->quote ? 0 : place->quote;
    else if (c == '"' || c == '\'')
        place->quote = c;
    else if (c == '>')
        place->in_tag = false;
}

static void open_tag(struct place *place, const char *at)
{
    static const char *const raw[] = {"script", "style"};
    place->in_comment = strncmp(at, "<!--", 4) == 0;
    place->in_tag = !place->in_comment;
    for (size_t i = 0; i < ARRAY_LEN(raw); i++)
        if (begins_tag(at + 1, raw[i]))
            place->within = raw[i];
}

static void move(struct place *place, const char *at)
{
    if (place->in_comment)
        place->in_comment = strncmp(at, "-->", 3) != 0;
    else if (place->in_tag)
        move_in_tag(place, *at);
    else if (place->within == NULL && *at == '<')
        open_tag(place, at);
    else if (place->within != NULL && at[0] == '<' && at[1] == '/' &&
             begins_tag(at + 2, place->within))
        *place = (struct place){.in_tag = true};
}

static const char *check_one(const struct checking *it, const struct place *place, const char *at)
{
    struct placeholder found;
    if (at[2] == '{' || at[2] == '&') {
        complain(it, at, "a value that is not escaped: write {{name}}", "", 0);
        return at + 3;
    }
    if (!read_placeholder(at, &found)) {
        complain(it, at, "no placeholder such as {{name}}: ", at, strcspn(at, "\n"));
        return at + 2;
    }
    if (!mail_text_has_word(it->known, found.name, found.len))
        complain(it, at, "unknown placeholder ", found.name, found.len);
    if (it->kind == MAIL_TEXT_HTML && (place->in_tag || place->in_comment || place->within != NULL))
        complain(it, at, "a placeholder within a tag, a comment, a script or a style: ", found.name,
                 found.len);
    return found.end;
}

static bool shows(const char *text, const char *name, size_t len)
{
    struct placeholder found;
    for (const char *at = strstr(text, "{{"); at != NULL; at = strstr(at + 2, "{{"))
        if (read_placeholder(at, &found) && found.len == len && memcmp(found.name, name, len) == 0)
            return true;
    return false;
}

static void check_needed(const struct checking *it, const char *needed)
{
    while (*needed != '\0') {
        size_t len = strcspn(needed, " ");
        if (!shows(it->text, needed, len))
            buf_printf(it->problems, "%s: does not show {{%.*s}}\n", it->file, (int)len, needed);
        needed += len;
        needed += strspn(needed, " ");
    }
}

void mail_text_check(enum mail_text_kind kind, const char *file, const char *text,
                     const char *known, const char *needed, struct buf *problems)
{
    const struct checking it = {kind, file, text, known, problems};
    struct place place = {0};
    for (const char *at = text; *at != '\0';) {
        if (at[0] == '{' && at[1] == '{') {
            at = check_one(&it, &place, at);
            continue;
        }
        if (at[0] == '}' && at[1] == '}') {
            complain(&it, at, "}} without {{", "", 0);
            at++;
        }
        move(&place, at++);
    }
    check_needed(&it, needed);
}

/* --- filling in ------------------------------------------------------------------------------ */

static void add_escaped(struct buf *out, char c)
{
    switch (c) {
    case '&': buf_add_text(out, "&amp;"); break;
    case '<': buf_add_text(out, "&lt;"); break;
    case '>': buf_add_text(out, "&gt;"); break;
    case '"': buf_add_text(out, "&quot;"); break;
    case '\'': buf_add_text(out, "&#39;"); break;
    default: buf_add(out, &c, 1); break;
    }
}

/* As much as fits, never half a character of UTF-8. */
static size_t cut(const char *value)
{
    size_t len = strlen(value);
    if (len <= MAIL_VALUE_MAX)
        return len;
    len = MAIL_VALUE_MAX;
    while (len > 0 && ((unsigned char)value[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static void add_value(enum mail_text_kind kind, const char *value, struct buf *out)
{
    size_t len = cut(value);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        char clean = c < 0x20 || c == 0x7f ? ' ' : value[i];
        if (kind == MAIL_TEXT_HTML)
            add_escaped(out, clean);
        else
            buf_add(out, &clean, 1);
    }
}

void mail_text_fill(enum mail_text_kind kind, const char *text, mail_text_value *value, void *data,
                    struct buf *out)
{
    for (;;) {
        struct placeholder found;
        char name[MAIL_PLACEHOLDER_MAX];
        const char *at = strstr(text, "{{");
        if (at == NULL || !read_placeholder(at, &found))
            break;
        memcpy(name, found.name, found.len);
        name[found.len] = '\0';
        const char *is = value(name, data);
        buf_add(out, text, (size_t)(at - text));
        if (is != NULL)
            add_value(kind, is, out);
        text = found.end;
    }
    buf_add_text(out, text);
}
