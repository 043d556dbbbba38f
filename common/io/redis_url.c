#include "io/redis_url.h"

#include <ctype.h>
#include <stdlib.h>

enum { SOCKET_PATH_MAX = 107 }; /* sun_path without its NUL, unix(7) */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char *copy_decoded(struct span text)
{
    char *out = mem_alloc(text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%' && i + 2 < text.len && hex_digit(text.ptr[i + 1]) >= 0 &&
            hex_digit(text.ptr[i + 2]) >= 0) {
            c = (char)(hex_digit(text.ptr[i + 1]) * 16 + hex_digit(text.ptr[i + 2]));
            i += 2;
        }
        out[len++] = c;
    }
    out[len] = '\0';
    return out;
}

/* Cuts text at the first c; what follows it goes to rest (NULL ptr if c does not occur). */
static struct span cut(struct span text, char c, struct span *rest)
{
    const char *at = memchr(text.ptr, c, text.len);
    if (at == NULL) {
        *rest = (struct span){NULL, 0};
        return text;
    }
    size_t len = (size_t)(at - text.ptr);
    *rest = (struct span){at + 1, text.len - len - 1};
    return (struct span){text.ptr, len};
}

static void parse_credentials(struct span *text, struct redis_url *out)
{
    const char *at = memrchr(text->ptr, '@', text->len);
    out->user = NULL;
    if (at == NULL) {
        out->user = mem_strdup("");
        out->password = mem_strdup("");
        return;
    }
    struct span password;
    struct span user = cut((struct span){text->ptr, (size_t)(at - text->ptr)}, ':', &password);
    out->user = copy_decoded(user);
    out->password = copy_decoded(password.ptr != NULL ? password : SPAN(""));
    *text = (struct span){at + 1, text->len - (size_t)(at + 1 - text->ptr)};
}

static bool parse_number(struct span text, int64_t max, int64_t *out)
{
    int64_t number = 0;
    if (text.len == 0 || text.len > 9)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.ptr[i]))
            return false;
        number = number * 10 + (text.ptr[i] - '0');
    }
    *out = number;
    return number <= max;
}

static struct err parse_socket(struct span text, struct redis_url *out)
{
    struct span query;
    struct span path = cut(text, '?', &query);
    out->path = copy_decoded(path);
    if (out->path[0] != '/' || strlen(out->path) > SOCKET_PATH_MAX)
        return err_make(ERR_CONFIG,
                        "REDIS_URL: a Unix socket's path begins with / and has at most %d bytes",
                        SOCKET_PATH_MAX);
    if (query.ptr == NULL)
        return ERR_NONE;
    if (query.len < 3 || memcmp(query.ptr, "db=", 3) != 0 ||
        !parse_number((struct span){query.ptr + 3, query.len - 3}, INT32_MAX, &out->db))
        return err_make(ERR_CONFIG, "REDIS_URL: after ? only db=NUMBER is understood");
    return ERR_NONE;
}

static struct err parse_tcp(struct span text, struct redis_url *out)
{
    struct span db;
    struct span port = SPAN("6379");
    struct span host = cut(text, '/', &db);
    int64_t number;
    if (host.len > 0 && host.ptr[0] == '[') {
        struct span rest;
        host = cut((struct span){host.ptr + 1, host.len - 1}, ']', &rest);
        if (rest.ptr != NULL && rest.len > 1 && rest.ptr[0] == ':')
            port = (struct span){rest.ptr + 1, rest.len - 1};
    } else {
        struct span given;
        host = cut(host, ':', &given);
        if (given.ptr != NULL)
            port = given;
    }
    out->host = copy_decoded(host.len > 0 ? host : SPAN("127.0.0.1"));
    out->port = copy_decoded(port);
    if (!parse_number(port, 65535, &number))
        return err_make(ERR_CONFIG, "REDIS_URL: the port is not a number up to 65535");
    if (db.ptr != NULL && db.len > 0 && !parse_number(db, INT32_MAX, &out->db))
        return err_make(ERR_CONFIG, "REDIS_URL: the database after / is not a number");
    return ERR_NONE;
}

struct err redis_url_parse(const char *text, struct redis_url *out)
{
    static const char tcp[] = "redis://";
    static const char local[] = "unix://";
    *out = (struct redis_url){0};
    bool is_tcp = strncmp(text, tcp, sizeof tcp - 1) == 0;
    if (!is_tcp && strncmp(text, local, sizeof local - 1) != 0)
        return err_make(ERR_CONFIG, "REDIS_URL must begin with redis:// or unix://");
    struct span rest = span_of(text + (is_tcp ? sizeof tcp - 1 : sizeof local - 1));
    parse_credentials(&rest, out);
    struct err err = is_tcp ? parse_tcp(rest, out) : parse_socket(rest, out);
    if (err_failed(&err))
        redis_url_close(out);
    return err;
}

void redis_url_close(struct redis_url *url)
{
    if (url->password != NULL)
        explicit_bzero(url->password, strlen(url->password));
    free(url->host);
    free(url->port);
    free(url->path);
    free(url->user);
    free(url->password);
    *url = (struct redis_url){0};
}

void redis_url_check(const char *text, struct buf *problems)
{
    struct redis_url url;
    if (text_is_empty(text))
        return;
    struct err err = redis_url_parse(text, &url);
    if (err_failed(&err))
        buf_printf(problems, "%s\n", err_text(&err));
    redis_url_close(&url);
}
