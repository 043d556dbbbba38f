#include "codec/seal.h"

#include "base/random.h"
#include "codec/encoding.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum { ASSOCIATED_MAX = SEAL_PURPOSE_MAX + 32 };

struct key {
    char id[SEAL_KEY_ID_SIZE];
    uint8_t bytes[SEAL_KEY_BYTES];
};

struct seal_keys {
    size_t count;
    struct key keys[SEAL_KEYS_MAX];
};

/* --- keys ------------------------------------------------------------------------------------ */

static const struct key *find_key(const struct seal_keys *keys, struct span id)
{
    for (size_t i = 0; i < keys->count; i++)
        if (span_equal(span_of(keys->keys[i].id), id))
            return &keys->keys[i];
    return NULL;
}

static bool is_key_id(struct span id)
{
    if (id.len == 0 || id.len >= SEAL_KEY_ID_SIZE)
        return false;
    for (size_t i = 0; i < id.len; i++)
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-",
                   id.ptr[i]) == NULL ||
            id.ptr[i] == '\0')
            return false;
    return true;
}

/* Upper case too, as `openssl rand -hex` and others differ. */
static bool read_hex(struct span hex, uint8_t out[SEAL_KEY_BYTES])
{
    char lower[2 * SEAL_KEY_BYTES];
    if (hex.len != sizeof lower)
        return false;
    for (size_t i = 0; i < hex.len; i++)
        lower[i] = (char)(hex.ptr[i] >= 'A' && hex.ptr[i] <= 'F' ? hex.ptr[i] | 0x20 : hex.ptr[i]);
    bool good = encoding_unhex((struct span){lower, sizeof lower}, out, SEAL_KEY_BYTES);
    OPENSSL_cleanse(lower, sizeof lower);
    return good;
}

static struct err add_key(struct seal_keys *keys, struct span id, struct span hex,
                          const char *setting)
{
    if (!is_key_id(id))
        return err_make(ERR_CONFIG,
                        "%s: a key is written id:hex, its id of 1 to %d letters, digits, dots, "
                        "dashes",
                        setting, SEAL_KEY_ID_SIZE - 1);
    if (keys->count == SEAL_KEYS_MAX)
        return err_make(ERR_CONFIG, "%s: at most %d keys", setting, SEAL_KEYS_MAX);
    if (find_key(keys, id) != NULL)
        return err_make(ERR_CONFIG, "%s: two keys have the id %.*s", setting, (int)id.len, id.ptr);
    struct key *key = &keys->keys[keys->count];
    if (!read_hex(hex, key->bytes))
        return err_make(ERR_CONFIG, "%s: key %.*s is not %d hex digits (openssl rand -hex %d)",
                        setting, (int)id.len, id.ptr, 2 * SEAL_KEY_BYTES, SEAL_KEY_BYTES);
    memcpy(key->id, id.ptr, id.len);
    keys->count++;
    return ERR_NONE;
}

static struct err add_list(struct seal_keys *keys, const char *list)
{
    while (*list != '\0') {
        struct span entry = {list, strcspn(list, ",")};
        list += entry.len + (list[entry.len] == ',' ? 1 : 0);
        while (entry.len > 0 && entry.ptr[0] == ' ') {
            entry.ptr++;
            entry.len--;
        }
        while (entry.len > 0 && entry.ptr[entry.len - 1] == ' ')
            entry.len--;
        const char *colon = entry.len > 0 ? memchr(entry.ptr, ':', entry.len) : NULL;
        size_t id_len = colon != NULL ? (size_t)(colon - entry.ptr) : 0;
        struct span hex = {entry.ptr + id_len + 1, colon != NULL ? entry.len - id_len - 1 : 0};
        TRY(add_key(keys, (struct span){entry.ptr, id_len}, hex, "WHOP_TOKEN_ENCRYPTION_KEYS"));
    }
    return ERR_NONE;
}

struct err seal_keys_new(const char *list, const char *single, struct seal_keys **out)
{
    struct err err = ERR_NONE;
    *out = NULL;
    if (text_is_empty(list) && text_is_empty(single))
        return ERR_NONE;
    struct seal_keys *keys = mem_zalloc(sizeof *keys);
    err = add_list(keys, list);
    /* While moving from one setting to the other both may give it. */
    bool given = find_key(keys, SPAN(SEAL_SINGLE_KEY_ID)) != NULL;
    if (!err_failed(&err) && !text_is_empty(single) && !given)
        err = add_key(keys, SPAN(SEAL_SINGLE_KEY_ID), span_of(single), "WHOP_TOKEN_ENCRYPTION_KEY");
    if (err_failed(&err))
        seal_keys_free(keys);
    else
        *out = keys;
    return err;
}

void seal_keys_free(struct seal_keys *keys)
{
    if (keys == NULL)
        return;
    OPENSSL_cleanse(keys, sizeof *keys);
    free(keys);
}

const char *seal_keys_newest(const struct seal_keys *keys)
{
    return keys->keys[0].id;
}

/* --- the cipher ------------------------------------------------------------------------------ */

