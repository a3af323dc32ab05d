/* keepalive.h: TCP keep-alive (RFC 9293 section 3.8.4): probes on a connection that has been silent, so that a peer that vanished without a word is noticed, and
 * so that a NAT or balancer between does not forget the connection. */
#ifndef JETON_NET_KEEPALIVE_H
#define JETON_NET_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

struct keepalive {      /* all zero: none */
  uint64_t idle_ms;     /* silence before the first probe; 0: no probes at all */
  uint64_t interval_ms; /* between probes that nobody answers */
  unsigned probes;      /* so many unanswered ones, and the connection has failed */
};

/* The kernel counts whole seconds; a fraction counts as one. */
enum { KEEPALIVE_MIN_MS = 1000, KEEPALIVE_MAX_MS = 32767 * 1000, KEEPALIVE_PROBES_MAX = 127 };

/* For a TCP socket, or one that listens: those that it accepts inherit it. On another socket nothing happens. */
void keepalive_set(int fd, const struct keepalive *k);
bool keepalive_equal(const struct keepalive *a, const struct keepalive *b);

#endif
