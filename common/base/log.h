#ifndef WHOPLINE_LOG_H
#define WHOPLINE_LOG_H
/* Log lines to stderr: logfmt or JSON, one write each, so that lines of threads never mix.
 *
 *   log_info("journal", "events journalled", LOG_INT("count", n), LOG_TEXT("queue", name));
 *
 * A line carries whom it is about: the thread's job, event and tenant while one runs. Values never
 * hold bodies, signatures, secrets or e-mail addresses. Any thread, after log_init. */
#include "base/base.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_field {
    const char *name; /* NULL ends the list */
    const char *text; /* NULL: the number counts */
    int64_t number;
};

#define LOG_TEXT(name, value) ((struct log_field){(name), (value), 0})
#define LOG_INT(name, value)  ((struct log_field){(name), NULL, (int64_t)(value)})

/* Whom this thread's lines are about; borrowed until the next call. NULL members are left out. */
struct log_about {
    const char *job;
    const char *event;
    const char *tenant;
};

/* program: borrowed, e.g. "whopline-credits". */
void log_init(const char *program, enum log_level level, enum log_format format);
void log_about(struct log_about about);
struct log_about log_about_now(void); /* this thread's; also in a signal handler */
enum log_level log_level_now(void);
enum log_format log_format_now(void);

void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields);

#define log_debug(module, ...)   LOG_LINE(LOG_LEVEL_DEBUG, module, __VA_ARGS__)
#define log_info(module, ...)    LOG_LINE(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define log_warning(module, ...) LOG_LINE(LOG_LEVEL_WARNING, module, __VA_ARGS__)
#define log_error(module, ...)   LOG_LINE(LOG_LEVEL_ERROR, module, __VA_ARGS__)
#define LOG_LINE(level, module, ...)                                                               \
    log_write(level, module, LOG_FIRST(__VA_ARGS__, 0),                                            \
              (const struct log_field[]){LOG_REST(__VA_ARGS__, {NULL, NULL, 0})})
#define LOG_FIRST(first, ...) first
#define LOG_REST(first, ...)  __VA_ARGS__

#endif
