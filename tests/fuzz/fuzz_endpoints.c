/* Any file: refused, or sorted by name and written so that it reads the same. */
#include "codec/endpoints.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct endpoint_list list;
    struct endpoint_list again;
    struct buf text = {0};
    struct buf second = {0};
    arena_init(&arena);
    struct err err = endpoints_parse((struct span){(const char *)data, size}, &arena, &list);
    if (!err_failed(&err)) {
        for (size_t i = 1; i < list.count; i++)
            REQUIRE(strcmp(list.entries[i - 1].name, list.entries[i].name) < 0);
        endpoints_write(list.entries, list.count, &text);
        err = endpoints_parse(buf_span(&text), &arena, &again);
        REQUIRE(!err_failed(&err));
        endpoints_write(again.entries, again.count, &second);
        REQUIRE(span_equal(buf_span(&text), buf_span(&second)));
    }
    buf_close(&text);
    buf_close(&second);
    arena_close(&arena);
    return 0;
}
