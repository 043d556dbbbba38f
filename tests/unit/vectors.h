#ifndef WHOPLINE_TEST_VECTORS_H
#define WHOPLINE_TEST_VECTORS_H
/* Test vectors from tests/vectors, read with yyjson directly: what is tested must not be what reads
 * the expectations. Numbers keep their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <yyjson.h>

static inline yyjson_doc *vectors_open(const char *name)
{
    char path[512];
    yyjson_read_err err;
    snprintf(path, sizeof path, "%s/%s", TEST_VECTORS, name);
    yyjson_doc *doc = yyjson_read_file(path, YYJSON_READ_NUMBER_AS_RAW, NULL, &err);
    if (doc == NULL)
        fail_msg("%s: %s at %zu", path, err.msg, err.pos);
    return doc;
}

/* A member's text, NULL where there is none; numbers as written. */
static inline const char *vectors_text(yyjson_val *object, const char *name)
{
    yyjson_val *value = yyjson_obj_get(object, name);
    if (yyjson_is_raw(value))
        return yyjson_get_raw(value);
    return yyjson_get_str(value);
}

#endif
