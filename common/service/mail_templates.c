#include "service/mail_templates.h"

#include "codec/mail_text.h"
#include "mail_pages.h"
#include "mail_plain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FILE_BYTES_MAX = 256 * 1024, PATH_SIZE = 1024, AGE_MAX_MINUTES = 60 * 24 * 365 };

#define SUBJECT "Subject:"
#define COMMON  "name username company"

static const struct mail_type types[] = {
#define MAIL(name, sort, max_age_minutes, placeholders, needed)                                    \
    {#name, MAIL_##sort, max_age_minutes, placeholders, needed},
#define FOLLOWS(change, mail, key)
#include "mails.def"
#undef MAIL
#undef FOLLOWS
};

const struct mail_type *mail_type(enum mail_name name)
{
    return &types[name];
}

bool mail_find(const char *name, enum mail_name *out)
{
    for (size_t i = 0; i < MAIL_COUNT; i++)
        if (strcmp(types[i].name, name) == 0) {
            *out = (enum mail_name)i;
            return true;
        }
    return false;
}

/* --- ages ------------------------------------------------------------------------------------ */

static bool read_age(const char *word, size_t len, int64_t out[MAIL_COUNT])
{
    char name[64];
    char *end;
    enum mail_name mail;
    size_t name_len = strcspn(word, "=");
    if (name_len >= len || name_len >= sizeof name)
        return false;
    memcpy(name, word, name_len);
    name[name_len] = '\0';
    errno = 0;
    long long minutes = strtoll(word + name_len + 1, &end, 10);
    if (!mail_find(name, &mail) || errno != 0 || end == word + name_len + 1 || end != word + len ||
        minutes < 1 || minutes > AGE_MAX_MINUTES)
        return false;
    out[mail] = minutes;
    return true;
}

void mail_read_ages(const struct config *config, int64_t out[MAIL_COUNT], struct buf *problems)
{
    for (size_t i = 0; i < MAIL_COUNT; i++)
        out[i] = types[i].max_age_minutes;
    for (const char *at = config->mail_max_age_minutes; *at != '\0';) {
        size_t len = strcspn(at, ", ");
        if (len > 0 && !read_age(at, len, out))
            buf_printf(
                problems,
                "MAIL_MAX_AGE_MINUTES: \"%.*s\" is no mail and its age, such as welcome=60, of "
                "1 to %d minutes\n",
                (int)(len < 60 ? len : 60), at, AGE_MAX_MINUTES);
        at += len;
        at += strspn(at, ", ");
    }
}

/* --- templates ------------------------------------------------------------------------------- */

static char *read_file(const char *path, struct buf *problems)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        if (errno != ENOENT)
            buf_printf(problems, "%s: cannot be read: %s\n", path, strerror(errno));
        return NULL;
    }
    char *text = mem_alloc(FILE_BYTES_MAX + 2);
    size_t len = fread(text, 1, FILE_BYTES_MAX + 1, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    text[len] = '\0';
    if (!failed && len <= FILE_BYTES_MAX && strlen(text) == len)
        return text;
    buf_printf(problems, "%s: %s\n", path,
               failed                 ? "cannot be read"
               : len > FILE_BYTES_MAX ? "larger than 256 KiB"
                                      : "is no text: it has a NUL in it");
    free(text);
    return NULL;
}

static const struct embedded_file *find_built_in(const struct embedded_file *files, size_t count,
                                                 const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

/* path: the file, for messages. */
static char *read_template(const struct config *config, const char *name, bool html,
                           char path[PATH_SIZE], struct buf *problems)
{
    const char *folder = config->mail_templates_dir;
    size_t before = problems->len;
    snprintf(path, PATH_SIZE, "%s/%s.%s", folder, name, html ? "html" : "txt");
    char *text = text_is_empty(folder) ? NULL : read_file(path, problems);
    if (text != NULL || problems->len > before)
        return text;
    const struct embedded_file *own = html ? find_built_in(mail_pages, mail_pages_count, name)
                                           : find_built_in(mail_plain, mail_plain_count, name);
    snprintf(path, PATH_SIZE, "deploy/mail/%s.%s", name, html ? "html" : "txt");
    if (own != NULL)
        return mem_strdup(own->bytes);
    buf_printf(problems, "%s: there is no such template\n", path);
    return NULL;
}

/* "Subject: text", an empty line, and the rest. */
static void split(struct mail_template *template, const char *path, struct buf *problems)
{
    char *text = template->text;
    size_t line = strcspn(text, "\r\n");
    char *rest = text + line;
    if (strncmp(text, SUBJECT, sizeof SUBJECT - 1) != 0 || line == sizeof SUBJECT - 1) {
        buf_printf(problems, "%s:1: begins with \"Subject: \" and the subject\n", path);
        return;
    }
    rest += *rest == '\r';
    rest += *rest == '\n';
    size_t empty = strspn(rest, "\r\n");
    if (empty == 0) {
        buf_printf(problems, "%s:2: behind the subject an empty line, then the text\n", path);
        return;
    }
    text[line] = '\0';
    template->subject =
        mem_strdup(text + sizeof SUBJECT - 1 + strspn(text + sizeof SUBJECT - 1, " "));
    char *body = mem_strdup(rest + empty);
    free(template->text);
    template->text = body;
}

static void load_one(const struct config *config, enum mail_name name,
                     struct mail_template *template, struct buf *problems)
{
    const struct mail_type *type = &types[name];
    char path[PATH_SIZE];
    struct buf known = {0};
    buf_printf(&known, COMMON " %s", type->placeholders);
    template->text = read_template(config, type->name, false, path, problems);
    if (template->text != NULL) {
        mail_text_check(MAIL_TEXT_PLAIN, path, template->text, buf_text(&known), type->needed,
                        problems);
        split(template, path, problems);
    }
    template->html = read_template(config, type->name, true, path, problems);
    if (template->html != NULL)
        mail_text_check(MAIL_TEXT_HTML, path, template->html, buf_text(&known), type->needed,
                        problems);
    buf_close(&known);
}

struct mail_templates *mail_templates_load(const struct config *config, struct buf *problems)
{
    struct mail_templates *templates = mem_zalloc(sizeof *templates);
    size_t before = problems->len;
    struct stat folder;
    if (!text_is_empty(config->mail_templates_dir) &&
        (stat(config->mail_templates_dir, &folder) != 0 || !S_ISDIR(folder.st_mode)))
        buf_printf(problems, "MAIL_TEMPLATES_DIR: %s is no folder\n", config->mail_templates_dir);
    for (size_t i = 0; i < MAIL_COUNT; i++)
        load_one(config, (enum mail_name)i, &templates->of[i], problems);
    if (problems->len == before)
        return templates;
    mail_templates_free(templates);
    return NULL;
}

void mail_templates_free(struct mail_templates *templates)
{
    if (templates == NULL)
        return;
    for (size_t i = 0; i < MAIL_COUNT; i++) {
        free(templates->of[i].subject);
        free(templates->of[i].text);
        free(templates->of[i].html);
    }
    free(templates);
}
