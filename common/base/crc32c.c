#include "base/crc32c.h"

#include <pthread.h>

enum { POLYNOMIAL = (int)0x82f63b78U /* reflected */, LANE = 256 /* bytes; see crc_hardware */ };

/* tables[k][b]: the effect of byte b with k bytes behind it, so that eight go in one step. */
static uint32_t tables[8][256];
/* zeros[k][b]: the same for byte k of a crc with LANE bytes of zeros behind it. */
static uint32_t zeros[4][256];

static uint32_t table_step(uint32_t crc, unsigned char byte)
{
    return tables[0][(crc ^ byte) & 0xff] ^ (crc >> 8);
}

static void fill(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? (uint32_t)POLYNOMIAL : 0);
        tables[0][b] = crc;
    }
    for (size_t k = 1; k < 8; k++)
        for (size_t b = 0; b < 256; b++)
            tables[k][b] = table_step(tables[k - 1][b], 0);
    for (size_t k = 0; k < 4; k++) {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t crc = b << (8 * k);
            for (int i = 0; i < LANE; i++)
                crc = table_step(crc, 0);
            zeros[k][b] = crc;
        }
    }
}

static void prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
}

static uint64_t load64(const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static uint32_t crc_tables(uint32_t crc, const unsigned char *at, size_t len)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word = load64(at) ^ crc;
        crc = 0;
        for (size_t k = 0; k < 8; k++)
            crc ^= tables[7 - k][(word >> (8 * k)) & 0xff];
    }
#endif
    for (; len > 0; at++, len--)
        crc = table_step(crc, *at);
    return crc;
}

uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t len)
{
    prepare();
    return ~crc_tables(~crc, bytes, len);
}

#if defined(__x86_64__)

static uint32_t shift_lane(uint32_t crc)
{
    return zeros[0][crc & 0xff] ^ zeros[1][(crc >> 8) & 0xff] ^ zeros[2][(crc >> 16) & 0xff] ^
           zeros[3][crc >> 24];
}

/* The instruction takes three cycles and one can begin in each, so three lanes run beside each
 * other and are joined; as in M. Adler's crc32c.c. */
__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc,
                                                               const unsigned char *at, size_t len)
{
    for (; len >= (size_t)3 * LANE; at += (size_t)3 * LANE, len -= (size_t)3 * LANE) {
        uint64_t a = crc;
        uint64_t b = 0;
        uint64_t c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = __builtin_ia32_crc32di(a, load64(at + i));
            b = __builtin_ia32_crc32di(b, load64(at + LANE + i));
            c = __builtin_ia32_crc32di(c, load64(at + (size_t)2 * LANE + i));
        }
        crc = shift_lane(shift_lane((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    uint64_t wide = crc;
    for (; len >= 8; at += 8, len -= 8)
        wide = __builtin_ia32_crc32di(wide, load64(at));
    crc = (uint32_t)wide;
    for (; len > 0; at++, len--)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return crc;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    if (!__builtin_cpu_supports("sse4.2"))
        return crc32c_portable(crc, bytes, len);
    prepare();
    return ~crc_hardware(~crc, bytes, len);
}

#else

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    return crc32c_portable(crc, bytes, len);
}

#endif
