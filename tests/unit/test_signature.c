/* Covers codec/signature: the 116 vectors obtained from the official verifiers, the cases they do
 * not have (several secrets, scheme choice, limits), and signing. */
#include "vectors.h"

#include "base/buf.h"
#include "codec/encoding.h"
#include "codec/signature.h"

#include <stdlib.h>
#include <strings.h>

enum { VECTOR_COUNT = 116, TOLERANCE_S = 300 };

/* We demand digits only, and the first field's name: stricter than the official code. */
static const char *const stricter[] = {
    "std-timestamp-leading-zero",
    "std-timestamp-fraction",
    "leg-first-field-other-name",
    "leg-timestamp-trailing-garbage-signed-raw",
};

static bool is_stricter(const char *id)
{
    for (size_t i = 0; i < ARRAY_LEN(stricter); i++)
        if (strcmp(id, stricter[i]) == 0)
            return true;
    return false;
}

static struct buf body_of(yyjson_val *vector)
{
    struct buf body = {0};
    yyjson_val *text = yyjson_obj_get(vector, "body");
    yyjson_val *generator = yyjson_obj_get(vector, "body_generator");
    const char *base64 = vectors_text(vector, "body_base64");
    if (text != NULL) {
        buf_add(&body, yyjson_get_str(text), yyjson_get_len(text));
    } else if (base64 != NULL) {
        size_t len = 0;
        buf_reserve(&body, strlen(base64) + 3);
        assert_true(encoding_unbase64(span_of(base64), body.ptr, &len));
        body.len = len;
    } else {
        assert_non_null(generator);
        buf_add_text(&body, vectors_text(generator, "prefix"));
        long count = strtol(vectors_text(generator, "count"), NULL, 10);
        for (long i = 0; i < count; i++)
            buf_add_text(&body, vectors_text(generator, "repeat"));
        buf_add_text(&body, vectors_text(generator, "suffix"));
    }
    assert_int_equal(body.len, strtol(vectors_text(vector, "body_len"), NULL, 10));
    return body;
}

static struct signature_headers headers_of(yyjson_val *vector)
{
    struct signature_headers headers = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    const char *own_name = vectors_text(vector, "signature_header_name");
    size_t i;
    size_t max;
    yyjson_val *key;
    yyjson_val *value;
    yyjson_obj_foreach(yyjson_obj_get(vector, "headers"), i, max, key, value)
    {
        const char *name = yyjson_get_str(key);
        struct span text = {yyjson_get_str(value), yyjson_get_len(value)};
        if (strcasecmp(name, "webhook-id") == 0)
            headers.id = text;
        else if (strcasecmp(name, "webhook-timestamp") == 0)
            headers.timestamp = text;
        else if (strcasecmp(name, "webhook-signature") == 0)
            headers.signature = text;
        else if (strcasecmp(name, own_name != NULL ? own_name : "x-whop-signature") == 0)
            headers.whop_signature = text;
    }
    return headers;
}

/* key_rule base64-decode is the library's treatment of its argument; ours of a secret that begins
 * with whsec_. */
static struct err keys_of(yyjson_val *vector, struct signature_keys **keys)
{
    char secret[512];
    const char *text = vectors_text(vector, "secret");
    bool literal = strcmp(vectors_text(vector, "key_rule"), "literal-utf8") == 0;
    bool bare = !literal && strncmp(text, "whsec_", 6) != 0;
    snprintf(secret, sizeof secret, "%s%s", bare ? "whsec_" : "", text);
    struct span list = span_of(secret);
    return signature_keys_new_list(&list, 1, keys);
}

