#ifndef WHOPLINE_MAIL_TEXT_H
#define WHOPLINE_MAIL_TEXT_H
/* Texts of mails with placeholders, {{name}}: checked once, filled in often. Pure; any thread.
 *
 * Values come from senders we do not know. Control characters of theirs (a line end in a name would
 * make a header or a paragraph) become blanks, what is too long is cut, and in HTML they are
 * escaped; there is no way to have one put in as it is. In HTML a placeholder may stand in text
 * only, not within a tag, a comment, a script or a style, where escaping is not enough. */
#include "base/buf.h"

enum mail_text_kind { MAIL_TEXT_PLAIN, MAIL_TEXT_HTML };
enum { MAIL_VALUE_MAX = 200 /* bytes of a value */, MAIL_PLACEHOLDER_MAX = 32 };

/* Appends "FILE:LINE: what is wrong" lines to problems. known, needed: names, a blank between. */
void mail_text_check(enum mail_text_kind kind, const char *file, const char *text,
                     const char *known, const char *needed, struct buf *problems);

/* The value of a placeholder; NULL is as good as "". */
typedef const char *mail_text_value(const char *name, void *data);
/* text: one that mail_text_check had nothing to say about. */
void mail_text_fill(enum mail_text_kind kind, const char *text, mail_text_value *value, void *data,
                    struct buf *out);

/* Whether the word is one of those, with blanks between. */
bool mail_text_has_word(const char *words, const char *word, size_t len);

#endif
