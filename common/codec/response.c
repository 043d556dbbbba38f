#include "codec/response.h"

#include <stdio.h>
#include <time.h>

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {200, "OK"}, /* first: nearly every answer */
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {431, "Request Header Fields Too Large"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

const char *response_reason(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    base_die(__FILE__, __LINE__, "a status this server does not give");
}

static void clock_update(struct response_clock *clock, int64_t second)
{
    time_t time = (time_t)second;
    struct tm utc;
    gmtime_r(&time, &utc);
    /* The C locale is never changed, so the names are English, as RFC 9110 wants them. */
    clock->len =
        strftime(clock->text, sizeof clock->text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
    clock->second = second;
}

struct writer {
    char *ptr;
    size_t len;
};

static void add(struct writer *writer, const char *ptr, size_t len)
{
    REQUIRE(writer->len + len <= RESPONSE_MAX);
    memcpy(writer->ptr + writer->len, ptr, len);
    writer->len += len;
}

static void add_line(struct writer *writer, const char *text, const char *value)
{
    add(writer, text, strlen(text));
    add(writer, value, strlen(value));
    add(writer, "\r\n", 2);
}

static void add_number(struct writer *writer, const char *text, size_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%zu", number);
    add_line(writer, text, digits);
}

size_t response_write(struct response_clock *clock, const struct response *response, int64_t now_ms,
                      char out[RESPONSE_MAX])
{
    struct writer writer = {out, 0};
    char line[] = "HTTP/1.1 200 ";
    line[9] = (char)('0' + response->status / 100);
    line[10] = (char)('0' + response->status / 10 % 10);
    line[11] = (char)('0' + response->status % 10);
    add_line(&writer, line, response_reason(response->status));
    if (clock->second != now_ms / 1000)
        clock_update(clock, now_ms / 1000);
    add(&writer, clock->text, clock->len);
    if (response->body_bytes == 0)
        add(&writer, "Content-Length: 0\r\n", 19);
    else
        add_number(&writer, "Content-Length: ", response->body_bytes);
    if (response->type != NULL)
        add_line(&writer, "Content-Type: ", response->type);
    if (response->allow != NULL)
        add_line(&writer, "Allow: ", response->allow);
    if (response->status == 503)
        add_number(&writer, "Retry-After: ", RESPONSE_RETRY_AFTER_S);
    if (response->closes)
        add(&writer, "Connection: close\r\n", 19);
    add(&writer, "\r\n", 2);
    return writer.len;
}
