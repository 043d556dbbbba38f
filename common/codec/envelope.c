#include "codec/envelope.h"

/* By hand in both directions, since this is done for every job: msgpack-c unpacks into objects of
 * its own. Formats are those of github.com/msgpack/msgpack/blob/master/spec.md. */

enum {
    MEMBERS = 9,
    FIXARRAY = 0x90,
    FIXSTR = 0xa0,
    FIXSTR_MAX = 31,
    BIN8 = 0xc4, /* BIN16 and BIN32 follow, as with STR8 */
    INT64 = 0xd3,
    STR8 = 0xd9,
    POSITIVE_MAX = 127,
};

/* --- writing --------------------------------------------------------------------------------- */

static void add_big_endian(struct buf *out, uint8_t first, uint64_t number, size_t bytes)
{
    uint8_t all[9] = {first};
    for (size_t i = 0; i < bytes; i++)
        all[1 + i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
    buf_add(out, all, 1 + bytes);
}

static void add_integer(struct buf *out, int64_t number)
{
    if (number >= 0 && number <= POSITIVE_MAX)
        add_big_endian(out, (uint8_t)number, 0, 0);
    else
        add_big_endian(out, INT64, (uint64_t)number, 8);
}

/* first8: the format with a length of one byte. */
static void add_sized(struct buf *out, uint8_t first8, struct span bytes)
{
    if (bytes.len <= UINT8_MAX)
        add_big_endian(out, first8, bytes.len, 1);
    else if (bytes.len <= UINT16_MAX)
        add_big_endian(out, (uint8_t)(first8 + 1), bytes.len, 2);
    else
        add_big_endian(out, (uint8_t)(first8 + 2), bytes.len, 4);
    if (bytes.len > 0)
        buf_add(out, bytes.ptr, bytes.len);
}

static void add_text(struct buf *out, struct span text)
{
    if (text.len > FIXSTR_MAX) {
        add_sized(out, STR8, text);
        return;
    }
    add_big_endian(out, (uint8_t)(FIXSTR | text.len), 0, 0);
    if (text.len > 0)
        buf_add(out, text.ptr, text.len);
}

void envelope_encode(const struct envelope *envelope, struct buf *out)
{
    add_big_endian(out, FIXARRAY | MEMBERS, 0, 0);
    add_text(out, envelope->kind);
    add_integer(out, envelope->version);
    add_text(out, envelope->key);
    add_integer(out, envelope->tenant);
    add_integer(out, envelope->attempt);
    add_integer(out, envelope->occurred_ms);
    add_integer(out, envelope->enqueued_ms);
    add_text(out, envelope->trace);
    add_sized(out, BIN8, envelope->payload);
}

/* --- reading --------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static uint64_t read_big_endian(struct reader *reader, size_t bytes)
{
    uint64_t number = 0;
    if (reader->left < bytes) {
        reader->bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        number = number << 8 | reader->at[i];
    reader->at += bytes;
    reader->left -= bytes;
    return number;
}

static uint64_t read_array(struct reader *reader)
{
    uint64_t first = read_big_endian(reader, 1);
    if (first >= 0x90 && first <= 0x9f)
        return first & 0x0f;
    if (first == 0xdc)
        return read_big_endian(reader, 2);
    reader->bad = true;
    return 0;
}

/* str and bin alike. */
static struct span read_bytes(struct reader *reader)
{
    uint64_t first = read_big_endian(reader, 1);
    uint64_t len = 0;
    if (first >= 0xa0 && first <= 0xbf)
        len = first & 0x1f;
    else if (first == 0xd9 || first == 0xc4)
        len = read_big_endian(reader, 1);
    else if (first == 0xda || first == 0xc5)
        len = read_big_endian(reader, 2);
    else if (first == 0xdb || first == 0xc6)
        len = read_big_endian(reader, 4);
    else
        reader->bad = true;
    if (reader->bad || len > reader->left) {
        reader->bad = true;
        return (struct span){NULL, 0};
    }
    struct span bytes = {(const char *)reader->at, (size_t)len};
    reader->at += len;
    reader->left -= (size_t)len;
    return bytes;
}

static int64_t read_integer(struct reader *reader)
{
    uint64_t first = read_big_endian(reader, 1);
    if (first <= 0x7f)
        return (int64_t)first;
    if (first >= 0xe0)
        return (int8_t)first;
    switch (first) {
    case 0xcc: return (int64_t)read_big_endian(reader, 1);
    case 0xcd: return (int64_t)read_big_endian(reader, 2);
    case 0xce: return (int64_t)read_big_endian(reader, 4);
    case 0xcf: return (int64_t)read_big_endian(reader, 8);
    case 0xd0: return (int8_t)read_big_endian(reader, 1);
    case 0xd1: return (int16_t)read_big_endian(reader, 2);
    case 0xd2: return (int32_t)read_big_endian(reader, 4);
    case 0xd3: return (int64_t)read_big_endian(reader, 8);
    default: reader->bad = true; return 0;
    }
}

struct err envelope_decode(struct span bytes, struct envelope *out)
{
    size_t len = bytes.ptr != NULL ? bytes.len : 0;
    struct reader reader = {(const uint8_t *)bytes.ptr, len, false};
    if (read_array(&reader) < MEMBERS)
        reader.bad = true;
    out->kind = read_bytes(&reader);
    out->version = read_integer(&reader);
    out->key = read_bytes(&reader);
    out->tenant = read_integer(&reader);
    out->attempt = read_integer(&reader);
    out->occurred_ms = read_integer(&reader);
    out->enqueued_ms = read_integer(&reader);
    out->trace = read_bytes(&reader);
    out->payload = read_bytes(&reader);
    if (!reader.bad)
        return ERR_NONE;
    *out = (struct envelope){0};
    return err_make(ERR_MALFORMED, "a job's envelope is not whole");
}