static bool accepts(yyjson_val *vector, enum signature_result *result)
{
    struct signature_keys *keys = NULL;
    struct err err = keys_of(vector, &keys);
    *result = SIGNATURE_MISMATCH;
    if (err_failed(&err)) {
        assert_int_equal(err.code, ERR_CONFIG);
        assert_null(keys);
        return false;
    }
    bool standard = strcmp(vectors_text(vector, "scheme"), "standard-webhooks") == 0;
    unsigned schemes = standard ? SIGNATURE_STANDARD : SIGNATURE_LEGACY;
    struct buf body = body_of(vector);
    struct signature_headers headers = headers_of(vector);
    struct signature_check check;
    int64_t now = strtoll(vectors_text(vector, "now"), NULL, 10);
    *result = signature_precheck(&headers, schemes, now, TOLERANCE_S, &check);
    if (*result == SIGNATURE_OK) {
        assert_int_equal(check.scheme, schemes);
        assert_int_equal(check.skew_s, now - check.timestamp_s);
        *result = signature_verify(keys, &headers, buf_span(&body), &check);
    }
    buf_close(&body);
    signature_keys_free(keys);
    return *result == SIGNATURE_OK;
}

static void test_vectors(void **state)
{
    (void)state;
    yyjson_doc *doc = vectors_open("whop-signatures.json");
    size_t i;
    size_t max;
    size_t ran = 0;
    size_t deviations = 0;
    size_t accepted = 0;
    yyjson_val *vector;
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "vectors"), i, max, vector)
    {
        const char *id = vectors_text(vector, "id");
        const char *exact = vectors_text(vector, "byte_exact_verifier");
        bool expected = exact != NULL ? strcmp(exact, "accept") == 0
                                      : yyjson_get_bool(yyjson_obj_get(vector, "signature_ok"));
        if (is_stricter(id)) {
            assert_true(expected);
            expected = false;
            deviations++;
        }
        enum signature_result result;
        if (accepts(vector, &result) != expected)
            fail_msg("%s: %s, expected %s", id, signature_result_name(result),
                     expected ? "ok" : "a refusal");
        accepted += expected ? 1 : 0;
        ran++;
    }
    assert_int_equal(ran, VECTOR_COUNT);
    assert_int_equal(deviations, ARRAY_LEN(stricter));
    assert_true(accepted > 30 && accepted < ran - 30);
    yyjson_doc_free(doc);
}

static struct signature_keys *keys_new(const char *secrets)
{
    struct signature_keys *keys = NULL;
    struct err err = signature_keys_new(secrets, &keys);
    if (err_failed(&err))
        fail_msg("%s: %s", secrets, err_text(&err));
    return keys;
}

static void test_secrets_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "",        ",",          "ws_a,",           ",ws_a",     "ws_a,,ws_b",     " ",
        "whsec_",  "whsec_====", "whsec_no_b64!",   "a,b,c,d,e", "whsec_AAE=AAE=", "a, ,b",
        "whsec_A", "a,whsec_",   "whsec_AAECAwQ=x",
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct signature_keys *keys = NULL;
        struct err err = signature_keys_new(refused[i], &keys);
        if (err.code != ERR_CONFIG || keys != NULL)
            fail_msg("\"%s\" was not refused", refused[i]);
    }
    struct signature_keys *keys = NULL;
    struct err err = signature_keys_new_list(NULL, 0, &keys);
    assert_int_equal(err.code, ERR_CONFIG);
}

/* Signs with the secrets of one side, verifies with those of the other. */
static enum signature_result exchange(const char *sender, const char *receiver,
                                      enum signature_scheme scheme, unsigned schemes,
                                      struct signature_check *check)
{
    struct signature_keys *ours = keys_new(sender);
    struct signature_keys *theirs = keys_new(receiver);
    struct span id = SPAN("msg_1");
    struct span timestamp = SPAN("1786400000");
    struct span body = SPAN("{\"a\":1}");
    char header[SIGNATURE_HEADER_SIZE];
    signature_sign(ours, scheme, id, timestamp, body, header);
    struct signature_headers headers = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    if (scheme == SIGNATURE_STANDARD)
        headers = (struct signature_headers){id, timestamp, span_of(header), {NULL, 0}};
    else
        headers.whop_signature = span_of(header);
    enum signature_result result =
        signature_precheck(&headers, schemes, 1786400000, TOLERANCE_S, check);
    if (result == SIGNATURE_OK)
        result = signature_verify(theirs, &headers, body, check);
    signature_keys_free(ours);
    signature_keys_free(theirs);
    return result;
}

