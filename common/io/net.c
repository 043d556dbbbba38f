#include "io/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct err net_parse(const char *text, struct sockaddr_storage *out)
{
    char host[INET6_ADDRSTRLEN + 1];
    const char *colon = strrchr(text, ':');
    struct err wrong =
        err_make(ERR_CONFIG, "\"%s\" is not ADDRESS:PORT, e.g. 127.0.0.1:8080 or [::1]:8080", text);
    if (colon == NULL || colon[1] == '\0')
        return wrong;
    char *end = NULL;
    errno = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || errno != 0 || port > 65535 || colon[1] == '-' || colon[1] == '+')
        return wrong;
    bool bracket = text[0] == '[';
    const char *begin = text + (bracket ? 1 : 0);
    const char *stop = colon - (bracket ? 1 : 0);
    if (stop < begin || (bracket && *stop != ']') || (size_t)(stop - begin) >= sizeof host)
        return wrong;
    memcpy(host, begin, (size_t)(stop - begin));
    host[stop - begin] = '\0';
    memset(out, 0, sizeof *out);
    int status = bracket || host[0] == '\0'
                     ? uv_ip6_addr(bracket ? host : "::", (int)port, (struct sockaddr_in6 *)out)
                     : uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out);
    return status == 0 ? ERR_NONE : wrong;
}

/* UV_TCP_REUSEPORT is only in libuv 1.49; 1.44 takes a socket made by hand. */
static struct err open_socket(const struct sockaddr_storage *address, const char *text,
                              enum net_sharing sharing, int *out)
{
    const int yes = 1;
    const int shared = sharing == NET_SHARED ? 1 : 0;
    socklen_t size =
        address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *out = fd;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared) != 0 ||
        bind(fd, (const struct sockaddr *)address, size) != 0) {
        struct err err = err_make(ERR_CONFIG, "cannot listen on %s: %s", text, strerror(errno));
        if (fd >= 0)
            close(fd);
        *out = -1;
        return err;
    }
    return ERR_NONE;
}

struct err net_listen(uv_loop_t *loop, const char *address, int backlog, enum net_sharing sharing,
                      uv_connection_cb on_connection, uv_tcp_t *handle)
{
    struct sockaddr_storage parsed = {0};
    int fd;
    uv_tcp_init(loop, handle);
    TRY(net_parse(address, &parsed));
    TRY(open_socket(&parsed, address, sharing, &fd));
    int status = uv_tcp_open(handle, fd);
    if (status != 0) {
        close(fd);
        return err_make(ERR_SYSTEM, "cannot listen on %s: %s", address, uv_strerror(status));
    }
    status = uv_listen((uv_stream_t *)handle, backlog, on_connection);
    if (status != 0)
        return err_make(ERR_CONFIG, "cannot listen on %s: %s", address, uv_strerror(status));
    return ERR_NONE;
}

void net_name(const uv_tcp_t *handle, char out[NET_NAME_MAX])
{
    struct sockaddr_storage address;
    char host[INET6_ADDRSTRLEN];
    int size = sizeof address;
    out[0] = '\0';
    if (uv_tcp_getsockname(handle, (struct sockaddr *)&address, &size) != 0)
        return;
    const struct sockaddr_in *ip4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *ip6 = (const struct sockaddr_in6 *)&address;
    bool is_ip6 = address.ss_family == AF_INET6;
    if ((is_ip6 ? uv_ip6_name(ip6, host, sizeof host) : uv_ip4_name(ip4, host, sizeof host)) != 0)
        return;
    snprintf(out, NET_NAME_MAX, is_ip6 ? "[%s]:%d" : "%s:%d", host,
             ntohs(is_ip6 ? ip6->sin6_port : ip4->sin_port));
}
