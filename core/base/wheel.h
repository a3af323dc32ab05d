/* wheel.h: one coarse timer wheel a thread, for the deadlines of connections and exchanges.
 *
 * Cost: arming, moving and clearing a deadline are a few stores: an entry that is already in the wheel only notes
 * its new deadline, and is put elsewhere when its old slot comes round. One uv_timer ticks while the wheel has entries.
 * Precision: WHEEL_TICK_MS late at the most, never early. For what needs milliseconds (jeton.sleep), use uv_timer_t. */
#ifndef JETON_BASE_WHEEL_H
#define JETON_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"

enum { WHEEL_TICK_MS = 20, WHEEL_SLOTS = 512 };

struct wheel {
  uv_timer_t timer;
  struct link slots[WHEEL_SLOTS];
  uint64_t tick; /* the tick handled last */
  unsigned entries;
  bool ticking;
};

struct timeout {
  struct link link;
  struct wheel *wheel;
  uint64_t due;  /* on uv_now's clock, ms; 0: not armed */
  uint64_t tick; /* while linked: it is visited by then */
  void (*on_due)(struct timeout *);
};

void wheel_init(struct wheel *w, uv_loop_t *loop);
void wheel_close(
    struct wheel *w); /* every timeout must be cleared (their memory may go afterwards); closes the uv timer */
void timeout_init(struct timeout *t, struct wheel *w, void (*on_due)(struct timeout *));
void timeout_set(struct timeout *t, uint64_t ms_from_now); /* 0 disarms */
void timeout_clear(struct timeout *t);                     /* disarms, lazily unlinked: cheap, on the hot path */
void timeout_fini(struct timeout *t);                      /* disarms and unlinks: before its memory goes */

#endif
