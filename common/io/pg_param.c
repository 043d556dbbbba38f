#include "io/pg.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>

enum {
    /* PostgreSQL's own numbers, src/include/catalog/pg_type.dat */
    OID_BYTEA = 17,
    OID_BIGINT = 20,
    OID_TEXT = 25,
};

struct pg_param pg_text(const char *text)
{
    return (struct pg_param){.ptr = text, .len = text != NULL ? strlen(text) : 0};
}

struct pg_param pg_text_or_null(const char *text)
{
    return pg_text(text != NULL && text[0] != '\0' ? text : NULL);
}

struct pg_param pg_integer(int64_t number)
{
    struct pg_param param = {0};
    snprintf(param.digits, sizeof param.digits, "%lld", (long long)number);
    return param;
}

struct pg_param pg_flag(bool value)
{
    return pg_text(value ? "t" : "f");
}

struct pg_param pg_bytes(struct span bytes)
{
    return (struct pg_param){
        .ptr = bytes.ptr != NULL ? bytes.ptr : "", .len = bytes.len, .binary = true};
}

/* The binary form of arrays (src/backend/utils/adt/arrayfuncs.c, array_recv): dimensions, whether
 * there are NULLs, element type, then length and lower bound of the dimension; each element is its
 * length (-1 for NULL) and its bytes. All 32-bit big-endian. */
enum { ARRAY_HEADER_BYTES = 20 };

static void add_int32(struct buf *buf, uint32_t number)
{
    uint32_t big = htonl(number);
    buf_add(buf, &big, sizeof big);
}

void pg_array_init(struct pg_array *array, enum pg_element element)
{
    static const uint32_t oids[] = {OID_TEXT, OID_BYTEA, OID_BIGINT};
    *array = (struct pg_array){.element = element};
    add_int32(&array->bytes, 1);
    add_int32(&array->bytes, 1);
    add_int32(&array->bytes, oids[element]);
    add_int32(&array->bytes, 0);
    add_int32(&array->bytes, 1);
}

void pg_array_add(struct pg_array *array, struct span value)
{
    REQUIRE(value.len <= INT32_MAX);
    add_int32(&array->bytes, (uint32_t)value.len);
    buf_add(&array->bytes, value.ptr, value.len);
    array->count++;
}

void pg_array_add_text(struct pg_array *array, const char *text)
{
    pg_array_add(array, span_of(text));
}

void pg_array_add_integer(struct pg_array *array, int64_t number)
{
    uint64_t big = htobe64((uint64_t)number);
    pg_array_add(array, (struct span){(const char *)&big, sizeof big});
}

struct pg_param pg_array_param(struct pg_array *array)
{
    uint32_t count = htonl(array->count);
    memcpy(array->bytes.ptr + 12, &count, sizeof count);
    if (array->count == 0) { /* an empty array has no dimension */
        memset(array->bytes.ptr, 0, 4);
        return pg_bytes((struct span){array->bytes.ptr, 12});
    }
    return pg_bytes(buf_span(&array->bytes));
}

void pg_array_close(struct pg_array *array)
{
    buf_close(&array->bytes);
}
