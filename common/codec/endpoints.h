#ifndef WHOPLINE_ENDPOINTS_H
#define WHOPLINE_ENDPOINTS_H
/* The endpoints file: what ingest knows of tenants. JSON, since people look into it:
 *
 *   {"version": 1, "endpoints": [
 *     {"name": "acme", "company": "biz_...", "schemes": "standard,legacy", "secrets": [
 *       {"secret": "ws_...", "from_ms": 1700000000000, "until_ms": null}]}]}
 *
 * An app's endpoint has an empty company: its events say whose they are. Names are lower-case
 * letters, digits, dashes and underscores, at most ENDPOINT_NAME_MAX; they are part of an event's
 * id. The file is read as a whole or not at all. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "codec/signature.h"

enum { ENDPOINT_NAME_MAX = 63, ENDPOINTS_FILE_MAX = 16 << 20 /* bytes */ };

struct endpoint_secret {
    const char *secret;
    int64_t from_ms;  /* Unix */
    int64_t until_ms; /* INT64_MAX: for good */
};

struct endpoint_entry {
    const char *name;
    const char *company; /* "" for an app's */
    const char *schemes; /* as WEBHOOK_SCHEMES */
    struct endpoint_secret secrets[SIGNATURE_SECRETS_MAX];
    size_t secret_count;
};

struct endpoint_list {
    struct endpoint_entry *entries; /* in the arena; by name, as strcmp orders them */
    size_t count;
};

bool endpoint_name_is_good(const char *name);

/* "standard, legacy": an OR of enum signature_scheme; 0 if it names none, or one there is not
 * (*unknown is that then, else empty). */
unsigned endpoint_schemes(const char *text, struct span *unknown);

/* MALFORMED, never with a secret: says which endpoint, by its number from 1, and what is wrong. */
MUST_CHECK struct err endpoints_parse(struct span text, struct arena *arena,
                                      struct endpoint_list *out);
/* Appends the file's text. out: whoever closes it wipes it. */
void endpoints_write(const struct endpoint_entry *entries, size_t count, struct buf *out);

#endif
