#ifndef WHOPLINE_SIGNATURE_H
#define WHOPLINE_SIGNATURE_H
/* Webhook signatures: the two schemes Whop really uses, and a third that is off by default.
 *
 *   standard  webhook-id, webhook-timestamp, webhook-signature: "v1,<base64>" separated by spaces;
 *             MAC over id "." timestamp "." body. Key: the literal secret; whsec_ is decoded.
 *   legacy    x-whop-signature: t=<unix>,v1=<hex>; MAC over t "." body. Key: the literal secret.
 *   bare_hex  x-whop-signature: <hex>; MAC over the body. No time, so no replay protection.
 *
 * All HMAC-SHA256. The clock is an argument. Time stamps are digits only (at most 12): stricter
 * than the official verifiers, on purpose. Comparison is constant-time over decoded bytes. Keys
 * keep a keyed context per secret: not for two threads at once. */
#include "base/err.h"

enum {
    SIGNATURE_SECRETS_MAX = 4,
    SIGNATURE_ENTRIES_MAX = 8, /* signatures looked at in one header */
    SIGNATURE_MAC_BYTES = 32,
    SIGNATURE_ID_MAX = 256, /* bytes of a webhook-id */
};

enum signature_scheme {
    SIGNATURE_STANDARD = 1,
    SIGNATURE_LEGACY = 2,
    SIGNATURE_BARE_HEX = 4,
};

enum signature_result {
    SIGNATURE_OK,
    SIGNATURE_MISSING, /* a needed header is absent or empty */
    SIGNATURE_MALFORMED,
    SIGNATURE_STALE, /* outside the time window, either way */
    SIGNATURE_MISMATCH,
    SIGNATURE_SCHEME_OFF /* signed by a scheme that is not enabled */
};

/* As they came; a NULL pointer is an absent header. */
struct signature_headers {
    struct span id;
    struct span timestamp;
    struct span signature;
    struct span whop_signature;
};

struct signature_check {
    enum signature_scheme scheme;
    int64_t timestamp_s;              /* 0 in bare_hex */
    int64_t skew_s;                   /* now - timestamp */
    int secret;                       /* after verification: which one matched, from 0 */
    uint8_t mac[SIGNATURE_MAC_BYTES]; /* after verification: the one that matched */
};

struct signature_keys;

/* secrets: comma separated, at most SIGNATURE_SECRETS_MAX, none empty; blanks around one are not
 * part of it. Refuses with CONFIG. */
MUST_CHECK struct err signature_keys_new(const char *secrets, struct signature_keys **out);
/* The same from a list, byte by byte as they are: a secret may hold commas and blanks. */
MUST_CHECK struct err signature_keys_new_list(const struct span *secrets, size_t count,
                                              struct signature_keys **out);
void signature_keys_free(struct signature_keys *keys);

/* What can be known before the body is read: also that no signature in the header is well-formed.
 * schemes: an OR of enum signature_scheme; the standard one is chosen when one of its headers is
 * there, bare hex only if asked for. A webhook-id must be text (encoding_is_text): it is kept. */
enum signature_result signature_precheck(const struct signature_headers *headers, unsigned schemes,
                                         int64_t now_s, int64_t tolerance_s,
                                         struct signature_check *check);
/* The MAC over the raw body, with every secret. check: from a successful precheck. */
enum signature_result signature_verify(struct signature_keys *keys,
                                       const struct signature_headers *headers, struct span body,
                                       struct signature_check *check);
const char *signature_result_name(enum signature_result result); /* "stale" */

/* The header value a sender would write, with the first secret; out is NUL-terminated. id is not
 * used by the legacy scheme, id and timestamp not by bare hex. */
#define SIGNATURE_HEADER_SIZE 128
void signature_sign(struct signature_keys *keys, enum signature_scheme scheme, struct span id,
                    struct span timestamp, struct span body, char out[SIGNATURE_HEADER_SIZE]);

#endif
