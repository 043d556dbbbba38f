#include "codec/signature.h"

#include "codec/encoding.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TIMESTAMP_DIGITS_MAX = 12,
    MAC_BASE64_LEN = 44, /* of 32 bytes, with its padding */
    SECRET_MAX = 1024,   /* bytes; Whop's have 67 */
};

/* A keyed context is made once and re-initialised without a key for every message: that keeps the
 * two hashed key blocks and is half the cost of setting the key anew. */
struct key {
    EVP_MAC_CTX *literal;
    EVP_MAC_CTX *decoded; /* whsec_ in the standard scheme; else the same context as literal */
};

struct signature_keys {
    size_t count;
    struct key keys[SIGNATURE_SECRETS_MAX];
};

/* The signatures of one header, decoded. */
struct entries {
    size_t count;
    uint8_t macs[SIGNATURE_ENTRIES_MAX][SIGNATURE_MAC_BYTES];
};

static EVP_MAC_CTX *new_context(EVP_MAC *mac, const void *key, size_t len)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
    REQUIRE(context != NULL && EVP_MAC_init(context, key, len, params) == 1);
    return context;
}

static struct err add_key(struct signature_keys *keys, EVP_MAC *mac, struct span secret)
{
    static const char prefix[] = "whsec_";
    size_t prefix_len = sizeof prefix - 1;
    struct key *key = &keys->keys[keys->count];
    size_t number = keys->count + 1;
    if (secret.len == 0)
        return err_make(ERR_CONFIG, "webhook secret %zu is empty", number);
    if (secret.len > SECRET_MAX)
        return err_make(ERR_CONFIG, "webhook secret %zu is longer than %d bytes", number,
                        SECRET_MAX);
    uint8_t bytes[SECRET_MAX + 3];
    size_t len = 0;
    bool encoded = secret.len >= prefix_len && memcmp(secret.ptr, prefix, prefix_len) == 0;
    if (encoded) {
        struct span rest = {secret.ptr + prefix_len, secret.len - prefix_len};
        if (!encoding_unbase64(rest, bytes, &len) || len == 0)
            return err_make(ERR_CONFIG, "webhook secret %zu: no base64 after whsec_", number);
    }
    key->literal = new_context(mac, secret.ptr, secret.len);
    key->decoded = encoded ? new_context(mac, bytes, len) : key->literal;
    OPENSSL_cleanse(bytes, sizeof bytes);
    keys->count++;
    return ERR_NONE;
}

