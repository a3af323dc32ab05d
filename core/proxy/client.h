/* client.h: what is known of who sent a request, whatever protocol it speaks: the facts of its connection (conn.c). Worker's thread. */
#ifndef JETON_PROXY_CLIENT_H
#define JETON_PROXY_CLIENT_H

#include <stdbool.h>

#include "base/str.h"

struct conn;
struct tls_peer;

/* The client's address without its port, with a NUL behind it; lives as long as c. */
struct str client_address(const struct conn *c);
bool client_has_tls(const struct conn *c);
/* False: it came without TLS. */
bool client_tls(const struct conn *c, struct tls_peer *out);

#endif
