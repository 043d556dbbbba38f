#include "cli/payload.h"

#include "codec/encoding.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MS_PER_S = 1000, TIME_SIZE = 64 };

/* payload: of the arena. */
static struct err decode(const char *kind_text, int version, struct span bytes, struct arena *arena,
                         enum payload_type *type, void **payload)
{
    enum job_kind kind;
    if (!job_kind_find(span_of(kind_text), &kind))
        return err_make(ERR_UNKNOWN_KIND, "this program knows no kind %.60s", kind_text);
    *type = job_type(kind)->payload;
    *payload = arena_alloc(arena, payload_size(*type));
    return payload_decode(*type, version, bytes, arena, *payload);
}

void payload_put_base64(struct json_writer *json, const char *key, struct span bytes)
{
    char *base64 = mem_alloc(ENCODING_BASE64_SIZE(bytes.len));
    encoding_base64(bytes.ptr, bytes.len, base64);
    json_put_text(json, key, base64);
    free(base64);
}

void payload_put_json(struct json_writer *json, const char *kind, int version, struct span bytes)
{
    struct arena arena;
    enum payload_type type = PAYLOAD_event;
    void *payload = NULL;
    struct buf value = {0};
    const char *name;
    arena_init(&arena);
    struct err err = decode(kind, version, bytes, &arena, &type, &payload);
    if (err_failed(&err)) {
        json_put_text(json, "payload_error", err_text(&err));
        payload_put_base64(json, "payload_base64", bytes);
    } else {
        json_begin_object(json, "payload");
        for (size_t i = 0; (name = payload_field(type, payload, i, &value)) != NULL; i++) {
            json_put_raw(json, name, buf_text(&value));
            buf_clear(&value);
        }
        json_end_object(json);
    }
    buf_close(&value);
    arena_close(&arena);
}

/* A JSON value for people; "" for an empty one. Times have names that end in their unit. */
static void add_row(struct table *table, const char *name, const char *json, struct arena *arena)
{
    char time_text[TIME_SIZE];
    struct tm tm;
    size_t len = strlen(name);
    struct json_doc *doc = json_parse(span_of(json));
    const struct json_value *value = json_root(doc);
    const char *text = json_text(value, arena, NULL);
    bool empty = text[0] == '\0' || strcmp(json, "0") == 0 || strcmp(json, "false") == 0;
    if (!empty && len > 3 && strcmp(name + len - 3, "_ms") == 0) {
        time_t seconds = (time_t)(strtoll(text, NULL, 10) / MS_PER_S);
        if (gmtime_r(&seconds, &tm) != NULL &&
            strftime(time_text, sizeof time_text, "%Y-%m-%d %H:%M:%S UTC", &tm) > 0)
            text = arena_printf(arena, "%s (%s)", text, time_text);
    }
    if (!empty) {
        table_printf(table, "payload.%s", name);
        table_add(table, text);
    }
    json_free(doc);
}

void payload_add_rows(struct table *table, const char *kind, int version, struct span bytes)
{
    struct arena arena;
    enum payload_type type = PAYLOAD_event;
    void *payload = NULL;
    struct buf value = {0};
    const char *name;
    arena_init(&arena);
    struct err err = decode(kind, version, bytes, &arena, &type, &payload);
    if (err_failed(&err)) {
        table_add(table, "payload");
        table_printf(table, "%zu bytes that cannot be read: %s", bytes.len, err_text(&err));
    } else {
        for (size_t i = 0; (name = payload_field(type, payload, i, &value)) != NULL; i++) {
            add_row(table, name, buf_text(&value), &arena);
            buf_clear(&value);
        }
    }
    buf_close(&value);
    arena_close(&arena);
}