static EVP_CIPHER_CTX *begin(const uint8_t *key, const uint8_t *nonce, struct span associated,
                             int encrypt)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int len = 0;
    REQUIRE(context != NULL && associated.len <= INT_MAX);
    REQUIRE(EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce, encrypt) == 1);
    if (associated.len > 0)
        REQUIRE(EVP_CipherUpdate(context, NULL, &len, (const uint8_t *)associated.ptr,
                                 (int)associated.len) == 1);
    return context;
}

static void update(EVP_CIPHER_CTX *context, struct span text, uint8_t *out)
{
    int len = 0;
    REQUIRE(text.len <= INT_MAX);
    if (text.len > 0)
        REQUIRE(EVP_CipherUpdate(context, out, &len, (const uint8_t *)text.ptr, (int)text.len) ==
                1);
    REQUIRE((size_t)len == text.len);
}

void seal_encrypt(const uint8_t key[SEAL_KEY_BYTES], const uint8_t nonce[SEAL_NONCE_BYTES],
                  struct span associated, struct span text, uint8_t *out,
                  uint8_t tag[SEAL_TAG_BYTES])
{
    uint8_t none[1];
    int len = 0;
    EVP_CIPHER_CTX *context = begin(key, nonce, associated, 1);
    update(context, text, out);
    REQUIRE(EVP_CipherFinal_ex(context, none, &len) == 1 && len == 0);
    REQUIRE(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, tag) == 1);
    EVP_CIPHER_CTX_free(context);
}

bool seal_decrypt(const uint8_t key[SEAL_KEY_BYTES], const uint8_t nonce[SEAL_NONCE_BYTES],
                  struct span associated, struct span text, const uint8_t tag[SEAL_TAG_BYTES],
                  uint8_t *out)
{
    uint8_t none[1];
    uint8_t expected[SEAL_TAG_BYTES];
    int len = 0;
    EVP_CIPHER_CTX *context = begin(key, nonce, associated, 0);
    memcpy(expected, tag, sizeof expected);
    update(context, text, out);
    REQUIRE(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, expected) == 1);
    bool good = EVP_CipherFinal_ex(context, none, &len) == 1;
    EVP_CIPHER_CTX_free(context);
    if (!good && text.len > 0)
        OPENSSL_cleanse(out, text.len);
    return good;
}

/* --- boxes ----------------------------------------------------------------------------------- */

/* The tenant is digits only, so that no two contexts read the same. */
static struct span associate(const struct seal_context *context, char out[ASSOCIATED_MAX])
{
    int len = snprintf(out, ASSOCIATED_MAX, "whopline/1/%lld/%s", (long long)context->tenant,
                       context->purpose);
    REQUIRE(len > 0 && len < ASSOCIATED_MAX);
    return (struct span){out, (size_t)len};
}

static struct err no_key(void)
{
    return err_make(ERR_CONFIG, "secrets are kept sealed, and there is no key: set "
                                "WHOP_TOKEN_ENCRYPTION_KEY (openssl rand -hex 32)");
}

struct err seal_box(const struct seal_keys *keys, const struct seal_context *context,
                    struct span secret, struct sealed *out)
{
    char associated[ASSOCIATED_MAX];
    if (keys == NULL)
        return no_key();
    if (secret.len == 0 || secret.len > SEAL_SECRET_MAX)
        return err_make(ERR_TOO_LARGE, "a secret has 1 to %d bytes", SEAL_SECRET_MAX);
    const struct key *key = &keys->keys[0];
    *out = (struct sealed){0};
    memcpy(out->key_id, key->id, sizeof out->key_id);
    random_bytes(out->nonce, sizeof out->nonce);
    buf_reserve(&out->ciphertext, secret.len);
    seal_encrypt(key->bytes, out->nonce, associate(context, associated), secret,
                 (uint8_t *)out->ciphertext.ptr, out->tag);
    out->ciphertext.len = secret.len;
    return ERR_NONE;
}

struct err seal_open(const struct seal_keys *keys, const struct seal_context *context,
                     const struct sealed *box, struct buf *out)
{
    char associated[ASSOCIATED_MAX];
    buf_clear(out);
    if (keys == NULL)
        return no_key();
    const struct key *key = find_key(keys, span_of(box->key_id));
    if (key == NULL)
        return err_make(ERR_SEALED,
                        "sealed with key \"%.32s\", which is not among ours: add it to "
                        "WHOP_TOKEN_ENCRYPTION_KEYS as %.32s:<hex>",
                        box->key_id, box->key_id);
    buf_reserve(out, box->ciphertext.len + 1); /* and its NUL: growing would leave a copy behind */
    if (!seal_decrypt(key->bytes, box->nonce, associate(context, associated),
                      buf_span(&box->ciphertext), box->tag, (uint8_t *)out->ptr))
        return err_make(ERR_SEALED,
                        "does not open with key \"%.32s\": the row was changed, or belongs to "
                        "another tenant, or the key's hex is another one than then",
                        box->key_id);
    out->len = box->ciphertext.len;
    return ERR_NONE;
}

void seal_wipe(struct buf *secret)
{
    if (secret->ptr != NULL)
        OPENSSL_cleanse(secret->ptr, secret->cap);
    buf_close(secret);
}

void seal_wipe_text(char *text)
{
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}
