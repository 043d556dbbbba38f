#include "base/random.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

void random_uuid(char out[UUID_TEXT_SIZE])
{
    unsigned char b[16];
    arc4random_buf(b, sizeof b);
    uint64_t ms = (uint64_t)clock_wall_ms();
    for (int i = 0; i < 6; i++)
        b[i] = (unsigned char)(ms >> (40 - 8 * i));
    b[6] = (unsigned char)((b[6] & 0x0fU) | 0x70U);
    b[8] = (unsigned char)((b[8] & 0x3fU) | 0x80U);
    snprintf(out, UUID_TEXT_SIZE,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
}

void random_bytes(void *out, size_t len)
{
    arc4random_buf(out, len);
}

uint32_t random_below(uint32_t bound)
{
    return arc4random_uniform(bound);
}
