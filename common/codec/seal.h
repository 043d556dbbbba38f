#ifndef WHOPLINE_SEAL_H
#define WHOPLINE_SEAL_H
/* Secrets at rest: AES-256-GCM, so that whoever reads the database alone reads none of them.
 *
 * A sealed box names the key it was sealed with, and is bound to a tenant and a purpose: a box that
 * was moved to another row, or changed by a bit, does not open. The first key seals, all open:
 * rotating is a new first key, sealing anew what there is (`whopline tenants rekey`), and then
 * dropping the old one.
 *
 * Nonces are random; NIST SP 800-38D allows 2^32 boxes of a key that way. What is opened belongs to
 * the caller, who wipes it (seal_wipe). Keys are wiped by seal_keys_free. Any thread, once made. */
#include "base/buf.h"
#include "base/err.h"

enum {
    SEAL_KEY_BYTES = 32,
    SEAL_NONCE_BYTES = 12,
    SEAL_TAG_BYTES = 16,
    SEAL_KEYS_MAX = 8,
    SEAL_KEY_ID_SIZE = 33, /* with its NUL */
    SEAL_PURPOSE_MAX = 128,
    SEAL_SECRET_MAX = 65536, /* bytes sealed in one box */
};

/* The id of the key that WHOP_TOKEN_ENCRYPTION_KEY gives. */
#define SEAL_SINGLE_KEY_ID "1"

struct seal_keys;

/* list: "id:hex,id:hex", the one that seals first; single: one key's hex, with the id "1", behind
 * them. Either may be "". *out is NULL if both are. CONFIG, never with a digit of a key. */
MUST_CHECK struct err seal_keys_new(const char *list, const char *single, struct seal_keys **out);
void seal_keys_free(struct seal_keys *keys);
const char *seal_keys_newest(const struct seal_keys *keys); /* the id of the one that seals */

/* Whose it is and what for; opening needs the same. */
struct seal_context {
    int64_t tenant;      /* 0: of the installation */
    const char *purpose; /* "whop_oauth" */
};

struct sealed {
    char key_id[SEAL_KEY_ID_SIZE];
    uint8_t nonce[SEAL_NONCE_BYTES];
    uint8_t tag[SEAL_TAG_BYTES];
    struct buf ciphertext; /* the caller closes it */
};

/* keys: NULL is an error like others (CONFIG), so that callers need not ask. */
MUST_CHECK struct err seal_box(const struct seal_keys *keys, const struct seal_context *context,
                               struct span secret, struct sealed *out);
/* out: emptied first. SEALED if it does not open, with the key's id where that is why. */
MUST_CHECK struct err seal_open(const struct seal_keys *keys, const struct seal_context *context,
                                const struct sealed *box, struct buf *out);

/* Overwrites the buffer's memory and frees it. */
void seal_wipe(struct buf *secret);
void seal_wipe_text(char *text); /* the same for malloc'ed text; NULL is fine */

/* The cipher itself: out has text.len bytes. */
void seal_encrypt(const uint8_t key[SEAL_KEY_BYTES], const uint8_t nonce[SEAL_NONCE_BYTES],
                  struct span associated, struct span text, uint8_t *out,
                  uint8_t tag[SEAL_TAG_BYTES]);
/* False: not what was sealed; out holds nothing then. */
bool seal_decrypt(const uint8_t key[SEAL_KEY_BYTES], const uint8_t nonce[SEAL_NONCE_BYTES],
                  struct span associated, struct span text, const uint8_t tag[SEAL_TAG_BYTES],
                  uint8_t *out);

#endif
