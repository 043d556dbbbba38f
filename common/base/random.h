#ifndef WHOPLINE_RANDOM_H
#define WHOPLINE_RANDOM_H
/* Random numbers and ids from the kernel's generator. Any thread. */
#include "base/base.h"

#define UUID_TEXT_SIZE 37 /* 36 characters and a NUL */

/* A UUID of version 7 (RFC 9562): sorts by time of creation, to the millisecond. */
void random_uuid(char out[UUID_TEXT_SIZE]);

void random_bytes(void *out, size_t len); /* fit for nonces and keys */

uint32_t random_below(uint32_t bound); /* 0 .. bound-1, evenly; bound > 0 */

#endif
