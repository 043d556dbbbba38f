#include "base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INGEST = CONFIG_INGEST,
    WORKER = CONFIG_WORKER,
    CLI = CONFIG_CLI,
    NEEDS_INGEST = CONFIG_INGEST << 4,
    NEEDS_WORKER = CONFIG_WORKER << 4,
    OR_EMPTY = 1 << 8,
    SECRET_FILE_MAX = 65536,
};

enum setting_type { SETTING_TEXT, SETTING_SECRET, SETTING_INTEGER, SETTING_SWITCH, SETTING_GROUP };

struct setting {
    enum setting_type type;
    const char *name; /* a group's title */
    size_t offset;
    const char *fallback;
    int64_t min;
    int64_t max;
    int programs;
    const char *help;
};

static const struct setting settings[] = {
#define GROUP(title) {SETTING_GROUP, title, 0, "", 0, 0, 0, ""},
#define TEXT(member, name, fallback, programs, help)                                               \
    {SETTING_TEXT, #name, offsetof(struct config, member), fallback, 0, 0, programs, help},
#define SECRET(member, name, programs, help)                                                       \
    {SETTING_SECRET, #name, offsetof(struct config, member), "", 0, 0, programs, help},
#define INTEGER(member, name, fallback, min, max, programs, help)                                  \
    {SETTING_INTEGER, #name, offsetof(struct config, member), #fallback, min, max, programs, help},
#define SWITCH(member, name, fallback, programs, help)                                             \
    {SETTING_SWITCH, #name, offsetof(struct config, member), #fallback, 0, 0, programs, help},
#define ALIAS(name, other)
#define IGNORED(name, why)
#include "config.def"
#undef GROUP
#undef TEXT
#undef SECRET
#undef INTEGER
#undef SWITCH
#undef ALIAS
#undef IGNORED
};

static const struct {
    const char *name;
    const char *other;
} aliases[] = {
#define GROUP(title)
#define TEXT(member, name, fallback, programs, help)
#define SECRET(member, name, programs, help)
#define INTEGER(member, name, fallback, min, max, programs, help)
#define SWITCH(member, name, fallback, programs, help)
#define ALIAS(name, other) {#name, #other},
#define IGNORED(name, why)
#include "config.def"
#undef ALIAS
#undef IGNORED
};

static const struct {
    const char *name;
    const char *why;
} ignored[] = {
#define ALIAS(name, other)
#define IGNORED(name, why) {#name, why},
#include "config.def"
#undef GROUP
#undef TEXT
#undef SECRET
#undef INTEGER
#undef SWITCH
#undef ALIAS
#undef IGNORED
};

struct reader {
    config_source *source;
    void *context;
    struct buf *problems;
};

const char *config_getenv(const char *name, void *context)
{
    (void)context;
    return getenv(name);
}

/* The text getenv gives is the kernel's own copy, whose address does not change. */
static void wipe_variable(const char *name)
{
    char *value = getenv(name);
    if (value == NULL)
        return;
    explicit_bzero(value, strlen(value));
    unsetenv(name);
}

/* Files that were not looked at, because another name came first, are not looked at later either:
 * config_reread_secret finds what is in force. */
static void forget_files(const char *name, bool *found)
{
    char file_name[128];
    const char *value = getenv(name);
    snprintf(file_name, sizeof file_name, "%s_FILE", name);
    const char *path = getenv(file_name);
    *found = *found || (value != NULL && value[0] != '\0');
    if (*found)
        unsetenv(file_name);
    *found = *found || (path != NULL && path[0] != '\0');
}

void config_wipe_environment(void)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        bool found = false;
        if (settings[i].type != SETTING_SECRET)
            continue;
        forget_files(settings[i].name, &found);
        for (size_t k = 0; k < ARRAY_LEN(aliases); k++)
            if (strcmp(aliases[k].name, settings[i].name) == 0)
                forget_files(aliases[k].other, &found);
        wipe_variable(settings[i].name);
        for (size_t k = 0; k < ARRAY_LEN(aliases); k++)
            if (strcmp(aliases[k].name, settings[i].name) == 0)
                wipe_variable(aliases[k].other);
    }
    /* Keys that a seed names and that we do not even read. */
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        wipe_variable(ignored[i].name);
}

/* ASCII white space, the byte order mark and zero-width characters, which survive copy and paste.
 */
static size_t invisible_at(const char *text)
{
    static const char *const marks[] = {"\xef\xbb\xbf", "\xe2\x80\x8b", "\xe2\x80\x8c",
                                        "\xe2\x80\x8d", "\xe2\x81\xa0", "\xc2\xa0"};
    if (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n')
        return 1;
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (strncmp(text, marks[i], strlen(marks[i])) == 0)
            return strlen(marks[i]);
    return 0;
}

static char *copy_trimmed(const char *text)
{
    size_t skip;
    while ((skip = invisible_at(text)) > 0)
        text += skip;
    size_t end = 0;
    for (size_t i = 0; text[i] != '\0';) {
        skip = invisible_at(text + i);
        i += skip > 0 ? skip : 1;
        if (skip == 0)
            end = i;
    }
    char *copy = mem_strdup(text);
    copy[end] = '\0';
    return copy;
}

static bool is_placeholder(const char *text)
{
    static const char *const words[] = {"changeme", "change_me", "your_", "your-", "placeholder",
                                        "fallback", "xxxx",      "<",     "todo"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strncasecmp(text, words[i], strlen(words[i])) == 0)
            return true;
    return strstr(text, "xxxxxx") != NULL || strcasecmp(text, "secret") == 0;
}

static char *read_secret_file(const char *path, const char *name, struct buf *problems)
{
    char *content = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) != 0) {
        buf_printf(problems, "%s_FILE: cannot read %s: %s\n", name, path, strerror(errno));
    } else if (!S_ISREG(about.st_mode) || about.st_size > SECRET_FILE_MAX) {
        buf_printf(problems, "%s_FILE: %s is not a small regular file\n", name, path);
    } else {
        content = mem_alloc((size_t)about.st_size + 1);
        ssize_t len = read(fd, content, (size_t)about.st_size);
        content[len > 0 ? len : 0] = '\0';
        if (len < 0)
            buf_printf(problems, "%s_FILE: cannot read %s: %s\n", name, path, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    return content;
}

/* The trimmed value of one name, from the environment or, for a secret, its file. NULL: not set. */
static char *read_name(const struct reader *reader, const char *name, bool secret)
{
    const char *raw = reader->source(name, reader->context);
    if (raw != NULL && raw[0] != '\0')
        return copy_trimmed(raw);
    if (!secret)
        return NULL;
    char file_name[128];
    int len = snprintf(file_name, sizeof file_name, "%s_FILE", name);
    REQUIRE(len > 0 && (size_t)len < sizeof file_name);
    const char *path = reader->source(file_name, reader->context);
    if (path == NULL || path[0] == '\0')
        return NULL;
    char *content = read_secret_file(path, name, reader->problems);
    if (content == NULL)
        return mem_strdup("");
    char *value = copy_trimmed(content);
    explicit_bzero(content, strlen(content));
    free(content);
    return value;
}

static char *read_value(const struct reader *reader, const struct setting *setting)
{
    bool secret = setting->type == SETTING_SECRET;
    char *value = read_name(reader, setting->name, secret);
    for (size_t i = 0; value == NULL && i < ARRAY_LEN(aliases); i++)
        if (strcmp(aliases[i].name, setting->name) == 0)
            value = read_name(reader, aliases[i].other, secret);
    return value;
}

char *config_reread_secret(const char *name, struct buf *problems)
{
    const struct reader reader = {config_getenv, NULL, problems};
    const struct setting setting = {.type = SETTING_SECRET, .name = name};
    char *value = read_value(&reader, &setting);
    if (value != NULL && problems->len == 0) {
        if (value[0] == '\0')
            buf_printf(problems, "%s_FILE: the file is empty\n", name);
        else if (is_placeholder(value))
            buf_printf(problems, "%s holds a placeholder, not a real value\n", name);
    }
    return value;
}

static bool parse_integer(const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    *out = number;
    return errno == 0 && end != text && *end == '\0';
}

static bool parse_switch(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static void store_integer(int64_t *member, const struct setting *setting, const char *value,
                          struct buf *problems)
{
    int64_t number = 0;
    if (!parse_integer(value, &number))
        buf_printf(problems, "%s: \"%s\" is not a whole number\n", setting->name, value);
    else if (number < setting->min || number > setting->max)
        buf_printf(problems, "%s: %lld is not between %lld and %lld\n", setting->name,
                   (long long)number, (long long)setting->min, (long long)setting->max);
    else
        *member = number;
}

static void load_one(struct config *config, const struct setting *setting, int program,
                     const struct reader *reader)
{
    char *member = (char *)config + setting->offset;
    bool used = (setting->programs & program) != 0;
    char *value = used ? read_value(reader, setting) : NULL;
    bool missing = value == NULL || value[0] == '\0';
    struct buf *problems = reader->problems;

    if (missing && (setting->programs & (program << 4)) != 0)
        buf_printf(problems, "%s is not set: %s\n", setting->name, setting->help);
    if (!missing && setting->type == SETTING_SECRET && is_placeholder(value))
        buf_printf(problems, "%s holds a placeholder, not a real value\n", setting->name);
    bool wants_none = (setting->programs & OR_EMPTY) != 0 && used &&
                      reader->source(setting->name, reader->context) != NULL;
    const char *text = !missing ? value : wants_none ? "" : setting->fallback;

    switch (setting->type) {
    case SETTING_TEXT:
    case SETTING_SECRET: {
        char *copy = mem_strdup(text);
        memcpy(member, &copy, sizeof copy);
        break;
    }
    case SETTING_INTEGER: {
        int64_t number = 0;
        REQUIRE(parse_integer(setting->fallback, &number));
        store_integer(&number, setting, text, problems);
        memcpy(member, &number, sizeof number);
        break;
    }
    case SETTING_SWITCH: {
        bool on = false;
        if (!parse_switch(text, &on))
            buf_printf(problems, "%s: \"%s\" is neither true nor false\n", setting->name, text);
        memcpy(member, &on, sizeof on);
        break;
    }
    case SETTING_GROUP: break;
    }
    if (value != NULL && setting->type == SETTING_SECRET)
        explicit_bzero(value, strlen(value));
    free(value);
}

/* Part of every key, before the hash tag in braces. */
static void check_stream_prefix(const char *prefix, struct buf *problems)
{
    size_t plain =
        strspn(prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    if (prefix[plain] != '\0' || plain == 0 || plain > CONFIG_STREAM_PREFIX_MAX)
        buf_printf(problems, "STREAM_PREFIX: 1 to %d letters, digits, dots, dashes, underscores\n",
                   CONFIG_STREAM_PREFIX_MAX);
}

void config_load(struct config *config, enum config_program program, config_source *source,
                 void *context, struct buf *problems, struct buf *notes)
{
    struct reader reader = {source, context, problems};
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (settings[i].type != SETTING_GROUP)
            load_one(config, &settings[i], (int)program, &reader);
    check_stream_prefix(config->stream_prefix, problems);
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
        const char *value = source(ignored[i].name, context);
        if (value != NULL && value[0] != '\0')
            buf_printf(notes, "%s has no effect: %s\n", ignored[i].name, ignored[i].why);
    }
}

void config_close(struct config *config)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (settings[i].type != SETTING_TEXT && settings[i].type != SETTING_SECRET)
            continue;
        char *text;
        memcpy(&text, (char *)config + settings[i].offset, sizeof text);
        if (text != NULL && settings[i].type == SETTING_SECRET)
            explicit_bzero(text, strlen(text));
        free(text);
    }
    memset(config, 0, sizeof *config);
}

static const char *fallback_of(const struct setting *setting)
{
    return setting->fallback[0] != '\0' ? setting->fallback : "-";
}

void config_write_help(enum config_program program, struct buf *out)
{
    const char *title = NULL;
    buf_add_text(out, "Settings, from the environment:\n");
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *setting = &settings[i];
        if (setting->type == SETTING_GROUP) {
            title = setting->name;
            continue;
        }
        if ((setting->programs & (int)program) == 0)
            continue;
        if (title != NULL)
            buf_printf(out, "\n%s\n", title);
        title = NULL;
        buf_printf(out, "  %s%s\n      %s", setting->name,
                   setting->type == SETTING_SECRET ? " (or a file's path in its _FILE)" : "",
                   setting->help);
        if (setting->fallback[0] != '\0')
            buf_printf(out, " [%s]", setting->fallback);
        buf_add_text(out, "\n");
    }
}

void config_write_example(struct buf *out)
{
    buf_add_text(out,
                 "# Every setting of whopline with its default. Copy to .env and change what you\n"
                 "# need; a line without a value after = has no default. Generated by\n"
                 "# `whopline config example`.\n");
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *setting = &settings[i];
        if (setting->type == SETTING_GROUP) {
            buf_printf(out, "\n## %s\n", setting->name);
            continue;
        }
        buf_printf(out, "\n# %s\n", setting->help);
        if (setting->type == SETTING_SECRET)
            buf_printf(out, "# Secret: better the path of a file (mode 0600) in %s_FILE.\n",
                       setting->name);
        buf_printf(out, "#%s=%s\n", setting->name, setting->fallback);
    }
}

