#include "codec/whop.h"

#include "codec/event_fields.h"
#include "codec/json.h"

enum { NAMES_MAX = 4, FIELDS_MAX = 40, PICKED_MAX = 64, PAGE_MAX = 1000 };

enum sort {
    SORT_TEXT,
    SORT_ID,
    SORT_INSIDE,
    SORT_TIME,
    SORT_AMOUNT,
    SORT_CURRENCY,
    SORT_NUMBER,
    SORT_FLAG,
    SORT_JSON,
};

struct field {
    enum sort sort;
    const char *member;
    size_t offset;
    const char *names[NAMES_MAX];
};

#define WHOP_OBJECT(object) static const struct field object##_fields[] = {
#define WHOP_FIELD(object, sort, member, ...)                                                      \
    {SORT_##sort, #member, offsetof(struct whop_##object, member), {__VA_ARGS__}},
#define WHOP_END(object)                                                                           \
    }                                                                                              \
    ;                                                                                              \
    _Static_assert(ARRAY_LEN(object##_fields) <= FIELDS_MAX, "too many fields");
#define WHOP_OPERATION(name, text, object, method, path)
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION

static const struct layout {
    const char *name;
    size_t size;
    const struct field *fields;
    size_t count;
} layouts[] = {
#define WHOP_OBJECT(object)                                                                        \
    {#object, sizeof(struct whop_##object), object##_fields, ARRAY_LEN(object##_fields)},
#define WHOP_FIELD(object, sort, member, ...)
#define WHOP_END(object)
#define WHOP_OPERATION(name, text, object, method, path)
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION
};

static const struct {
    const char *text;
    enum whop_object object;
    const char *method;
    const char *path;
} operations[] = {
#define WHOP_OBJECT(object)
#define WHOP_FIELD(object, sort, member, ...)
#define WHOP_END(object)
#define WHOP_OPERATION(name, text, object, method, path) {text, WHOP_OBJECT_##object, method, path},
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION
};

const char *whop_operation_text(enum whop_operation operation)
{
    REQUIRE(operation < WHOP_OPERATION_COUNT);
    return operations[operation].text;
}

enum whop_object whop_operation_object(enum whop_operation operation)
{
    REQUIRE(operation < WHOP_OPERATION_COUNT);
    return operations[operation].object;
}

const char *whop_operation_method(enum whop_operation operation)
{
    REQUIRE(operation < WHOP_OPERATION_COUNT);
    return operations[operation].method;
}

const char *whop_operation_path(enum whop_operation operation)
{
    REQUIRE(operation < WHOP_OPERATION_COUNT);
    return operations[operation].path;
}

/* Every name that any field of the object goes by, once: one walk over an answer finds them all. */
struct names {
    size_t count;
    const char *name[PICKED_MAX];
    uint8_t of[FIELDS_MAX][NAMES_MAX]; /* which of them a field's names are */
};

static void collect_names(const struct layout *layout, struct names *out)
{
    out->count = 0;
    for (size_t f = 0; f < layout->count; f++) {
        const struct field *field = &layout->fields[f];
        size_t last = field->sort == SORT_INSIDE ? 1 : NAMES_MAX;
        for (size_t n = 0; n < last && field->names[n] != NULL; n++) {
            size_t i = 0;
            while (i < out->count && strcmp(out->name[i], field->names[n]) != 0)
                i++;
            if (i == out->count) {
                REQUIRE(out->count < PICKED_MAX);
                out->name[out->count++] = field->names[n];
            }
            out->of[f][n] = (uint8_t)i;
        }
    }
}

static const struct json_value *inside(const struct json_value *object, const char *name)
{
    const struct json_value *value = NULL;
    return json_pick(object, &name, 1, &value) ? value : NULL;
}

static const char *read_text(enum sort sort, const struct json_value *value, struct arena *arena)
{
    if (sort == SORT_JSON)
        return json_is_object(value) ? json_copy(value, arena) : "";
    if (json_is_object(value) && sort != SORT_TEXT)
        value = inside(value, sort == SORT_ID ? "id" : sort == SORT_AMOUNT ? "amount" : "currency");
    else if (sort == SORT_CURRENCY && json_is_number(value))
        return ""; /* an amount of the nested form: its currency stands elsewhere */
    return json_text(value, arena, NULL);
}

static int64_t read_time(const struct json_value *value, struct arena *arena)
{
    int64_t ms = 0;
    return event_parse_time(json_text(value, arena, NULL), &ms) && ms > 0 ? ms : 0;
}

static int64_t read_number(const struct json_value *value)
{
    int64_t number = 0;
    return json_integer(value, &number) ? number : WHOP_NO_NUMBER;
}

static void set_text(const struct field *field, const uint8_t *of,
                     const struct json_value *const *picked, struct arena *arena, char *out)
{
    const char *text = "";
    if (field->sort == SORT_INSIDE)
        text = json_text(inside(picked[of[0]], field->names[1]), arena, NULL);
    else
        for (size_t n = 0; n < NAMES_MAX && field->names[n] != NULL && text_is_empty(text); n++)
            text = read_text(field->sort, picked[of[n]], arena);
    const void *pointer = text;
    memcpy(out, &pointer, sizeof pointer);
}

static void set_field(const struct field *field, const uint8_t *of,
                      const struct json_value *const *picked, struct arena *arena, char *out)
{
    int64_t number = 0;
    bool flag = false;
    switch (field->sort) {
    case SORT_TIME:
        for (size_t n = 0; n < NAMES_MAX && field->names[n] != NULL && number == 0; n++)
            number = read_time(picked[of[n]], arena);
        memcpy(out, &number, sizeof number);
        return;
    case SORT_NUMBER:
        number = read_number(picked[of[0]]);
        memcpy(out, &number, sizeof number);
        return;
    case SORT_FLAG:
        flag = json_flag(picked[of[0]], false);
        memcpy(out, &flag, sizeof flag);
        return;
    case SORT_TEXT:
    case SORT_ID:
    case SORT_INSIDE:
    case SORT_AMOUNT:
    case SORT_CURRENCY:
    case SORT_JSON: set_text(field, of, picked, arena, out); return;
    }
}

static struct err read_object(const struct layout *layout, const struct names *names,
                              const struct json_value *value, struct arena *arena, char *out)
{
    const struct json_value *picked[PICKED_MAX];
    const char *first = NULL;
    if (!json_is_object(value))
        return err_make(ERR_WHOP_ANSWER, "no object where a %s should be", layout->name);
    if (!json_pick(value, names->name, names->count, picked))
        return err_make(ERR_WHOP_ANSWER, "a %s with a member twice", layout->name);
    memset(out, 0, layout->size);
    for (size_t f = 0; f < layout->count; f++)
        set_field(&layout->fields[f], names->of[f], picked, arena, out + layout->fields[f].offset);
    memcpy(&first, out + layout->fields[0].offset, sizeof first);
    if (text_is_empty(first))
        return err_make(ERR_WHOP_ANSWER, "a %s without %s", layout->name,
                        layout->fields[0].names[0]);
    return ERR_NONE;
}

struct err whop_read(enum whop_object object, struct span body, struct arena *arena, void *out)
{
    struct names names;
    REQUIRE(object < WHOP_OBJECT_COUNT);
    const struct layout *layout = &layouts[object];
    struct json_doc *doc = json_parse(body);
    if (doc == NULL)
        return err_make(ERR_WHOP_ANSWER, "no JSON where a %s should be (%zu bytes)", layout->name,
                        body.len);
    collect_names(layout, &names);
    struct err err = read_object(layout, &names, json_root(doc), arena, out);
    json_free(doc);
    return err;
}

static struct err read_items(const struct layout *layout, const struct json_value *data,
                             struct arena *arena, struct whop_page *out)
{
    struct names names;
    struct json_items items = json_items_of(data);
    size_t count = items.left;
    if (count > PAGE_MAX)
        return err_make(ERR_WHOP_ANSWER, "a page of %zu %ss", count, layout->name);
    char *array = arena_alloc(arena, (count > 0 ? count : 1) * layout->size);
    collect_names(layout, &names);
    for (size_t i = 0; i < count; i++)
        TRY(read_object(layout, &names, json_items_next(&items), arena, array + i * layout->size));
    out->count = count;
    out->items = array;
    return ERR_NONE;
}

static struct err read_page(const struct layout *layout, const struct json_value *root,
                            struct arena *arena, struct whop_page *out)
{
    static const char *const names[] = {"data", "page_info"};
    static const char *const info_names[] = {"end_cursor", "has_next_page"};
    const struct json_value *part[ARRAY_LEN(names)];
    const struct json_value *info[ARRAY_LEN(info_names)];
    if (!json_pick(root, names, ARRAY_LEN(names), part) || !json_is_array(part[0]) ||
        !json_pick(part[1], info_names, ARRAY_LEN(info_names), info))
        return err_make(ERR_WHOP_ANSWER, "no page of %ss", layout->name);
    *out = (struct whop_page){.next = json_text(info[0], arena, NULL)};
    TRY(read_items(layout, part[0], arena, out));
    /* Some answers have only one of the two; an empty page is the last whatever they say. */
    out->more = !text_is_empty(out->next) && out->count > 0 && json_flag(info[1], true);
    return ERR_NONE;
}

struct err whop_read_page(enum whop_object object, struct span body, struct arena *arena,
                          struct whop_page *out)
{
    REQUIRE(object < WHOP_OBJECT_COUNT);
    struct json_doc *doc = json_parse(body);
    if (doc == NULL)
        return err_make(ERR_WHOP_ANSWER, "no JSON where a page of %ss should be (%zu bytes)",
                        layouts[object].name, body.len);
    struct err err = read_page(&layouts[object], json_root(doc), arena, out);
    json_free(doc);
    return err;
}

void whop_write(enum whop_object object, const void *it, struct buf *out)
{
    struct json_writer writer = {.out = out};
    REQUIRE(object < WHOP_OBJECT_COUNT);
    json_begin_object(&writer, NULL);
    for (size_t f = 0; f < layouts[object].count; f++) {
        const struct field *field = &layouts[object].fields[f];
        const char *at = (const char *)it + field->offset;
        const char *text = NULL;
        int64_t number = 0;
        if (field->sort == SORT_FLAG) {
            json_put_flag(&writer, field->member, *(const bool *)at);
        } else if (field->sort == SORT_TIME || field->sort == SORT_NUMBER) {
            memcpy(&number, at, sizeof number);
            if (number == WHOP_NO_NUMBER)
                json_put_text(&writer, field->member, NULL);
            else
                json_put_integer(&writer, field->member, number);
        } else {
            memcpy(&text, at, sizeof text);
            json_put_text(&writer, field->member, text);
        }
    }
    json_end_object(&writer);
}
