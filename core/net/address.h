/* address.h: where to listen and where to connect: socket addresses, their text, and listening sockets. Names are resolver.h's. */
#ifndef JETON_NET_ADDRESS_H
#define JETON_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include "base/str.h"

union address { /* one socket address of any family we use; AF_UNIX when the path is set */
  struct sockaddr sa;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
};

/* Parses "127.0.0.1:8080", "[::1]:8080", ":8080" (all addresses, IPv6 with IPv4; "[::]:8080" is the same), "unix:/path".
 * "localhost:80" is refused here (not a literal). Returns 0 or UV_EINVAL. */
int address_parse(struct str s, union address *out);
/* As parse takes it; an IPv4-mapped address as the IPv4 one that it is. 0, or UV_ENOBUFS when n is too small. ADDRESS_TEXT is enough. */
enum { ADDRESS_TEXT = 128 };
int address_format(const union address *a, char *out, size_t n);
/* Without the port and without brackets; "unix:" for a Unix socket. */
enum { ADDRESS_HOST = 48 };
void address_host(const union address *a, char out[ADDRESS_HOST]);
socklen_t address_len(const union address *a);
void address_set_port(union address *a, uint16_t port);            /* of AF_INET or AF_INET6; host byte order */
bool address_same(const union address *a, const union address *b); /* the port counts, too */
/* Loopback, link-local, private (RFC 1918, RFC 4193, RFC 6598), unspecified, multicast, reserved, a Unix socket, an IPv6 form (mapped,
 * compatible, translated, 6to4) of such an IPv4 address, or one whose IPv4 end cannot be determined (RFC 8215, Teredo). */
bool address_is_private(const union address *a);

/* A listening socket (SO_REUSEADDR; SO_REUSEPORT for TCP so that each worker has its own queue; IPV6_V6ONLY for
 * IPv6 other than ":port", which becomes IPv4 on a kernel without IPv6). Port 0 is replaced in *a by the port the kernel chose. Returns a non-blocking, close-on-exec descriptor or
 * a libuv error. A stale Unix socket file (nobody accepts there) is replaced; a living one is UV_EADDRINUSE,
 * another file UV_EEXIST. */
int address_listen(union address *a, int backlog);

#endif
