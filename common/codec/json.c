#include "codec/json.h"

#include <stdlib.h>
#include <yyjson.h>

enum { PICK_MAX = 64 };

static const struct json_value *value_of(const yyjson_val *val)
{
    return (const struct json_value *)val;
}

/* yyjson's accessors take pointers to what they do not change as if they did. */
static yyjson_val *val_of(const struct json_value *value)
{
    return (yyjson_val *)(uintptr_t)value;
}

/* yyjson (before 0.13) has no bound of its own; it does not recurse either, so that the depth can
 * be looked at afterwards. A document's values lie one behind the other in the order of the text,
 * and a container knows where the value behind its last member lies. */
static bool is_too_deep(yyjson_doc *doc)
{
    const yyjson_val *ends[JSON_DEPTH_MAX];
    size_t depth = 0;
    yyjson_val *val = yyjson_doc_get_root(doc);
    for (size_t left = yyjson_doc_get_val_count(doc); left > 0; left--, val++) {
        while (depth > 0 && val >= ends[depth - 1])
            depth--;
        if (!unsafe_yyjson_is_ctn(val))
            continue;
        if (depth == JSON_DEPTH_MAX)
            return true;
        ends[depth++] = unsafe_yyjson_get_next(val);
    }
    return false;
}

struct json_doc *json_parse(struct span text)
{
    if (text.len == 0)
        return NULL;
    yyjson_doc *doc = yyjson_read(text.ptr, text.len, YYJSON_READ_NUMBER_AS_RAW);
    if (doc != NULL && is_too_deep(doc)) {
        yyjson_doc_free(doc);
        doc = NULL;
    }
    return (struct json_doc *)doc;
}

void json_free(struct json_doc *doc)
{
    yyjson_doc_free((yyjson_doc *)doc);
}

const struct json_value *json_root(const struct json_doc *doc)
{
    return value_of(yyjson_doc_get_root((yyjson_doc *)(uintptr_t)doc));
}

bool json_is_object(const struct json_value *value)
{
    return yyjson_is_obj(val_of(value));
}

bool json_is_array(const struct json_value *value)
{
    return yyjson_is_arr(val_of(value));
}

bool json_is_null(const struct json_value *value)
{
    return value == NULL || yyjson_is_null(val_of(value));
}

bool json_is_empty(const struct json_value *value)
{
    return yyjson_is_ctn(val_of(value)) && unsafe_yyjson_get_len(val_of(value)) == 0;
}

/* The names looked for, in chains by a cheap hash: a member is compared with a name or two, not
 * with every one. */
enum { CHAINS = 64, CHAIN_END = 0xff };

struct name_table {
    uint8_t first[CHAINS];
    uint8_t next[PICK_MAX];
    size_t lens[PICK_MAX];
};

static size_t chain_of(const char *name, size_t len)
{
    return len == 0 ? 0 : ((size_t)(unsigned char)name[0] + len * 11) % CHAINS;
}

static void fill_table(struct name_table *table, const char *const *names, size_t count)
{
    memset(table->first, CHAIN_END, sizeof table->first);
    for (size_t i = 0; i < count; i++) {
        table->lens[i] = strlen(names[i]);
        uint8_t *first = &table->first[chain_of(names[i], table->lens[i])];
        table->next[i] = *first;
        *first = (uint8_t)i;
    }
}

bool json_pick(const struct json_value *object, const char *const *names, size_t count,
               const struct json_value **out)
{
    struct name_table table;
    bool unique = true;
    REQUIRE(count <= PICK_MAX);
    for (size_t i = 0; i < count; i++)
        out[i] = NULL;
    if (!json_is_object(object))
        return true; /* before the names are measured: most events lack most objects */
    fill_table(&table, names, count);
    yyjson_obj_iter iter = yyjson_obj_iter_with(val_of(object));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        const char *text = unsafe_yyjson_get_str(key);
        size_t len = unsafe_yyjson_get_len(key);
        for (size_t i = table.first[chain_of(text, len)]; i != CHAIN_END; i = table.next[i]) {
            if (table.lens[i] != len || memcmp(names[i], text, len) != 0)
                continue;
            if (out[i] == NULL)
                out[i] = value_of(yyjson_obj_iter_get_val(key));
            else
                unique = false;
        }
    }
    return unique;
}

const struct json_value *json_first(const struct json_value *array)
{
    return value_of(yyjson_arr_get_first(val_of(array)));
}

bool json_is_number(const struct json_value *value)
{
    return yyjson_is_raw(val_of(value));
}