static void write_programs(int programs, struct buf *out)
{
    static const struct {
        int bit;
        const char *name;
    } names[] = {{INGEST, "ingest"}, {WORKER, "workers"}, {CLI, "whopline"}};
    const char *separator = "";
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if ((programs & names[i].bit) == 0)
            continue;
        buf_printf(out, "%s%s%s", separator, names[i].name,
                   (programs & (names[i].bit << 4)) != 0 ? " (needed)" : "");
        separator = ", ";
    }
}

void config_write_reference(struct buf *out)
{
    buf_add_text(out,
                 "# Settings\n\n"
                 "From the environment. A secret may be given as the path of a file in NAME_FILE\n"
                 "instead. Every problem is reported at start, all at once. Generated by\n"
                 "`whopline config reference`.\n");
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *setting = &settings[i];
        if (setting->type == SETTING_GROUP) {
            buf_printf(out,
                       "\n## %s\n\n| setting | default | range | read by | meaning |\n"
                       "|---|---|---|---|---|\n",
                       setting->name);
            continue;
        }
        buf_printf(out, "| `%s`%s | %s | ", setting->name,
                   setting->type == SETTING_SECRET ? " (secret)" : "", fallback_of(setting));
        if (setting->type == SETTING_INTEGER)
            buf_printf(out, "%lld to %lld", (long long)setting->min, (long long)setting->max);
        buf_add_text(out, " | ");
        write_programs(setting->programs, out);
        buf_printf(out, " | %s |\n", setting->help);
    }
    buf_add_text(out, "\n## Other names\n\n| name | same as |\n|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        buf_printf(out, "| `%s` | `%s` |\n", aliases[i].other, aliases[i].name);
    buf_add_text(out, "\n## Of no effect\n\n| name | why |\n|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        buf_printf(out, "| `%s` | %s |\n", ignored[i].name, ignored[i].why);
}

static void write_value(const struct config *config, const struct setting *setting, struct buf *out)
{
    const char *member = (const char *)config + setting->offset;
    const char *text = NULL;
    int64_t number = 0;
    switch (setting->type) {
    case SETTING_TEXT:
        memcpy(&text, member, sizeof text);
        buf_add_text(out, text);
        break;
    case SETTING_SECRET:
        memcpy(&text, member, sizeof text);
        buf_add_text(out, text[0] != '\0' ? "(set)" : "");
        break;
    case SETTING_INTEGER:
        memcpy(&number, member, sizeof number);
        buf_printf(out, "%lld", (long long)number);
        break;
    case SETTING_SWITCH: buf_add_text(out, *(const bool *)member ? "true" : "false"); break;
    case SETTING_GROUP: break;
    }
}

void config_write_summary(const struct config *config, enum config_program program, struct buf *out)
{
    struct buf value = {0};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *setting = &settings[i];
        if ((setting->programs & (int)program) == 0)
            continue;
        buf_clear(&value);
        write_value(config, setting, &value);
        if (strcmp(buf_text(&value), setting->fallback) != 0)
            buf_printf(out, "%s%s=%s", out->len > 0 ? " " : "", setting->name, buf_text(&value));
    }
    buf_close(&value);
}
