/* range.c: see range.h. IPv4 is kept as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2), so that there is one way to compare and no second spelling of an
 * address gets past it. "::/0" does not contain IPv4 all the same: its author thinks of IPv6. */
#include "net/range.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { BYTES = 16, V4_BITS = 96 };

static const uint8_t mapped[BYTES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v4(const uint8_t bytes[BYTES]) { return memcmp(bytes, mapped, V4_BITS / 8) == 0; }

static bool literal(struct str s, uint8_t bytes[BYTES]) {
  char text[INET6_ADDRSTRLEN];
  if (s.n == 0 || s.n >= sizeof text || memchr(s.p, '\0', s.n) != NULL) return false;
  memcpy(text, s.p, s.n);
  text[s.n] = '\0';
  memcpy(bytes, mapped, BYTES);
  return inet_pton(AF_INET, text, bytes + V4_BITS / 8) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* Clears what stands behind the first `bits`. True when there was nothing. */
static bool clear_behind(uint8_t bytes[BYTES], unsigned bits) {
  bool clear = true;
  for (unsigned i = bits / 8; i < BYTES; i++) {
    unsigned keep = i == bits / 8 ? 0xff00U >> bits % 8 & 0xff : 0;
    if ((bytes[i] & ~keep) != 0) clear = false;
    bytes[i] = (uint8_t)(bytes[i] & keep);
  }
  return clear;
}

enum range_fault range_parse(struct str s, struct address_range *out) {
  const char *slash = s.n > 0 ? memchr(s.p, '/', s.n) : NULL;
  struct str host = {s.p, slash != NULL ? (size_t)(slash - s.p) : s.n};
  unsigned long long bits;
  *out = (struct address_range){.bits = 128};
  if (!literal(host, out->bytes)) return RANGE_WRONG;
  if (slash == NULL) return RANGE_FINE;
  bool dotted = memchr(host.p, ':', host.n) == NULL;
  struct str length = {slash + 1, s.n - host.n - 1};
  if (length.n > 3 || !str_to_u64(length, &bits) || bits > (dotted ? 32 : 128)) return RANGE_WRONG;
  out->bits = (unsigned)bits + (dotted ? V4_BITS : 0);
  return clear_behind(out->bytes, out->bits) ? RANGE_FINE : RANGE_HOST_BITS;
}

void range_format(const struct address_range *r, char *out, size_t n) {
  char host[INET6_ADDRSTRLEN];
  bool v4 = r->bits >= V4_BITS && is_v4(r->bytes);
  inet_ntop(v4 ? AF_INET : AF_INET6, r->bytes + (v4 ? V4_BITS / 8 : 0), host, sizeof host);
  snprintf(out, n, "%s/%u", host, v4 ? r->bits - V4_BITS : r->bits);
}

static bool bytes_of(const union address *a, uint8_t bytes[BYTES]) {
  memcpy(bytes, mapped, BYTES);
  if (a->sa.sa_family == AF_INET)
    memcpy(bytes + V4_BITS / 8, &a->in.sin_addr, sizeof a->in.sin_addr);
  else if (a->sa.sa_family == AF_INET6)
    memcpy(bytes, &a->in6.sin6_addr, BYTES);
  else
    return false;
  return true;
}

bool range_holds(const struct address_range *r, const union address *a) {
  uint8_t bytes[BYTES];
  if (!bytes_of(a, bytes)) return false;
  bool v4 = r->bits >= V4_BITS && is_v4(r->bytes);
  if (v4 != is_v4(bytes)) return false;
  clear_behind(bytes, r->bits);
  return memcmp(bytes, r->bytes, BYTES) == 0;
}
