#include "codec/encoding.h"

void encoding_hex(const void *ptr, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = ptr;
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool encoding_unhex(struct span text, void *out, size_t out_len)
{
    uint8_t *bytes = out;
    if (text.len % 2 != 0 || text.len / 2 != out_len)
        return false;
    for (size_t i = 0; i < out_len; i++) {
        int high = hex_value(text.ptr[2 * i]);
        int low = hex_value(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

void encoding_base64(const void *ptr, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = ptr;
    for (; len >= 3; len -= 3, bytes += 3) {
        *out++ = digits[bytes[0] >> 2];
        *out++ = digits[(bytes[0] & 3) << 4 | bytes[1] >> 4];
        *out++ = digits[(bytes[1] & 15) << 2 | bytes[2] >> 6];
        *out++ = digits[bytes[2] & 63];
    }
    if (len > 0) {
        unsigned second = len == 2 ? bytes[1] : 0U;
        *out++ = digits[bytes[0] >> 2];
        *out++ = digits[(bytes[0] & 3U) << 4 | second >> 4];
        *out++ = len == 2 ? digits[(second & 15U) << 2] : '=';
        *out++ = '=';
    }
    *out = '\0';
}

/* A table, since comparisons would be mispredicted at every character of a signature. */
static int base64_value(char c)
{
    static const signed char values[128] = {
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 62,
        -1, -1, -1, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1, -1, -1, 0,
        1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
        23, 24, 25, -1, -1, -1, -1, -1, -1, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38,
        39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, -1, -1, -1, -1, -1,
    };
    unsigned char index = (unsigned char)c;
    return index < sizeof values ? values[index] : -1;
}

bool encoding_unbase64(struct span text, void *out, size_t *out_len)
{
    uint8_t *bytes = out;
    size_t len = text.len;
    if (len % 4 == 0 && len > 0 && text.ptr[len - 1] == '=')
        len -= text.ptr[len - 2] == '=' ? 2 : 1;
    if (len % 4 == 1)
        return false;
    uint32_t group = 0;
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        int value = base64_value(text.ptr[i]);
        if (value < 0)
            return false;
        group = group << 6 | (uint32_t)value;
        if (i % 4 == 3) {
            bytes[count++] = (uint8_t)(group >> 16);
            bytes[count++] = (uint8_t)(group >> 8);
            bytes[count++] = (uint8_t)group;
            group = 0;
        }
    }
    /* The bits beyond the last whole byte are 0 in what an encoder writes. */
    if (len % 4 == 2) {
        if ((group & 15) != 0)
            return false;
        bytes[count++] = (uint8_t)(group >> 4);
    } else if (len % 4 == 3) {
        if ((group & 3) != 0)
            return false;
        bytes[count++] = (uint8_t)(group >> 10);
        bytes[count++] = (uint8_t)(group >> 2);
    }
    *out_len = count;
    return true;
}

/* Length of the character at s, of which len bytes are there; 0 if it is none. */
static size_t utf8_char(const uint8_t *s, size_t len)
{
    size_t need = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (need == 0 || need > len)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] > 0x9f;
    bool beyond = s[0] == 0xf4 && s[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : need;
}

bool encoding_is_text(struct span bytes)
{
    const uint8_t *s = (const uint8_t *)bytes.ptr;
    for (size_t i = 0; i < bytes.len;) {
        size_t step = s[i] != 0 && s[i] < 0x80 ? 1 : utf8_char(s + i, bytes.len - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}