struct err signature_keys_new_list(const struct span *secrets, size_t count,
                                   struct signature_keys **out)
{
    *out = NULL;
    if (count == 0 || count > SIGNATURE_SECRETS_MAX)
        return err_make(ERR_CONFIG, "%zu webhook secrets; 1 to %d can be used", count,
                        SIGNATURE_SECRETS_MAX);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    REQUIRE(mac != NULL);
    struct signature_keys *keys = mem_zalloc(sizeof *keys);
    struct err err = ERR_NONE;
    for (size_t i = 0; i < count && !err_failed(&err); i++)
        err = add_key(keys, mac, secrets[i]);
    EVP_MAC_free(mac);
    if (err_failed(&err))
        signature_keys_free(keys);
    else
        *out = keys;
    return err;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct span trim(struct span text)
{
    while (text.len > 0 && is_blank(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

/* Takes the part up to the separator off the front of rest; false when there is nothing left. The
 * empty part behind a last separator counts, as it does to String.split. */
static bool next_part(struct span *rest, char separator, struct span *part)
{
    if (rest->ptr == NULL)
        return false;
    const char *end = rest->len > 0 ? memchr(rest->ptr, separator, rest->len) : NULL;
    *part = *rest;
    if (end == NULL) {
        *rest = (struct span){NULL, 0};
    } else {
        part->len = (size_t)(end - rest->ptr);
        *rest = (struct span){end + 1, rest->len - part->len - 1};
    }
    return true;
}

struct err signature_keys_new(const char *secrets, struct signature_keys **out)
{
    struct span list[SIGNATURE_SECRETS_MAX + 1];
    struct span rest = span_of(secrets);
    struct span part;
    size_t count = 0;
    while (count < ARRAY_LEN(list) && next_part(&rest, ',', &part))
        list[count++] = trim(part);
    return signature_keys_new_list(list, count, out);
}

void signature_keys_free(struct signature_keys *keys)
{
    if (keys == NULL)
        return;
    for (size_t i = 0; i < SIGNATURE_SECRETS_MAX; i++) {
        if (keys->keys[i].decoded != keys->keys[i].literal)
            EVP_MAC_CTX_free(keys->keys[i].decoded);
        EVP_MAC_CTX_free(keys->keys[i].literal);
    }
    free(keys);
}

/* Digits only. The official verifiers sign the number they parsed; where that is the text itself,
 * as it is without leading zeros, there is nothing to differ about. */
static bool read_timestamp(struct span text, bool leading_zeros, int64_t *out)
{
    int64_t seconds = 0;
    if (text.len == 0 || text.len > TIMESTAMP_DIGITS_MAX)
        return false;
    if (!leading_zeros && text.len > 1 && text.ptr[0] == '0')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        seconds = seconds * 10 + (text.ptr[i] - '0');
    }
    *out = seconds;
    return true;
}

/* One entry of webhook-signature: "v1," and base64; what follows a second comma is ignored. */
static void read_standard_entry(struct span entry, struct entries *out)
{
    uint8_t mac[MAC_BASE64_LEN / 4 * 3 + 3];
    size_t len = 0;
    struct span version;
    struct span text;
    if (!next_part(&entry, ',', &version) || !span_equal(version, SPAN("v1")) ||
        !next_part(&entry, ',', &text) || text.len != MAC_BASE64_LEN ||
        !encoding_unbase64(text, mac, &len) || len != SIGNATURE_MAC_BYTES)
        return;
    memcpy(out->macs[out->count++], mac, SIGNATURE_MAC_BYTES);
}

static void read_standard(struct span header, struct entries *out)
{
    struct span entry;
    out->count = 0;
    while (out->count < SIGNATURE_ENTRIES_MAX && next_part(&header, ' ', &entry))
        read_standard_entry(entry, out);
}

/* Fields are known by their place; those behind the second are ignored. */
static bool read_legacy(struct span header, struct span *timestamp, struct entries *out)
{
    struct span first;
    struct span second;
    out->count = 0;
    if (!next_part(&header, ',', &first) || !next_part(&header, ',', &second))
        return false;
    if (first.len < 2 || memcmp(first.ptr, "t=", 2) != 0 || second.len < 3 ||
        memcmp(second.ptr, "v1=", 3) != 0)
        return false;
    *timestamp = (struct span){first.ptr + 2, first.len - 2};
    struct span hex = {second.ptr + 3, second.len - 3};
    if (!encoding_unhex(hex, out->macs[0], SIGNATURE_MAC_BYTES))
        return false;
    out->count = 1;
    return true;
}

static bool read_bare_hex(struct span header, struct entries *out)
{
    out->count = encoding_unhex(header, out->macs[0], SIGNATURE_MAC_BYTES) ? 1 : 0;
    return out->count == 1;
}

static enum signature_result check_window(struct signature_check *check, int64_t now_s,
                                          int64_t tolerance_s)
{
    check->skew_s = now_s - check->timestamp_s;
    bool stale = check->skew_s > tolerance_s || check->skew_s < -tolerance_s;
    return stale ? SIGNATURE_STALE : SIGNATURE_OK;
}

static enum signature_result precheck_standard(const struct signature_headers *headers,
                                               int64_t now_s, int64_t tolerance_s,
                                               struct signature_check *check)
{
    struct entries entries;
    if (headers->id.len == 0 || headers->timestamp.len == 0 || headers->signature.len == 0)
        return SIGNATURE_MISSING;
    check->scheme = SIGNATURE_STANDARD;
    read_standard(headers->signature, &entries);
    if (headers->id.len > SIGNATURE_ID_MAX || !encoding_is_text(headers->id) ||
        !read_timestamp(headers->timestamp, false, &check->timestamp_s) || entries.count == 0)
        return SIGNATURE_MALFORMED;
    return check_window(check, now_s, tolerance_s);
}

static enum signature_result precheck_whop(struct span header, unsigned schemes, int64_t now_s,
                                           int64_t tolerance_s, struct signature_check *check)
{
    struct entries entries;
    struct span timestamp;
    if (read_bare_hex(header, &entries)) {
        check->scheme = SIGNATURE_BARE_HEX;
        return (schemes & SIGNATURE_BARE_HEX) != 0 ? SIGNATURE_OK : SIGNATURE_SCHEME_OFF;
    }
    if (!read_legacy(header, &timestamp, &entries) ||
        !read_timestamp(timestamp, true, &check->timestamp_s))
        return SIGNATURE_MALFORMED;
    check->scheme = SIGNATURE_LEGACY;
    if ((schemes & SIGNATURE_LEGACY) == 0)
        return SIGNATURE_SCHEME_OFF;
    return check_window(check, now_s, tolerance_s);
}

enum signature_result signature_precheck(const struct signature_headers *headers, unsigned schemes,
                                         int64_t now_s, int64_t tolerance_s,
                                         struct signature_check *check)
{
    *check = (struct signature_check){.scheme = SIGNATURE_STANDARD};
    bool standard = headers->id.len > 0 || headers->timestamp.len > 0 || headers->signature.len > 0;
    if (standard && (schemes & SIGNATURE_STANDARD) != 0)
        return precheck_standard(headers, now_s, tolerance_s, check);
    if (headers->whop_signature.len > 0)
        return precheck_whop(headers->whop_signature, schemes, now_s, tolerance_s, check);
    return standard ? SIGNATURE_SCHEME_OFF : SIGNATURE_MISSING;
}

static void compute(EVP_MAC_CTX *context, const struct span *parts, size_t count,
                    uint8_t out[SIGNATURE_MAC_BYTES])
{
    size_t len = 0;
    REQUIRE(EVP_MAC_init(context, NULL, 0, NULL) == 1);
    for (size_t i = 0; i < count; i++)
        if (parts[i].len > 0)
            REQUIRE(EVP_MAC_update(context, (const uint8_t *)parts[i].ptr, parts[i].len) == 1);
    REQUIRE(EVP_MAC_final(context, out, &len, SIGNATURE_MAC_BYTES) == 1);
    REQUIRE(len == SIGNATURE_MAC_BYTES);
}

/* What a scheme signs. */
struct message {
    struct span parts[5];
    size_t count;
    bool decoded_key;
};

static struct message message_of(enum signature_scheme scheme, struct span id,
                                 struct span timestamp, struct span body)
{
    struct span dot = SPAN(".");
    switch (scheme) {
    case SIGNATURE_STANDARD: return (struct message){{id, dot, timestamp, dot, body}, 5, true};
    case SIGNATURE_LEGACY: return (struct message){{timestamp, dot, body}, 3, false};
    case SIGNATURE_BARE_HEX: break;
    }
    return (struct message){{body}, 1, false};
}

/* Reads the header again, as the scheme of the precheck wants it. */
static struct message read_message(const struct signature_headers *headers, struct span body,
                                   enum signature_scheme scheme, struct entries *entries)
{
    struct span timestamp = headers->timestamp;
    entries->count = 0;
    switch (scheme) {
    case SIGNATURE_STANDARD: read_standard(headers->signature, entries); break;
    case SIGNATURE_LEGACY: read_legacy(headers->whop_signature, &timestamp, entries); break;
    case SIGNATURE_BARE_HEX: read_bare_hex(headers->whop_signature, entries); break;
    }
    return message_of(scheme, headers->id, timestamp, body);
}

/* Every secret against every entry, whatever has matched before: the time taken tells nothing. */
enum signature_result signature_verify(struct signature_keys *keys,
                                       const struct signature_headers *headers, struct span body,
                                       struct signature_check *check)
{
    struct entries entries;
    struct message message = read_message(headers, body, check->scheme, &entries);
    bool found = false;
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *key = &keys->keys[i];
        uint8_t mac[SIGNATURE_MAC_BYTES];
        int match = 0;
        compute(message.decoded_key ? key->decoded : key->literal, message.parts, message.count,
                mac);
        for (size_t k = 0; k < entries.count; k++)
            match |= CRYPTO_memcmp(mac, entries.macs[k], SIGNATURE_MAC_BYTES) == 0;
        if (match && !found) {
            found = true;
            check->secret = (int)i;
            memcpy(check->mac, mac, sizeof mac);
        }
    }
    return found ? SIGNATURE_OK : SIGNATURE_MISMATCH;
}

const char *signature_result_name(enum signature_result result)
{
    static const char *const names[] = {
        [SIGNATURE_OK] = "ok",
        [SIGNATURE_MISSING] = "missing",
        [SIGNATURE_MALFORMED] = "malformed",
        [SIGNATURE_STALE] = "stale",
        [SIGNATURE_MISMATCH] = "mismatch",
        [SIGNATURE_SCHEME_OFF] = "scheme_off",
    };
    return names[result];
}

void signature_sign(struct signature_keys *keys, enum signature_scheme scheme, struct span id,
                    struct span timestamp, struct span body, char out[SIGNATURE_HEADER_SIZE])
{
    uint8_t mac[SIGNATURE_MAC_BYTES];
    REQUIRE(timestamp.len <= 40); /* the caller's own clock, and the size of out */
    struct message message = message_of(scheme, id, timestamp, body);
    const struct key *key = &keys->keys[0];
    compute(message.decoded_key ? key->decoded : key->literal, message.parts, message.count, mac);
    if (scheme == SIGNATURE_STANDARD) {
        char base64[ENCODING_BASE64_SIZE(SIGNATURE_MAC_BYTES)];
        encoding_base64(mac, sizeof mac, base64);
        snprintf(out, SIGNATURE_HEADER_SIZE, "v1,%s", base64);
        return;
    }
    char hex[2 * SIGNATURE_MAC_BYTES + 1];
    encoding_hex(mac, sizeof mac, hex);
    if (scheme == SIGNATURE_LEGACY)
        snprintf(out, SIGNATURE_HEADER_SIZE, "t=%.*s,v1=%s", (int)timestamp.len, timestamp.ptr,
                 hex);
    else
        snprintf(out, SIGNATURE_HEADER_SIZE, "%s", hex);
}
