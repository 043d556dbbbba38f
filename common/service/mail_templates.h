#ifndef WHOPLINE_MAIL_TEMPLATES_H
#define WHOPLINE_MAIL_TEMPLATES_H
/* The mails of schema/mails.def and their templates: the built-in ones of deploy/mail, or files of
 * MAIL_TEMPLATES_DIR of the same names, which go before them one by one.
 *
 * NAME.txt begins with "Subject: ..." and an empty line; NAME.html is the same as HTML. Read and
 * checked once; read-only then, for any thread. */
#include "base/buf.h"
#include "base/config.h"

enum mail_name {
#define MAIL(name, sort, max_age_minutes, placeholders, needed) MAIL_##name,
#define FOLLOWS(change, mail, key)
#include "mails.def"
#undef MAIL
#undef FOLLOWS
    MAIL_COUNT
};
enum mail_sort { MAIL_ALWAYS, MAIL_UNLESS_SUPPRESSED };

struct mail_type {
    const char *name;
    enum mail_sort sort;
    int64_t max_age_minutes; /* where no setting says otherwise */
    const char *placeholders;
    const char *needed;
};
const struct mail_type *mail_type(enum mail_name name);
bool mail_find(const char *name, enum mail_name *out);

/* In minutes, by name; a line in problems for each word of MAIL_MAX_AGE_MINUTES that is none. */
void mail_read_ages(const struct config *config, int64_t out[MAIL_COUNT], struct buf *problems);

struct mail_templates {
    struct mail_template {
        char *subject;
        char *text;
        char *html;
    } of[MAIL_COUNT];
};
/* All that is wrong with any of them becomes lines in problems. NULL then. */
struct mail_templates *mail_templates_load(const struct config *config, struct buf *problems);
void mail_templates_free(struct mail_templates *templates); /* NULL is no harm */

#endif
