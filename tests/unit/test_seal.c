/* Covers codec/seal: AES-256-GCM by published vectors, and what must not open: a changed byte, the
 * wrong tenant or purpose, an unknown key. And how keys are written. */
#include "codec/seal.h"

#include "codec/encoding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#define KEY_A      "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B      "ffeeddccbbaa99887766554433221100FFEEDDCCBBAA99887766554433221100"
#define VECTOR_MAX 64

/* McGrew and Viega, The Galois/Counter Mode of Operation, appendix B, test cases 13 to 16: those
 * of AES-256 with a nonce of 96 bits. */
static const struct vector {
    const char *key;
    const char *nonce;
    const char *text;
    const char *associated;
    const char *ciphertext;
    const char *tag;
} vectors[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
     "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
     "00000000000000000000000000000000", "", "cea7403d4d606b6e074ec5d3baf39d18",
     "d0d1c8a799996bf0265b98b5d48ab919"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

static struct span unhex(const char *hex, uint8_t *out)
{
    size_t len = strlen(hex) / 2;
    assert_true(len <= VECTOR_MAX && encoding_unhex(span_of(hex), out, len));
    return (struct span){(const char *)out, len};
}

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        uint8_t key[VECTOR_MAX];
        uint8_t nonce[VECTOR_MAX];
        uint8_t text_bytes[VECTOR_MAX];
        uint8_t associated_bytes[VECTOR_MAX];
        uint8_t cipher_bytes[VECTOR_MAX];
        uint8_t tag_bytes[VECTOR_MAX] = {0};
        uint8_t out[VECTOR_MAX] = {0};
        uint8_t back[VECTOR_MAX] = {0};
        uint8_t tag[SEAL_TAG_BYTES];
        unhex(vectors[i].key, key);
        unhex(vectors[i].nonce, nonce);
        struct span text = unhex(vectors[i].text, text_bytes);
        struct span associated = unhex(vectors[i].associated, associated_bytes);
        struct span cipher = unhex(vectors[i].ciphertext, cipher_bytes);
        unhex(vectors[i].tag, tag_bytes);

        seal_encrypt(key, nonce, associated, text, out, tag);
        assert_memory_equal(out, cipher_bytes, cipher.len);
        assert_memory_equal(tag, tag_bytes, sizeof tag);
        assert_true(seal_decrypt(key, nonce, associated, cipher, tag_bytes, back));
        assert_memory_equal(back, text_bytes, text.len);
        tag_bytes[SEAL_TAG_BYTES - 1] ^= 1;
        assert_false(seal_decrypt(key, nonce, associated, cipher, tag_bytes, back));
    }
}

/* --- boxes ----------------------------------------------------------------------------------- */

static const struct seal_context context = {.tenant = 7, .purpose = "whop_oauth"};
static const char secret[] = "{\"access_token\":\"tok_in_the_clear\"}";

static struct seal_keys *keys_of(const char *list)
{
    struct seal_keys *keys = NULL;
    struct err err = seal_keys_new(list, "", &keys);
    assert_false(err_failed(&err));
    assert_non_null(keys);
    return keys;
}

static struct sealed seal(const char *list)
{
    struct sealed box;
    struct seal_keys *keys = keys_of(list);
    struct err err = seal_box(keys, &context, span_of(secret), &box);
    assert_false(err_failed(&err));
    seal_keys_free(keys);
    return box;
}

/* The error's code; with ERR_OK what came out is what went in, else nothing came out. */
static enum err_code open_with(const char *list, const struct seal_context *as,
                               const struct sealed *box, char text[256])
{
    struct buf out = {0};
    struct seal_keys *keys = keys_of(list);
    struct err err = seal_open(keys, as, box, &out);
    if (err_failed(&err))
        assert_int_equal(out.len, 0);
    else
        assert_string_equal(buf_text(&out), secret);
    if (text != NULL)
        snprintf(text, 256, "%s", err_text(&err));
    seal_wipe(&out);
    assert_null(out.ptr);
    seal_keys_free(keys);
    return err.code;
}

static void test_opens(void **state)
{
    (void)state;
    struct sealed box = seal("old:" KEY_A);
    assert_string_equal(box.key_id, "old");
    assert_int_equal(box.ciphertext.len, strlen(secret));
    assert_int_equal(open_with("old:" KEY_A, &context, &box, NULL), ERR_OK);
    assert_int_equal(open_with("new:" KEY_B ", old:" KEY_A, &context, &box, NULL), ERR_OK);
    buf_close(&box.ciphertext);
}

static void test_is_never_the_same_twice(void **state)
{
    (void)state;
    struct sealed one = seal("old:" KEY_A);
    struct sealed two = seal("old:" KEY_A);
    assert_memory_not_equal(one.nonce, two.nonce, sizeof one.nonce);
    assert_memory_not_equal(one.ciphertext.ptr, two.ciphertext.ptr, one.ciphertext.len);
    buf_close(&one.ciphertext);
    buf_close(&two.ciphertext);
}