static void test_rotation(void **state)
{
    (void)state;
    static const enum signature_scheme schemes[] = {SIGNATURE_STANDARD, SIGNATURE_LEGACY,
                                                    SIGNATURE_BARE_HEX};
    struct signature_check check;
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        unsigned all = SIGNATURE_STANDARD | SIGNATURE_LEGACY | SIGNATURE_BARE_HEX;
        assert_int_equal(exchange("ws_new", "ws_a, ws_b ,ws_new,ws_c", schemes[i], all, &check),
                         SIGNATURE_OK);
        assert_int_equal(check.secret, 2);
        assert_int_equal(check.scheme, schemes[i]);
        assert_int_equal(exchange("ws_new", "ws_a,ws_b", schemes[i], all, &check),
                         SIGNATURE_MISMATCH);
        assert_int_equal(
            exchange("ws_new", "ws_new", schemes[i], all & ~(unsigned)schemes[i], &check),
            SIGNATURE_SCHEME_OFF);
    }
    assert_int_equal(check.timestamp_s, 0); /* bare hex has none */
    assert_int_equal(exchange("ws_a", "ws_b,ws_a,ws_a", SIGNATURE_LEGACY, SIGNATURE_LEGACY, &check),
                     SIGNATURE_OK);
    assert_int_equal(check.secret, 1);
}

/* whsec_ means something in the standard scheme only: two keys from one secret. */
static void test_whsec_has_two_keys(void **state)
{
    (void)state;
    struct signature_check check;
    const char *encoded = "whsec_a2V5a2V5a2V5";
    assert_int_equal(exchange("keykeykey", encoded, SIGNATURE_STANDARD, SIGNATURE_STANDARD, &check),
                     SIGNATURE_OK);
    assert_int_equal(exchange("keykeykey", encoded, SIGNATURE_LEGACY, SIGNATURE_LEGACY, &check),
                     SIGNATURE_MISMATCH);
    assert_int_equal(exchange(encoded, encoded, SIGNATURE_LEGACY, SIGNATURE_LEGACY, &check),
                     SIGNATURE_OK);
}

/* RFC 4231 has no case with this key; the value is openssl's own:
 * printf '{}' | openssl dgst -sha256 -hmac ws_x */
static void test_known_mac(void **state)
{
    (void)state;
    struct signature_keys *keys = keys_new("ws_x");
    char header[SIGNATURE_HEADER_SIZE];
    signature_sign(keys, SIGNATURE_BARE_HEX, (struct span){NULL, 0}, (struct span){NULL, 0},
                   SPAN("{}"), header);
    assert_string_equal(header, "04fb846096982613a6a0816584e67b1891a02cc21fe5e179356fde1a52958d4d");
    signature_keys_free(keys);
}

static enum signature_result precheck(const char *id, const char *timestamp, const char *signature,
                                      const char *whop)
{
    struct signature_check check;
    struct signature_headers headers = {span_of(id), span_of(timestamp), span_of(signature),
                                        span_of(whop)};
    return signature_precheck(&headers, SIGNATURE_STANDARD | SIGNATURE_LEGACY, 1786400000,
                              TOLERANCE_S, &check);
}

#define GOOD_V1  "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define GOOD_HEX "0000000000000000000000000000000000000000000000000000000000000000"

