/* Any answer of Whop's becomes an object, a page or an error with texts that may be shown. */
#include "codec/encoding.h"
#include "codec/whop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_object(enum whop_object object, const void *it)
{
    struct buf out = {0};
    const char *first = NULL;
    memcpy(&first, it, sizeof first);
    REQUIRE(!text_is_empty(first));
    whop_write(object, it, &out); /* reads every field */
    buf_close(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span body = {(const char *)data, size};
    union {
#define WHOP_OBJECT(object) struct whop_##object object;
#define WHOP_FIELD(object, sort, member, ...)
#define WHOP_END(object)
#define WHOP_OPERATION(name, text, object, method, path)
#include "whop.def"
#undef WHOP_OBJECT
#undef WHOP_FIELD
#undef WHOP_END
#undef WHOP_OPERATION
    } any;
    struct whop_page page;
    struct whop_problem problem;
    struct arena arena;
    arena_init(&arena);
    for (int object = 0; object < WHOP_OBJECT_COUNT; object++) {
        struct err err = whop_read((enum whop_object)object, body, &arena, &any);
        if (!err_failed(&err))
            check_object((enum whop_object)object, &any);
    }
    struct err err = whop_read_page(WHOP_OBJECT_membership, body, &arena, &page);
    if (!err_failed(&err)) {
        const struct whop_membership *items = page.items;
        for (size_t i = 0; i < page.count; i++)
            check_object(WHOP_OBJECT_membership, &items[i]);
        REQUIRE(!page.more || !text_is_empty(page.next));
    }
    whop_read_problem(body, &problem);
    REQUIRE(encoding_is_text(span_of(problem.message)) && encoding_is_text(span_of(problem.code)));
    REQUIRE(strstr(problem.message, "apik_x") == NULL && strchr(problem.message, '@') == NULL);
    REQUIRE(problem.wait_ms >= -1 && problem.wait_ms <= 3600000);
    arena_close(&arena);
    return 0;
}
