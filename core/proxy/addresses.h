/* addresses.h: how many connections each client address has, over all workers: for limits.connections_per_address.
 *
 * Asked once when a connection is accepted and once when it has gone, never for a request. An entry exists only while its address has a connection,
 * so memory is bounded by the connections that are open. Any thread: one mutex, held for a few stores. */
#ifndef JETON_PROXY_ADDRESSES_H
#define JETON_PROXY_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/address.h"

struct addresses;

/* Who counts as one client: an IPv4 address (also one that came mapped into IPv6), or the /64 that an IPv6 host can choose from at will. */
struct address_key {
  uint64_t high, low;
};
/* False: it has none, as with a Unix socket. */
bool address_key(const union address *a, struct address_key *out);

struct addresses *addresses_new(void);
void addresses_free(struct addresses *t); /* every connection must have left */
/* One more connection of that client, unless it has `limit` of them. */
bool addresses_enter(struct addresses *t, struct address_key k, uint32_t limit);
void addresses_leave(struct addresses *t, struct address_key k);
size_t addresses_count(struct addresses *t); /* clients with a connection */

#endif
