#ifndef WHOPLINE_CRC32C_H
#define WHOPLINE_CRC32C_H
/* CRC-32C (Castagnoli, RFC 3720 B.4): finds bytes that a disk or a dying process has spoilt. It
 * proves nothing against somebody who means to deceive. Any thread. */
#include "base/base.h"

/* crc: 0, a seed, or what an earlier part of the same bytes gave. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

/* The same without the processor's help, so that a test can compare the two. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t len);

#endif
