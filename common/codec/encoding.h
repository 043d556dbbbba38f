#ifndef WHOPLINE_ENCODING_H
#define WHOPLINE_ENCODING_H
/* Hex and base64 (RFC 4648 section 4), strictly: what they do not produce they do not read. And
 * whether bytes are UTF-8, for what is kept as text. */
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

/* UTF-8 as RFC 3629 has it (no surrogates, no overlong forms, at most U+10FFFF) and no NUL: what
 * PostgreSQL takes as text. */
bool encoding_is_text(struct span bytes);

#endif
