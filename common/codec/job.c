#include "codec/job.h"

#include "codec/encoding.h"
#include "codec/json.h"

#include <msgpack.h>

enum field_type { FIELD_text, FIELD_integer, FIELD_flag };

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
};

/* The fields of every payload: event_fields[] and so on. */
#define JOB(name, kind, payload, queue, run_max, max_attempts, max_run_ms, life)
#define PAYLOAD(name, version)     static const struct field name##_fields[] = {
#define FIELD(payload, type, name) {#name, FIELD_##type, offsetof(struct payload, name)},
#define PAYLOAD_END(name)                                                                          \
    }                                                                                              \
    ;
#include "jobs.def"
#undef PAYLOAD
#undef FIELD
#undef PAYLOAD_END

#define FIELD(payload, type, name)
#define PAYLOAD_END(name)

enum {
#define PAYLOAD(name, version) VERSION_##name = version,
#include "jobs.def"
#undef PAYLOAD
};

static const struct {
    const struct field *fields;
    size_t count;
    size_t size;
    int version;
} payloads[PAYLOAD_TYPE_COUNT] = {
#define PAYLOAD(name, version)                                                                     \
    {name##_fields, ARRAY_LEN(name##_fields), sizeof(struct name), version},
#include "jobs.def"
#undef PAYLOAD
};
#undef JOB

static const struct job_type job_types[JOB_KIND_COUNT] = {
#define PAYLOAD(name, version)
#define JOB(name, kind, payload, queue, run_max, max_attempts, max_run_ms, life)                   \
    {kind,    PAYLOAD_##payload, VERSION_##payload, QUEUE_##queue,                                 \
     run_max, max_attempts,      max_run_ms,        JOB_LIFE_##life},
#include "jobs.def"
#undef PAYLOAD
#undef JOB
};
#undef FIELD
#undef PAYLOAD_END

static const char *const queue_names[QUEUE_COUNT] = {
#define QUEUE(name) #name,
#define EVENT(name, kind)
#define ALSO(name, other)
#define ROUTE(name, job)
#include "routes.def"
#undef QUEUE
#undef EVENT
#undef ALSO
#undef ROUTE
};

const struct job_type *job_type(enum job_kind kind)
{
    REQUIRE(kind < JOB_KIND_COUNT);
    return &job_types[kind];
}

bool job_kind_find(struct span kind, enum job_kind *out)
{
    for (size_t i = 0; i < JOB_KIND_COUNT; i++) {
        if (span_equal(kind, span_of(job_types[i].kind))) {
            *out = (enum job_kind)i;
            return true;
        }
    }
    return false;
}

const char *queue_text(enum queue_name queue)
{
    REQUIRE(queue < QUEUE_COUNT);
    return queue_names[queue];
}

size_t payload_size(enum payload_type type)
{
    REQUIRE(type < PAYLOAD_TYPE_COUNT);
    return payloads[type].size;
}

static const char *text_at(const void *payload, const struct field *field)
{
    job_text text;
    memcpy(&text, (const char *)payload + field->offset, sizeof text);
    return text;
}

static int64_t integer_at(const void *payload, const struct field *field)
{
    job_integer number;
    memcpy(&number, (const char *)payload + field->offset, sizeof number);
    return number;
}

static bool flag_at(const void *payload, const struct field *field)
{
    job_flag flag;
    memcpy(&flag, (const char *)payload + field->offset, sizeof flag);
    return flag;
}

static void set_text(void *payload, const struct field *field, job_text text)
{
    memcpy((char *)payload + field->offset, &text, sizeof text);
}

static void set_integer(void *payload, const struct field *field, job_integer number)
{
    memcpy((char *)payload + field->offset, &number, sizeof number);
}

static void set_flag(void *payload, const struct field *field, job_flag flag)
{
    memcpy((char *)payload + field->offset, &flag, sizeof flag);
}

void payload_init(enum payload_type type, void *payload)
{
    memset(payload, 0, payload_size(type));
    for (size_t i = 0; i < payloads[type].count; i++)
        if (payloads[type].fields[i].type == FIELD_text)
            set_text(payload, &payloads[type].fields[i], "");
}

static bool is_empty(const void *payload, const struct field *field)
{
    switch (field->type) {
    case FIELD_text: return text_is_empty(text_at(payload, field));
    case FIELD_integer: return integer_at(payload, field) == 0;
    case FIELD_flag: return !flag_at(payload, field);
    }
    return true;
}

static int append(void *out, const char *ptr, size_t len)
{
    buf_add(out, ptr, len);
    return 0;
}

static void pack_text(msgpack_packer *packer, const char *text)
{
    size_t len = strlen(text);
    msgpack_pack_str(packer, len);
    msgpack_pack_str_body(packer, text, len);
}

static void pack_field(msgpack_packer *packer, const void *payload, const struct field *field)
{
    pack_text(packer, field->name);
    switch (field->type) {
    case FIELD_text: pack_text(packer, text_at(payload, field)); break;
    case FIELD_integer: msgpack_pack_int64(packer, integer_at(payload, field)); break;
    case FIELD_flag: msgpack_pack_true(packer); break; /* false is empty and not written */
    }
}

struct err payload_encode(enum payload_type type, const void *payload, struct buf *out)
{
    REQUIRE(type < PAYLOAD_TYPE_COUNT);
    const struct field *fields = payloads[type].fields;
    size_t before = out->len;
    size_t count = 0;
    for (size_t i = 0; i < payloads[type].count; i++)
        count += is_empty(payload, &fields[i]) ? 0 : 1;
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, append);
    msgpack_pack_map(&packer, count);
    for (size_t i = 0; i < payloads[type].count; i++) {
        if (is_empty(payload, &fields[i]))
            continue;
        pack_field(&packer, payload, &fields[i]);
        if (out->len - before > JOB_PAYLOAD_MAX) {
            out->len = before;
            return err_make(ERR_TOO_LARGE, "payload of more than %d bytes, field %s",
                            JOB_PAYLOAD_MAX, fields[i].name);
        }
    }
    return ERR_NONE;
}

/* What the first byte of a msgpack value says about the bytes and values that follow it. */
struct shape {
    uint8_t length_bytes; /* of the big-endian length behind the first byte */
    uint8_t extra_bytes;  /* fixed ones behind that */
    uint8_t unit_bytes;   /* of the body, for each unit of the length */
    uint8_t members;      /* values that follow, for each unit of the length */
    uint8_t fixed;        /* the length, where it is in the first byte */
};

static struct shape shape_of(uint8_t first)
{
    /* 0xc0 to 0xdf in the order of the specification; 0xc1 is never used. */
    static const struct shape shapes[32] = {
        {0, 0, 0, 0, 0},  {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, /* nil, -, bool */
        {1, 0, 1, 0, 0},  {2, 0, 1, 0, 0}, {4, 0, 1, 0, 0},                  /* bin */
        {1, 1, 1, 0, 0},  {2, 1, 1, 0, 0}, {4, 1, 1, 0, 0},                  /* ext */
        {0, 4, 0, 0, 0},  {0, 8, 0, 0, 0},                                   /* float */
        {0, 1, 0, 0, 0},  {0, 2, 0, 0, 0}, {0, 4, 0, 0, 0}, {0, 8, 0, 0, 0}, /* uint */
        {0, 1, 0, 0, 0},  {0, 2, 0, 0, 0}, {0, 4, 0, 0, 0}, {0, 8, 0, 0, 0}, /* int */
        {0, 2, 0, 0, 0},  {0, 3, 0, 0, 0}, {0, 5, 0, 0, 0}, {0, 9, 0, 0, 0}, /* fixext */
        {0, 17, 0, 0, 0},                                                    /* fixext 16 */
        {1, 0, 1, 0, 0},  {2, 0, 1, 0, 0}, {4, 0, 1, 0, 0},                  /* str */
        {2, 0, 0, 1, 0},  {4, 0, 0, 1, 0},                                   /* array */
        {2, 0, 0, 2, 0},  {4, 0, 0, 2, 0},                                   /* map */
    };
    if (first >= 0xc0 && first <= 0xdf)
        return shapes[first - 0xc0];
    if (first >= 0xa0 && first <= 0xbf)
        return (struct shape){.unit_bytes = 1, .fixed = first & 0x1f};
    if (first >= 0x90 && first <= 0x9f)
        return (struct shape){.members = 1, .fixed = first & 0x0f};
    if (first >= 0x80 && first <= 0x8f)
        return (struct shape){.members = 2, .fixed = first & 0x0f};
    return (struct shape){0}; /* a small number */
}

/* msgpack-c allocates what a container's header promises before it looks whether that is there.
 * So it is only given bytes that hold exactly one value, with every promise kept. */
static bool is_one_value(struct span bytes)
{
    const uint8_t *at = (const uint8_t *)bytes.ptr;
    size_t left = bytes.len;
    uint64_t pending = 1;
    while (pending > 0) {
        if (pending > left)
            return false;
        struct shape shape = shape_of(*at);
        uint64_t length = shape.fixed;
        if (left < (size_t)1 + shape.length_bytes + shape.extra_bytes)
            return false;
        for (size_t i = 1; i <= shape.length_bytes; i++)
            length = length << 8 | at[i];
        size_t head = (size_t)1 + shape.length_bytes + shape.extra_bytes;
        if (length * shape.unit_bytes > left - head)
            return false;
        size_t step = head + (size_t)(length * shape.unit_bytes);
        at += step;
        left -= step;
        pending += length * shape.members - 1;
    }
    return left == 0;
}

static struct span str_of(const msgpack_object *object)
{
    return (struct span){object->via.str.ptr, object->via.str.size};
}

static bool read_field(void *payload, const struct field *field, const msgpack_object *value,
                       struct arena *arena)
{
    switch (field->type) {
    case FIELD_text:
        if (value->type != MSGPACK_OBJECT_STR || !encoding_is_text(str_of(value)))
            return false;
        set_text(payload, field, arena_copy(arena, value->via.str.ptr, value->via.str.size));
        return true;
    case FIELD_integer:
        if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 <= INT64_MAX)
            set_integer(payload, field, (int64_t)value->via.u64);
        else if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
            set_integer(payload, field, value->via.i64);
        else
            return false;
        return true;
    case FIELD_flag:
        if (value->type != MSGPACK_OBJECT_BOOLEAN)
            return false;
        set_flag(payload, field, value->via.boolean);
        return true;
    }
    return false;
}

/* Which of the payload's fields the key names; their count for a name that is not ours. */
static size_t find_field(enum payload_type type, struct span key)
{
    size_t i = 0;
    while (i < payloads[type].count && !span_equal(key, span_of(payloads[type].fields[i].name)))
        i++;
    return i;
}

static struct err read_map(enum payload_type type, const msgpack_object *root, struct arena *arena,
                           void *payload)
{
    uint64_t seen = 0;
    if (root->type != MSGPACK_OBJECT_MAP)
        return err_make(ERR_MALFORMED, "payload is not a msgpack map");
    for (uint32_t i = 0; i < root->via.map.size; i++) {
        const msgpack_object_kv *pair = &root->via.map.ptr[i];
        if (pair->key.type != MSGPACK_OBJECT_STR)
            return err_make(ERR_MALFORMED, "payload with a key that is not a text");
        size_t at = find_field(type, str_of(&pair->key));
        if (at == payloads[type].count)
            continue;
        const struct field *field = &payloads[type].fields[at];
        if ((seen & UINT64_C(1) << at) != 0)
            return err_make(ERR_MALFORMED, "payload with two fields %s", field->name);
        seen |= UINT64_C(1) << at;
        if (!read_field(payload, field, &pair->val, arena))
            return err_make(ERR_MALFORMED, "payload with a bad field %s", field->name);
    }
    return ERR_NONE;
}

struct err payload_decode(enum payload_type type, int version, struct span bytes,
                          struct arena *arena, void *payload)
{
    payload_init(type, payload);
    REQUIRE(payloads[type].count <= 64); /* bits of read_map's seen */
    if (version > payloads[type].version)
        return err_make(ERR_UNKNOWN_VERSION, "payload version %d, this program knows %d", version,
                        payloads[type].version);
    if (version < 1 || bytes.len > JOB_PAYLOAD_MAX || !is_one_value(bytes))
        return err_make(ERR_MALFORMED, "payload of %zu bytes, version %d, is not whole", bytes.len,
                        version);
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    struct err err = err_make(ERR_MALFORMED, "payload is not msgpack");
    if (msgpack_unpack_next(&unpacked, bytes.ptr, bytes.len, NULL) == MSGPACK_UNPACK_SUCCESS)
        err = read_map(type, &unpacked.data, arena, payload);
    msgpack_unpacked_destroy(&unpacked);
    if (err_failed(&err))
        payload_init(type, payload);
    return err;
}

const char *payload_field(enum payload_type type, const void *payload, size_t index,
                          struct buf *out)
{
    REQUIRE(type < PAYLOAD_TYPE_COUNT);
    if (index >= payloads[type].count)
        return NULL;
    const struct field *field = &payloads[type].fields[index];
    struct json_writer writer = {.out = out};
    switch (field->type) {
    case FIELD_text: json_put_text(&writer, NULL, text_at(payload, field)); break;
    case FIELD_integer: json_put_integer(&writer, NULL, integer_at(payload, field)); break;
    case FIELD_flag: json_put_flag(&writer, NULL, flag_at(payload, field)); break;
    }
    return field->name;
}
