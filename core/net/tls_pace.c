/* tls_pace.c: handshakes of clients share a time budget, so that established connections do not wait for new ones.
 *
 * One step of a handshake is a signature and a key exchange: up to 3 ms of this thread. A hundred clients that come at once would be a hundred
 * steps in one iteration of the loop, and every established connection of the worker would stand still for all of them. So an iteration spends
 * ITERATION_US on handshakes, and one step at least. Handshakes beyond it wait in net->handshakes, first come first served, and their sockets are not read. The
 * loop does not sleep while one waits (its idle handle is active), so nothing is lost but a poll between the steps. Handshakes with upstreams are not paced:
 * requests wait for them. uv_now, which libuv moves once in each iteration, tells one from the next: iterations within the same millisecond share a budget.
 * Belongs to the stream's thread. */
#include "base/clock.h"
#include "net/stream.h"
#include "net/tls_internal.h"

enum { ITERATION_US = 1000 };

bool tls_pace_may(struct net *net) {
  uint64_t now = uv_now(net->loop);
  if (net->handshake_iteration != now) net->handshake_us = 0;
  net->handshake_iteration = now;
  return net->handshake_us < ITERATION_US;
}

int64_t tls_pace_begin(void) { return clock_mono_us(); }

void tls_pace_end(struct net *net, int64_t begun) { net->handshake_us += clock_mono_us() - begun; }
