#include "service/ring_record.h"

#include "base/crc32c.h"

struct numbers {
    int64_t received_ms;
    int64_t occurred_ms;
    int32_t version;
    uint32_t id_len;
    uint32_t payload_len;
    uint32_t body_len;
};

static uint32_t checksum(uint32_t seed, uint32_t len, const char *content)
{
    return crc32c(crc32c(seed, &len, sizeof len), content, len);
}

bool ring_record_add(struct buf *out, uint32_t seed, const struct accept_record *record)
{
    if (record->id.len > RING_ID_MAX || record->payload.len > JOB_PAYLOAD_MAX ||
        record->body.len >
            RING_CONTENT_MAX - RING_ID_MAX - JOB_PAYLOAD_MAX - sizeof(struct numbers))
        return false;
    const struct numbers numbers = {
        .received_ms = record->received_ms,
        .occurred_ms = record->occurred_ms,
        .version = record->version,
        .id_len = (uint32_t)record->id.len,
        .payload_len = (uint32_t)record->payload.len,
        .body_len = (uint32_t)record->body.len,
    };
    struct ring_frame frame = {
        .len = (uint32_t)(sizeof numbers + record->id.len + record->payload.len + record->body.len),
    };
    size_t start = out->len;
    buf_reserve(out, RING_FRAME_HEAD + frame.len);
    out->len += RING_FRAME_HEAD;
    buf_add(out, &numbers, sizeof numbers);
    buf_add(out, record->id.ptr, record->id.len);
    buf_add(out, record->payload.ptr, record->payload.len);
    buf_add(out, record->body.ptr, record->body.len);
    frame.crc = checksum(seed, frame.len, out->ptr + start + RING_FRAME_HEAD);
    memcpy(out->ptr + start, &frame, RING_FRAME_HEAD);
    return true;
}

bool ring_frame_read(const char *bytes, struct ring_frame *out)
{
    memcpy(out, bytes, RING_FRAME_HEAD);
    return out->len >= sizeof(struct numbers) && out->len <= RING_CONTENT_MAX;
}

bool ring_frame_is_whole(const struct ring_frame *frame, uint32_t seed, struct span content)
{
    return content.len == frame->len && checksum(seed, frame->len, content.ptr) == frame->crc;
}

bool ring_record_read(struct span content, struct accept_record *out)
{
    struct numbers numbers;
    if (content.len < sizeof numbers)
        return false;
    memcpy(&numbers, content.ptr, sizeof numbers);
    uint64_t sum =
        (uint64_t)sizeof numbers + numbers.id_len + numbers.payload_len + numbers.body_len;
    if (sum != content.len || numbers.id_len == 0 || numbers.id_len > RING_ID_MAX ||
        numbers.payload_len > JOB_PAYLOAD_MAX)
        return false;
    const char *at = content.ptr + sizeof numbers;
    *out = (struct accept_record){
        .id = {at, numbers.id_len},
        .payload = {at + numbers.id_len, numbers.payload_len},
        .body = {at + numbers.id_len + numbers.payload_len, numbers.body_len},
        .version = numbers.version,
        .occurred_ms = numbers.occurred_ms,
        .received_ms = numbers.received_ms,
    };
    return true;
}
