#ifndef WHOPLINE_ERR_H
#define WHOPLINE_ERR_H
/* Errors by value. Codes, classes and texts are declared in schema/errors.def.
 *
 * Whoever handles an error logs it; whoever passes it on does not. Every function that returns
 * struct err is marked MUST_CHECK (a lint test sees to it). The text never holds a secret. */
#include "base/base.h"

enum err_class {
    ERR_CLASS_OK,
    ERR_CLASS_TRANSIENT,
    ERR_CLASS_UNAVAILABLE,
    ERR_CLASS_LIMITED,
    ERR_CLASS_NOT_YET,
    ERR_CLASS_AUTH,
    ERR_CLASS_UNKNOWN,
    ERR_CLASS_PARK,
    ERR_CLASS_PERMANENT,
    ERR_CLASS_SKIP,
};

enum err_code {
#define ERR(code, class, text) ERR_##code,
#include "errors.def"
#undef ERR
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    uint32_t after_ms; /* class LIMITED: not to be tried sooner */
    char text[176];    /* what happened and what to do about it */
};

#define ERR_NONE ((struct err){.code = ERR_OK})

MUST_CHECK struct err err_make(enum err_code code, const char *format, ...) PRINTF_LIKE(2, 3);

enum err_class err_class_of(enum err_code code);
const char *err_name(enum err_code code); /* "PG_DOWN" */
bool err_code_find(const char *name, enum err_code *out);
const char *err_text(const struct err *err);      /* err->text, or the code's own text */
const char *err_class_name(enum err_class class); /* "unavailable" */

static inline bool err_failed(const struct err *err)
{
    return err->code != ERR_OK;
}

/* Passes a failure on. Only where nothing but arena memory is owned; elsewhere goto out. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        struct err try_err = (expression);                                                         \
        if (err_failed(&try_err))                                                                  \
            return try_err;                                                                        \
    } while (0)

#endif
