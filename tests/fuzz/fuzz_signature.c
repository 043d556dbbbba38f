/* Lines of the input are the headers, the rest is the body. Nobody who does not have the secret may
 * be accepted, and what we sign ourselves always is. */
#include "codec/encoding.h"
#include "codec/signature.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const unsigned all = SIGNATURE_STANDARD | SIGNATURE_LEGACY | SIGNATURE_BARE_HEX;

static struct span next_line(const char **ptr, size_t *left)
{
    const char *end = *left > 0 ? memchr(*ptr, '\n', *left) : NULL;
    struct span line = {*ptr, end != NULL ? (size_t)(end - *ptr) : *left};
    size_t step = line.len + (end != NULL ? 1 : 0);
    *ptr += step;
    *left -= step;
    return line;
}

static void check_ours(struct signature_keys *keys, struct span id, struct span body)
{
    struct span timestamp = SPAN("1786400000");
    char header[SIGNATURE_HEADER_SIZE];
    struct signature_check check;
    signature_sign(keys, SIGNATURE_STANDARD, id, timestamp, body, header);
    struct signature_headers headers = {id, timestamp, span_of(header), {NULL, 0}};
    enum signature_result result = signature_precheck(&headers, all, 1786400000, 300, &check);
    if (id.len == 0 || id.len > SIGNATURE_ID_MAX || !encoding_is_text(id)) {
        REQUIRE(result != SIGNATURE_OK);
        return;
    }
    REQUIRE(result == SIGNATURE_OK);
    REQUIRE(signature_verify(keys, &headers, body, &check) == SIGNATURE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct signature_keys *keys;
    if (keys == NULL) {
        struct err err =
            signature_keys_new("ws_fuzz,whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", &keys);
        REQUIRE(!err_failed(&err));
    }
    const char *ptr = (const char *)data;
    struct signature_headers headers;
    struct signature_check check;
    headers.id = next_line(&ptr, &size);
    headers.timestamp = next_line(&ptr, &size);
    headers.signature = next_line(&ptr, &size);
    headers.whop_signature = next_line(&ptr, &size);
    struct span body = {ptr, size};
    if (signature_precheck(&headers, all, 1786400000, 300, &check) == SIGNATURE_OK) {
        REQUIRE(check.skew_s >= -300 && check.skew_s <= 300);
        REQUIRE(signature_verify(keys, &headers, body, &check) == SIGNATURE_MISMATCH);
    }
    check_ours(keys, headers.id, body);

    /* The first line as a setting: anything may be refused, nothing may break. */
    char secrets[128] = "";
    struct signature_keys *others = NULL;
    memcpy(secrets, headers.id.ptr, headers.id.len < 127 ? headers.id.len : 127);
    struct err err = signature_keys_new(secrets, &others);
    REQUIRE(err_failed(&err) == (others == NULL));
    signature_keys_free(others);
    return 0;
}