static void test_changed_byte(void **state)
{
    (void)state;
    struct sealed box = seal("old:" KEY_A);
    uint8_t *const parts[] = {box.nonce, box.tag, (uint8_t *)box.ciphertext.ptr};
    const size_t lens[] = {sizeof box.nonce, sizeof box.tag, box.ciphertext.len};
    for (size_t part = 0; part < ARRAY_LEN(parts); part++) {
        for (size_t i = 0; i < lens[part]; i++) {
            parts[part][i] ^= 0x80;
            assert_int_equal(open_with("old:" KEY_A, &context, &box, NULL), ERR_SEALED);
            parts[part][i] ^= 0x80;
        }
    }
    box.ciphertext.len--;
    assert_int_equal(open_with("old:" KEY_A, &context, &box, NULL), ERR_SEALED);
    box.ciphertext.len++;
    assert_int_equal(open_with("old:" KEY_A, &context, &box, NULL), ERR_OK);
    buf_close(&box.ciphertext);
}

static void test_of_somebody_else(void **state)
{
    (void)state;
    struct sealed box = seal("old:" KEY_A);
    const struct seal_context others[] = {
        {8, "whop_oauth"}, {0, "whop_oauth"}, {7, "whop_api_key"}, {7, ""}, {7, "whop_oauth "}};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_int_equal(open_with("old:" KEY_A, &others[i], &box, NULL), ERR_SEALED);
    buf_close(&box.ciphertext);
}

static void test_of_another_key(void **state)
{
    (void)state;
    char text[256];
    struct sealed box = seal("old:" KEY_A);
    assert_int_equal(open_with("new:" KEY_A, &context, &box, text), ERR_SEALED);
    assert_non_null(strstr(text, "\"old\""));
    assert_non_null(strstr(text, "WHOP_TOKEN_ENCRYPTION_KEYS"));
    assert_int_equal(open_with("old:" KEY_B, &context, &box, text), ERR_SEALED);
    struct buf out = {0};
    struct err err = seal_open(NULL, &context, &box, &out);
    assert_int_equal(err.code, ERR_CONFIG);
    assert_non_null(strstr(err_text(&err), "WHOP_TOKEN_ENCRYPTION_KEY"));
    buf_close(&box.ciphertext);
}

static void test_sizes(void **state)
{
    (void)state;
    struct sealed box;
    static const char large[SEAL_SECRET_MAX + 1];
    struct seal_keys *keys = keys_of("a:" KEY_A);
    struct err err = seal_box(keys, &context, (struct span){large, 0}, &box);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    err = seal_box(keys, &context, (struct span){large, sizeof large}, &box);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    err = seal_box(NULL, &context, SPAN("x"), &box);
    assert_int_equal(err.code, ERR_CONFIG);
    seal_keys_free(keys);
}

/* --- keys ------------------------------------------------------------------------------------ */

static void test_keys(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        const char *single;
        const char *newest; /* NULL: refused; "": none */
    } cases[] = {
        {"", "", ""},
        {"a:" KEY_A, "", "a"},
        {" a:" KEY_A " , b:" KEY_B " ", "", "a"},
        {"", KEY_B, SEAL_SINGLE_KEY_ID},
        {"a:" KEY_A, KEY_B, "a"},
        {"a:" KEY_A ",1:" KEY_B, KEY_B, "a"},
        {KEY_A, "", NULL},
        {"a:" KEY_A "0", "", NULL},
        {"a:", "", NULL},
        {":" KEY_A, "", NULL},
        {"a b:" KEY_A, "", NULL},
        {"a:" KEY_A ",a:" KEY_B, "", NULL},
        {"a:" KEY_A ",,b:" KEY_B, "", NULL},
        {"", "0123", NULL},
        {"", "zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct seal_keys *keys = NULL;
        struct err err = seal_keys_new(cases[i].list, cases[i].single, &keys);
        if (cases[i].newest == NULL) {
            assert_int_equal(err.code, ERR_CONFIG);
            assert_null(keys);
            assert_null(strstr(err_text(&err), "112233"));
            continue;
        }
        if (err_failed(&err))
            fail_msg("%s: %s", cases[i].list, err_text(&err));
        if (keys == NULL)
            assert_string_equal(cases[i].newest, "");
        else
            assert_string_equal(seal_keys_newest(keys), cases[i].newest);
        seal_keys_free(keys);
    }
}

static void test_single_key_opens_beside_a_list(void **state)
{
    (void)state;
    struct seal_keys *single = NULL;
    struct seal_keys *both = NULL;
    struct sealed box;
    struct buf out = {0};
    struct err err = seal_keys_new("", KEY_A, &single);
    assert_false(err_failed(&err));
    err = seal_box(single, &context, span_of(secret), &box);
    assert_false(err_failed(&err));
    err = seal_keys_new("new:" KEY_B, KEY_A, &both);
    assert_false(err_failed(&err));
    err = seal_open(both, &context, &box, &out);
    assert_false(err_failed(&err));
    assert_string_equal(buf_text(&out), secret);
    seal_wipe(&out);
    buf_close(&box.ciphertext);
    seal_keys_free(single);
    seal_keys_free(both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_opens),
        cmocka_unit_test(test_is_never_the_same_twice),
        cmocka_unit_test(test_changed_byte),
        cmocka_unit_test(test_of_somebody_else),
        cmocka_unit_test(test_of_another_key),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_single_key_opens_beside_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
