/* A list of keys, a line end, and a box: nonce, tag, ciphertext. Nothing the fuzzer makes up opens,
 * and a refused one leaves nothing behind. A real box of the same bytes always opens. */
#include "codec/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEY "a:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const struct seal_context context = {.tenant = 1, .purpose = "fuzz"};

static void check_keys(const char *text)
{
    struct seal_keys *keys = NULL;
    struct err err = seal_keys_new(text, "", &keys);
    REQUIRE(!err_failed(&err) || keys == NULL);
    if (keys != NULL)
        REQUIRE(seal_keys_newest(keys)[0] != '\0');
    seal_keys_free(keys);
}

static void check_box(const uint8_t *data, size_t size)
{
    struct sealed box = {.key_id = "a"};
    struct seal_keys *keys = NULL;
    struct buf out = {0};
    if (size < sizeof box.nonce + sizeof box.tag)
        return;
    struct err err = seal_keys_new(KEY, "", &keys);
    REQUIRE(!err_failed(&err));
    memcpy(box.nonce, data, sizeof box.nonce);
    memcpy(box.tag, data + sizeof box.nonce, sizeof box.tag);
    buf_add(&box.ciphertext, data + sizeof box.nonce + sizeof box.tag,
            size - sizeof box.nonce - sizeof box.tag);
    err = seal_open(keys, &context, &box, &out);
    REQUIRE(err.code == ERR_SEALED && out.len == 0);
    buf_close(&box.ciphertext);

    err = seal_box(keys, &context, (struct span){(const char *)data, size}, &box);
    if (!err_failed(&err)) {
        err = seal_open(keys, &context, &box, &out);
        REQUIRE(!err_failed(&err) && out.len == size && memcmp(out.ptr, data, size) == 0);
        buf_close(&box.ciphertext);
    }
    seal_wipe(&out);
    seal_keys_free(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    struct buf list = {0};
    buf_add(&list, data, end != NULL ? (size_t)(end - data) : size);
    check_keys(buf_text(&list));
    buf_close(&list);
    if (end != NULL)
        check_box(end + 1, size - (size_t)(end + 1 - data));
    return 0;
}
