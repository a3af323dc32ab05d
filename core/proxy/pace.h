/* pace.h: how long a client may take for the body of its request.
 *
 * A bucket of time. Full it holds timeouts.body; while it is the client's turn to send, time runs out of it, and each byte puts 1/rate seconds
 * back. So a client may be silent for as long as timeouts.body, but over longer times must sustain limits.body_rate: a byte now and then does not hold
 * a connection for ever. Time in which jeton does not read (the upstream is slow, a hook runs) does not count. Pure; the worker's thread. */
#ifndef JETON_PROXY_PACE_H
#define JETON_PROXY_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace { /* all zero: a full bucket that does not run */
  uint64_t left_ms, since, counted;
  bool begun, running;
};

/* It is the client's turn, and `seen` bytes of the body have come so far. Returns the ms until its time is over, at least 1; 0: no limit.
 * full_ms 0: no limit; rate 0: any byte fills the bucket. `now` is any clock of ms that does not go back. */
uint64_t pace_run(struct pace *p, uint64_t now, uint64_t seen, uint64_t full_ms, uint64_t rate);
/* It is not the client's turn: the bucket keeps what it has. */
void pace_hold(struct pace *p, uint64_t now);

#endif