static void test_precheck(void **state)
{
    (void)state;
    char id[SIGNATURE_ID_MAX + 2];
    memset(id, 'a', sizeof id);
    id[SIGNATURE_ID_MAX] = '\0';
    static const struct {
        const char *name;
        const char *id;
        const char *timestamp;
        const char *signature;
        const char *whop;
        enum signature_result expected;
    } cases[] = {
        {"good", "m", "1786400000", GOOD_V1, NULL, SIGNATURE_OK},
        {"standard wins", "m", "1786400000", GOOD_V1, "t=x", SIGNATURE_OK},
        {"no downgrade", "m", "1786400000", NULL, "t=1786400000,v1=" GOOD_HEX, SIGNATURE_MISSING},
        {"legacy", NULL, NULL, NULL, "t=1786400000,v1=" GOOD_HEX, SIGNATURE_OK},
        {"empty standard headers", "", "", "", "t=1786400000,v1=" GOOD_HEX, SIGNATURE_OK},
        {"bare hex is off", NULL, NULL, NULL, GOOD_HEX, SIGNATURE_SCHEME_OFF},
        {"nothing", NULL, NULL, NULL, NULL, SIGNATURE_MISSING},
        {"old", "m", "1786399699", GOOD_V1, NULL, SIGNATURE_STALE},
        {"early", "m", "1786400301", GOOD_V1, NULL, SIGNATURE_STALE},
        {"zero", "m", "0", GOOD_V1, NULL, SIGNATURE_STALE},
        {"twelve digits", "m", "999999999999", GOOD_V1, NULL, SIGNATURE_STALE},
        {"thirteen digits", "m", "1786400000000", GOOD_V1, NULL, SIGNATURE_MALFORMED},
        {"leading zero", "m", "01786400000", GOOD_V1, NULL, SIGNATURE_MALFORMED},
        {"leading zero of legacy", NULL, NULL, NULL, "t=01786400000,v1=" GOOD_HEX, SIGNATURE_OK},
        {"plus", "m", "+1786400000", GOOD_V1, NULL, SIGNATURE_MALFORMED},
        {"blank", "m", " 1786400000", GOOD_V1, NULL, SIGNATURE_MALFORMED},
        {"legacy plus", NULL, NULL, NULL, "t=+1786400000,v1=" GOOD_HEX, SIGNATURE_MALFORMED},
        {"legacy, no v1", NULL, NULL, NULL, "t=1786400000,", SIGNATURE_MALFORMED},
        {"no v1 entry", "m", "1786400000", "v2,x v1,short", NULL, SIGNATURE_MALFORMED},
        {"base64 with bits left over", "m", "1786400000",
         "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", NULL, SIGNATURE_MALFORMED},
        {"id is not UTF-8", "m\xff", "1786400000", GOOD_V1, NULL, SIGNATURE_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum signature_result result =
            precheck(cases[i].id, cases[i].timestamp, cases[i].signature, cases[i].whop);
        if (result != cases[i].expected)
            fail_msg("%s: %s", cases[i].name, signature_result_name(result));
    }
    assert_int_equal(precheck(id, "1786400000", GOOD_V1, NULL), SIGNATURE_OK);
    id[SIGNATURE_ID_MAX] = 'a';
    id[SIGNATURE_ID_MAX + 1] = '\0';
    assert_int_equal(precheck(id, "1786400000", GOOD_V1, NULL), SIGNATURE_MALFORMED);
}

/* Of many entries the first SIGNATURE_ENTRIES_MAX are looked at. */
static void test_entry_limit(void **state)
{
    (void)state;
    struct signature_keys *keys = keys_new("ws_x");
    struct span id = SPAN("m");
    struct span timestamp = SPAN("1786400000");
    char good[SIGNATURE_HEADER_SIZE];
    signature_sign(keys, SIGNATURE_STANDARD, id, timestamp, SPAN("{}"), good);
    for (size_t before = 0; before <= SIGNATURE_ENTRIES_MAX; before++) {
        struct buf list = {0};
        for (size_t i = 0; i < before; i++)
            buf_add_text(&list, GOOD_V1 " v1a,zz ");
        buf_add_text(&list, good);
        struct signature_headers headers = {id, timestamp, buf_span(&list), {NULL, 0}};
        struct signature_check check;
        assert_int_equal(
            signature_precheck(&headers, SIGNATURE_STANDARD, 1786400000, TOLERANCE_S, &check),
            SIGNATURE_OK);
        enum signature_result result = signature_verify(keys, &headers, SPAN("{}"), &check);
        if ((result == SIGNATURE_OK) != (before < SIGNATURE_ENTRIES_MAX))
            fail_msg("behind %zu entries: %s", before, signature_result_name(result));
        buf_close(&list);
    }
    signature_keys_free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),     cmocka_unit_test(test_secrets_refused),
        cmocka_unit_test(test_rotation),    cmocka_unit_test(test_whsec_has_two_keys),
        cmocka_unit_test(test_known_mac),   cmocka_unit_test(test_precheck),
        cmocka_unit_test(test_entry_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
