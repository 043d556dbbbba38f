#ifndef WHOPLINE_JSON_H
#define WHOPLINE_JSON_H
/* JSON: a reader that keeps numbers as the text they were sent as and notices duplicate keys among
 * those it is asked for, and a writer. yyjson beneath. One thread per document.
 *
 * Strings that hold a NUL are refused by json_text, since nothing behind it (PostgreSQL, Whop's
 * ids) can hold one. */
#include "base/arena.h"
#include "base/buf.h"

struct json_doc;
struct json_value; /* borrowed from its document */

enum { JSON_DEPTH_MAX = 64 };

/* NULL: not JSON, not UTF-8, or nested deeper than JSON_DEPTH_MAX. text is copied. */
struct json_doc *json_parse(struct span text);
void json_free(struct json_doc *doc);
const struct json_value *json_root(const struct json_doc *doc);

bool json_is_object(const struct json_value *value); /* false for NULL */
bool json_is_array(const struct json_value *value);
bool json_is_null(const struct json_value *value);  /* true for NULL too */
bool json_is_empty(const struct json_value *value); /* an object or array without members */

/* Looks up several members at once: out[i] is the member names[i], or NULL. False if one of these
 * names occurs twice. object may be NULL or of another type: then all are NULL. */
bool json_pick(const struct json_value *object, const char *const *names, size_t count,
               const struct json_value **out);
const struct json_value *json_first(const struct json_value *array); /* NULL if there is none */
bool json_is_number(const struct json_value *value);

/* The elements of an array, one after the other; none where it is no array. */
struct json_items {
    const struct json_value *next;
    size_t left;
};
struct json_items json_items_of(const struct json_value *array);
const struct json_value *json_items_next(struct json_items *items); /* NULL: no more */

/* A value as JSON text, numbers as they were sent. "" where it cannot be written. */
const char *json_copy(const struct json_value *value, struct arena *arena);

/* A string, or a number's or boolean's own text, copied to the arena. "" for null, absent, object
 * and array; *odd (may be NULL) is set where a string holds a NUL. */
const char *json_text(const struct json_value *value, struct arena *arena, bool *odd);
/* A whole number, also one written as a string. */
bool json_integer(const struct json_value *value, int64_t *out);
bool json_flag(const struct json_value *value, bool fallback);

/* Writing: appends to a buffer. key is NULL inside arrays. The caller balances begin and end;
 * commas are the writer's. */
struct json_writer {
    struct buf *out;
    bool need_comma;
};
void json_begin_object(struct json_writer *writer, const char *key);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer, const char *key);
void json_end_array(struct json_writer *writer);
void json_put_text(struct json_writer *writer, const char *key, const char *text); /* NULL: null */
void json_put_integer(struct json_writer *writer, const char *key, int64_t number);
void json_put_flag(struct json_writer *writer, const char *key, bool value);
/* Already JSON, e.g. made by PostgreSQL; NULL: null. */
void json_put_raw(struct json_writer *writer, const char *key, const char *json);

#endif
