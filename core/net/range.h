/* range.h: ranges of addresses as a policy writes them (RFC 4632, RFC 4291 section 2.3). Pure functions; any thread. */
#ifndef JETON_NET_RANGE_H
#define JETON_NET_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "net/address.h"

struct address_range {
  uint8_t bytes[16]; /* an IPv4 one as the IPv4-mapped IPv6 one; zero behind `bits` */
  unsigned bits;     /* of 128 */
};

enum range_fault { RANGE_FINE, RANGE_WRONG, RANGE_HOST_BITS /* "10.0.0.7/8": *out is the range that was meant */ };
/* "10.0.0.0/8", "fd00::/8", "127.0.0.1", "::1". An IPv4-mapped IPv6 range of at least /96 is the IPv4 one. */
enum range_fault range_parse(struct str s, struct address_range *out);
/* As parse takes it; RANGE_TEXT is enough. */
enum { RANGE_TEXT = 64 };
void range_format(const struct address_range *r, char *out, size_t n);
/* An IPv4 address, however it is written, is in IPv4 ranges alone; a Unix socket is in none. */
bool range_holds(const struct address_range *r, const union address *a);

#endif