struct json_items json_items_of(const struct json_value *array)
{
    return (struct json_items){json_first(array), yyjson_arr_size(val_of(array))};
}

const struct json_value *json_items_next(struct json_items *items)
{
    const struct json_value *value = items->left > 0 ? items->next : NULL;
    if (value != NULL && --items->left > 0)
        items->next = value_of(unsafe_yyjson_get_next(val_of(value)));
    return value;
}

const char *json_copy(const struct json_value *value, struct arena *arena)
{
    size_t len = 0;
    char *text = yyjson_val_write(val_of(value), 0, &len);
    if (text == NULL)
        return "";
    const char *copy = arena_copy(arena, text, len);
    free(text);
    return copy;
}

/* A string or a number as it was sent; NULL for everything else. */
static struct span raw_text(const struct json_value *value)
{
    if (value == NULL || !(yyjson_is_str(val_of(value)) || yyjson_is_raw(val_of(value))))
        return (struct span){NULL, 0};
    return (struct span){unsafe_yyjson_get_str(val_of(value)),
                         unsafe_yyjson_get_len(val_of(value))};
}

const char *json_text(const struct json_value *value, struct arena *arena, bool *odd)
{
    if (yyjson_is_bool(val_of(value)))
        return yyjson_get_bool(val_of(value)) ? "true" : "false";
    struct span text = raw_text(value);
    if (text.len == 0)
        return "";
    if (memchr(text.ptr, '\0', text.len) != NULL) {
        if (odd != NULL)
            *odd = true;
        return "";
    }
    return arena_copy(arena, text.ptr, text.len);
}

bool json_integer(const struct json_value *value, int64_t *out)
{
    struct span text = raw_text(value);
    bool negative = text.len > 0 && text.ptr[0] == '-';
    size_t i = negative ? 1 : 0;
    int64_t number = 0;
    if (text.len == i)
        return false;
    for (; i < text.len; i++) {
        int digit = text.ptr[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, negative ? -digit : digit, &number))
            return false;
    }
    *out = number;
    return true;
}

bool json_flag(const struct json_value *value, bool fallback)
{
    return yyjson_is_bool(val_of(value)) ? yyjson_get_bool(val_of(value)) : fallback;
}

static void put_string(struct buf *out, const char *text)
{
    buf_add(out, "\"", 1);
    for (const char *c = text; *c != '\0'; c++) {
        size_t plain = 0;
        while ((unsigned char)c[plain] >= 0x20 && c[plain] != '"' && c[plain] != '\\')
            plain++;
        buf_add(out, c, plain);
        c += plain;
        if (*c == '\0')
            break;
        if (*c == '"' || *c == '\\')
            buf_printf(out, "\\%c", *c);
        else
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*c);
    }
    buf_add(out, "\"", 1);
}

static void put_key(struct json_writer *writer, const char *key)
{
    if (writer->need_comma)
        buf_add(writer->out, ",", 1);
    writer->need_comma = true;
    if (key != NULL) {
        put_string(writer->out, key);
        buf_add(writer->out, ":", 1);
    }
}

static void begin(struct json_writer *writer, const char *key, const char *bracket)
{
    put_key(writer, key);
    buf_add(writer->out, bracket, 1);
    writer->need_comma = false;
}

static void end(struct json_writer *writer, const char *bracket)
{
    buf_add(writer->out, bracket, 1);
    writer->need_comma = true;
}

void json_begin_object(struct json_writer *writer, const char *key)
{
    begin(writer, key, "{");
}

void json_end_object(struct json_writer *writer)
{
    end(writer, "}");
}

void json_begin_array(struct json_writer *writer, const char *key)
{
    begin(writer, key, "[");
}

void json_end_array(struct json_writer *writer)
{
    end(writer, "]");
}

void json_put_text(struct json_writer *writer, const char *key, const char *text)
{
    put_key(writer, key);
    if (text == NULL)
        buf_add(writer->out, "null", 4);
    else
        put_string(writer->out, text);
}

void json_put_integer(struct json_writer *writer, const char *key, int64_t number)
{
    put_key(writer, key);
    buf_printf(writer->out, "%lld", (long long)number);
}

void json_put_flag(struct json_writer *writer, const char *key, bool value)
{
    put_key(writer, key);
    buf_add_text(writer->out, value ? "true" : "false");
}

void json_put_raw(struct json_writer *writer, const char *key, const char *json)
{
    put_key(writer, key);
    buf_add_text(writer->out, json != NULL ? json : "null");
}
