#ifndef WHOPLINE_ADDRESS_H
#define WHOPLINE_ADDRESS_H
/* Which addresses are the world's. Pure; any thread. */
#include "base/base.h"

#include <sys/socket.h>

/* Whether it is one that any host of the internet may have: not loopback, link-local, of a private
 * network (RFC 1918, RFC 4193), of a carrier's (RFC 6598), reserved, for documentation or many; nor
 * any of these within an IPv6 address (mapped, compatible, NAT64, 6to4). Other families are not. */
bool address_is_public(const struct sockaddr *address);

#endif
