#ifndef WHOPLINE_CONFIG_H
#define WHOPLINE_CONFIG_H
/* The settings of schema/config.def, read from the environment.
 *
 * Read once at start, by the main thread; borrowed by everyone until the end. Blanks, CR, LF, BOM
 * and zero-width spaces around a value are cut off; "changeme" and its like are refused. */
#include "base/buf.h"
#include "base/err.h"

enum config_program {
    CONFIG_INGEST = 1,
    CONFIG_WORKER = 2,
    CONFIG_CLI = 4,
};

struct config {
#define GROUP(title)
#define TEXT(member, name, fallback, programs, help)              const char *member;
#define SECRET(member, name, programs, help)                      const char *member;
#define INTEGER(member, name, fallback, min, max, programs, help) int64_t member;
#define SWITCH(member, name, fallback, programs, help)            bool member;
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

enum { CONFIG_STREAM_PREFIX_MAX = 32 }; /* bytes */

/* Where a value comes from; NULL when not set. The process uses getenv. */
typedef const char *config_source(const char *name, void *context);

/* Reads what the program uses. Every problem is a line in problems (which stays empty when all is
 * well), none of them with a secret's value; what is set without effect is a line in notes. */
void config_load(struct config *config, enum config_program program, config_source *source,
                 void *context, struct buf *problems, struct buf *notes);
void config_close(struct config *config);

const char *config_getenv(const char *name, void *context);
/* Once settings are read: overwrites the values of all secrets, also of those this program does not
 * use, where the kernel shows them (/proc/PID/environ), and unsets their names, so that no child
 * inherits them. Before there are threads. */
void config_wipe_environment(void);

/* A secret that came from a file, read again: NULL if it did not come from one; the caller wipes
 * and frees it. What is wrong is a line in problems, without the value. */
char *config_reread_secret(const char *name, struct buf *problems);

/* Generated texts. */
void config_write_help(enum config_program program, struct buf *out); /* for --help */
void config_write_example(struct buf *out);                           /* deploy/env.example */
void config_write_reference(struct buf *out);                         /* docs/settings.md */
/* The settings that differ from their defaults, secrets as "(set)", for the log line at start. */
void config_write_summary(const struct config *config, enum config_program program,
                          struct buf *out);

#endif
