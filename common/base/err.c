#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name;
    enum err_class class;
    const char *text;
} codes[ERR_CODE_COUNT] = {
#define ERR(code, class, text) {#code, ERR_CLASS_##class, text},
#include "errors.def"
#undef ERR
};

struct err err_make(enum err_code code, const char *format, ...)
{
    struct err err = {.code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    return err;
}

enum err_class err_class_of(enum err_code code)
{
    REQUIRE(code < ERR_CODE_COUNT);
    return codes[code].class;
}

const char *err_name(enum err_code code)
{
    REQUIRE(code < ERR_CODE_COUNT);
    return codes[code].name;
}

bool err_code_find(const char *name, enum err_code *out)
{
    for (size_t i = 0; i < ERR_CODE_COUNT; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            *out = (enum err_code)i;
            return true;
        }
    }
    return false;
}

const char *err_text(const struct err *err)
{
    return err->text[0] != '\0' ? err->text : codes[err->code].text;
}

const char *err_class_name(enum err_class class)
{
    static const char *const names[] = {
        [ERR_CLASS_OK] = "ok",
        [ERR_CLASS_TRANSIENT] = "transient",
        [ERR_CLASS_UNAVAILABLE] = "unavailable",
        [ERR_CLASS_LIMITED] = "limited",
        [ERR_CLASS_NOT_YET] = "not_yet",
        [ERR_CLASS_AUTH] = "auth",
        [ERR_CLASS_UNKNOWN] = "unknown",
        [ERR_CLASS_PARK] = "park",
        [ERR_CLASS_PERMANENT] = "permanent",
        [ERR_CLASS_SKIP] = "skip",
    };
    return names[class];
}
