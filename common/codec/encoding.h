#ifndef WHOPLINE_ENCODING_H
#define WHOPLINE_ENCODING_H
/* Hex and base64 (RFC 4648 section 4), strictly: what they do not produce they do not read. */
#include "base/base.h"

/* Lower-case hex and a NUL; out has 2 * len + 1 bytes. */
void encoding_hex(const void *ptr, size_t len, char *out);
/* Lower-case hex only, exactly 2 * out_len digits. */
bool encoding_unhex(struct span text, void *out, size_t out_len);

#define ENCODING_BASE64_SIZE(len) (((len) + 2) / 3 * 4 + 1)
/* With padding, and a NUL; out has ENCODING_BASE64_SIZE(len) bytes. */
void encoding_base64(const void *ptr, size_t len, char *out);
/* Padding optional, nothing else lenient. out has text.len / 4 * 3 + 3 bytes. */
bool encoding_unbase64(struct span text, void *out, size_t *out_len);

#endif
