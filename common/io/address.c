#include "io/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

/* The registries of special addresses: RFC 6890 and what has been added to them. */
static const struct {
    uint32_t base;
    int bits;
} special_v4[] = {
    {0x00000000, 8},  /* 0.0.0.0 this network */
    {0x0a000000, 8},  /* 10.0.0.0 private */
    {0x64400000, 10}, /* 100.64.0.0 carriers */
    {0x7f000000, 8},  /* 127.0.0.0 loopback */
    {0xa9fe0000, 16}, /* 169.254.0.0 link-local, and clouds' metadata */
    {0xac100000, 12}, /* 172.16.0.0 private */
    {0xc0000000, 24}, /* 192.0.0.0 protocols */
    {0xc0000200, 24}, /* 192.0.2.0 documentation */
    {0xc0586300, 24}, /* 192.88.99.0 6to4 relays */
    {0xc0a80000, 16}, /* 192.168.0.0 private */
    {0xc6120000, 15}, /* 198.18.0.0 benchmarks */
    {0xc6336400, 24}, /* 198.51.100.0 documentation */
    {0xcb007100, 24}, /* 203.0.113.0 documentation */
    {0xe0000000, 4},  /* 224.0.0.0 multicast */
    {0xf0000000, 4},  /* 240.0.0.0 reserved, broadcast */
};

static const struct {
    uint8_t base[4];
    int bits;
} special_v6[] = {
    {{0x01, 0x00, 0, 0}, 16},       /* 100::/64 discard; nothing else of 100::/16 is in use */
    {{0x20, 0x01, 0x00, 0x00}, 23}, /* 2001::/23 protocols, Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00, 0x00}, 20}, /* documentation */
    {{0xfc, 0, 0, 0}, 7},           /* private */
    {{0xfe, 0x80, 0, 0}, 10},       /* link-local */
    {{0xfe, 0xc0, 0, 0}, 10},       /* site-local, of old */
    {{0xff, 0, 0, 0}, 8},           /* multicast */
};

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool within(uint32_t address, uint32_t base, int bits)
{
    return (address ^ base) >> (32 - bits) == 0;
}

static bool is_public_v4(uint32_t address)
{
    for (size_t i = 0; i < ARRAY_LEN(special_v4); i++)
        if (within(address, special_v4[i].base, special_v4[i].bits))
            return false;
    return true;
}

static bool is_public_v6(const uint8_t bytes[16])
{
    static const uint8_t zeros[12] = {0};
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t translated[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(bytes, zeros, 12) == 0 || memcmp(bytes, mapped, 12) == 0 ||
        memcmp(bytes, translated, 12) == 0 || memcmp(bytes, nat64, 12) == 0)
        return is_public_v4(read_u32(bytes + 12)); /* :: and ::1 are within 0.0.0.0/8 */
    if (memcmp(bytes, nat64, 4) == 0)
        return false; /* 64:ff9b:1::/48, a network's own translation */
    if (bytes[0] == 0x20 && bytes[1] == 0x02)
        return is_public_v4(read_u32(bytes + 2)); /* 6to4 */
    for (size_t i = 0; i < ARRAY_LEN(special_v6); i++)
        if (within(read_u32(bytes), read_u32(special_v6[i].base), special_v6[i].bits))
            return false;
    return true;
}

bool address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return is_public_v4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        return is_public_v6(in.sin6_addr.s6_addr);
    }
    return false;
}
