/* Any bytes are a payload or malformed; one that was read is written and read again as the same. */
#include "codec/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct event event;
    struct event again;
    struct buf first = {0};
    struct buf second = {0};
    arena_init(&arena);
    struct err err =
        payload_decode(PAYLOAD_event, 1, (struct span){(const char *)data, size}, &arena, &event);
    REQUIRE(err.code == ERR_OK || err.code == ERR_MALFORMED);
    if (err.code == ERR_OK) {
        err = payload_encode(PAYLOAD_event, &event, &first);
        REQUIRE(!err_failed(&err));
        err = payload_decode(PAYLOAD_event, 1, buf_span(&first), &arena, &again);
        REQUIRE(!err_failed(&err));
        err = payload_encode(PAYLOAD_event, &again, &second);
        REQUIRE(!err_failed(&err) && span_equal(buf_span(&first), buf_span(&second)));
    }
    buf_close(&first);
    buf_close(&second);
    arena_close(&arena);
    return 0;
}
