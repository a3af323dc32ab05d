/* h2_glitches.h: how much a peer has done on one connection that costs us and brings it nothing.
 *
 * Every frame of HTTP/2 may be sent for its own sake: a PING, an empty DATA, a stream that is reset at once. None of them is a fault, so they are counted: each
 * adds its cost to a level, what goes well takes some of it off, and time takes off the rest. A client of good will stays near zero at any load. Above
 * GLITCHES_ENOUGH the connection is to end in order, above GLITCHES_TOO_MANY at once. One thread. */
#ifndef JETON_HTTP_H2_GLITCHES_H
#define JETON_HTTP_H2_GLITCHES_H

#include <stdint.h>

enum { GLITCHES_ENOUGH = 1000, GLITCHES_TOO_MANY = 2000, GLITCHES_PER_SECOND = 100 };
enum glitches_verdict { GLITCHES_FINE, GLITCHES_LEAVE, GLITCHES_TERMINATE };

struct h2_glitches { /* all zero: none */
  uint32_t level;
  uint64_t since; /* ms: time has been taken off up to here */
};

/* cost: 1 for a frame that is answered or thrown away. `now`: any clock of ms that does not go back. */
static inline enum glitches_verdict glitches_add(struct h2_glitches *g, uint32_t cost, uint64_t now) {
  uint64_t ms = now - g->since;
  if (ms >= 10) {
    uint64_t off = ms * GLITCHES_PER_SECOND / 1000;
    g->level = off < g->level ? g->level - (uint32_t)off : 0;
    g->since = now;
  }
  g->level += cost;
  if (g->level <= GLITCHES_ENOUGH) return GLITCHES_FINE;
  return g->level > GLITCHES_TOO_MANY ? GLITCHES_TERMINATE : GLITCHES_LEAVE;
}

/* Something of use was done. */
static inline void glitches_earn(struct h2_glitches *g, uint32_t worth) {
  g->level = worth < g->level ? g->level - worth : 0;
}

#endif
