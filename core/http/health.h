/* health.h: what a thread knows of the addresses that it has dialled: which ones to try last, and in which order a name's are tried.
 *
 * Addresses, not names: a name's origin goes with its last connection, and what was learnt must outlive that. Nothing here forbids an address; one that is poor is
 * tried behind the others, and when there are no others, it is tried. Embedded in the thread's origins. */
#ifndef JETON_HTTP_HEALTH_H
#define JETON_HTTP_HEALTH_H

#include <stdint.h>

#include "net/address.h"

enum {
  HEALTH_FAILED_MS = 10 * 1000,     /* refused, reset: that is noticed at once, so trying again costs little */
  HEALTH_SLOW_MS = 60 * 1000,       /* was silent while another one answered; doubled each time in a row, */
  HEALTH_SLOW_MOST_MS = 600 * 1000, /* up to this */
  HEALTH_KNOWN = 64
};
struct health {
  struct mark {
    union address address;
    uint64_t until; /* on uv_now's clock, as all times here. 0: this one is free */
    uint64_t pause; /* of the last silence; 0: it was none */
  } marks[HEALTH_KNOWN];
  unsigned n; /* those behind are free */
};

void health_failed(struct health *h, const union address *a, uint64_t now);
void health_slow(struct health *h, const union address *a, uint64_t now);
void health_good(struct health *h, const union address *a);
/* Puts n addresses into the order in which they are to be dialled (RFC 8305 section 4): the family that the system prefers first and then in turn, within a family
 * round robin by `turn`; poor ones last, the one whose time is up first in front. */
void health_order(const struct health *h, union address *v, unsigned n, unsigned turn, uint64_t now);

#endif
