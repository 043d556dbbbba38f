/* The first four bytes are the seed, the rest a ring file's frames: any bytes are read to their end
 * in as many steps as they have room for frames, and a record that was read is written as the same
 * bytes. The same bytes without a frame around them are a record or none. */
#include "service/ring_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct accept_record *record, struct span content, uint32_t seed)
{
    struct buf again = {0};
    struct ring_frame frame;
    REQUIRE(record->id.len > 0);
    REQUIRE(ring_record_add(&again, seed, record));
    REQUIRE(ring_frame_read(again.ptr, &frame));
    struct span inner = {again.ptr + RING_FRAME_HEAD, again.len - RING_FRAME_HEAD};
    REQUIRE(span_equal(inner, content));
    REQUIRE(ring_frame_is_whole(&frame, seed, inner));
    buf_close(&again);
}

static void read_file(const struct ring_file *file)
{
    struct accept_record record;
    struct buf content = {0};
    uint64_t offset = 0;
    enum ring_read read;
    do {
        uint64_t before = offset;
        read = ring_file_read(file, &offset, &content, &record);
        REQUIRE(offset <= file->end);
        REQUIRE(offset >= before + RING_FRAME_HEAD || read == RING_END || read == RING_CUT);
        if (read == RING_READ)
            write_again(&record, buf_span(&content), file->seed);
    } while (read == RING_READ || read == RING_DAMAGED);
    REQUIRE(offset == file->end);
    buf_close(&content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct accept_record record;
    struct ring_file file = {0};
    uint32_t seed;
    if (size <= sizeof seed)
        return 0;
    memcpy(&seed, data, sizeof seed);
    struct span frames = {(const char *)data + sizeof seed, size - sizeof seed};
    struct err err = ring_file_create(&file, "", 0, seed, "");
    REQUIRE(!err_failed(&err));
    err = ring_file_append(&file, frames);
    REQUIRE(!err_failed(&err));
    read_file(&file);
    ring_file_close(&file);
    if (frames.len <= RING_CONTENT_MAX && ring_record_read(frames, &record))
        write_again(&record, frames, seed);
    return 0;
}
