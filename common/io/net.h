#ifndef WHOPLINE_NET_H
#define WHOPLINE_NET_H
/* Addresses and listening sockets. Loop thread. */
#include "base/err.h"

#include <uv.h>

/* "127.0.0.1:8080", "[::1]:8080" or ":8080" (all addresses). Numeric only. */
MUST_CHECK struct err net_parse(const char *text, struct sockaddr_storage *out);

/* SHARED: several processes listen on the same port, and the kernel deals out the connections.
 * ALONE: a port that another process has is an error. */
enum net_sharing { NET_ALONE, NET_SHARED };

/* Binds and listens. handle: set up by this call; the caller closes it, also after an error. */
MUST_CHECK struct err net_listen(uv_loop_t *loop, const char *address, int backlog,
                                 enum net_sharing sharing, uv_connection_cb on_connection,
                                 uv_tcp_t *handle);

enum { NET_NAME_MAX = 64 };

/* The address and port a socket is bound to, as net_parse reads them: for the log, where port 0
 * let the kernel choose. "" if it has none. */
void net_name(const uv_tcp_t *handle, char out[NET_NAME_MAX]);

#endif
