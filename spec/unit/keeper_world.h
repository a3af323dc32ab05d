/* keeper_world.h: a keeper on a virtual clock: every fetch is started and ended by the test, and time moves when the test says so. One test program
 * includes it once. */
#ifndef JETON_SPEC_KEEPER_WORLD_H
#define JETON_SPEC_KEEPER_WORLD_H

#include <stdint.h>
#include <uv.h>

#include "base/mailbox.h"
#include "check.h"
#include "token/keeper.h"

static int64_t vnow;
static int64_t timer_at; /* when the keeper wants to be run; INT64_MAX: never */
static uv_loop_t loop;
static struct mailbox inbox, home;
static struct keeper *keeper;
static struct fetch *running[64];
static unsigned nrunning, started;

static inline int64_t vclock(void) { return vnow; }
static inline int64_t host_now(void *ctx) {
  (void)ctx;
  return vnow;
}
static inline void host_start(void *ctx, struct fetch *f) {
  (void)ctx;
  started++;
  for (unsigned i = 0; i < nrunning; i++) CHECK(running[i]->slot != f->slot); /* one at a time */
  CHECK(nrunning < 64);
  running[nrunning++] = f;
}
static inline void host_timer(void *ctx, int64_t at) {
  (void)ctx;
  timer_at = at;
}

static inline void deliver(void) {
  for (int i = 0; i < 4; i++) uv_run(&loop, UV_RUN_NOWAIT);
}
/* Moves the clock, firing the timer at each moment it asks for. */
static inline void advance(int64_t ms) {
  int64_t end = vnow + ms;
  deliver();
  while (timer_at <= end) {
    if (timer_at > vnow) vnow = timer_at;
    timer_at = INT64_MAX;
    keeper_run_due(keeper);
    deliver();
  }
  vnow = end;
}

static inline void world_begin(int64_t now, const struct keeper_host *host) {
  vnow = now;
  timer_at = INT64_MAX;
  nrunning = started = 0;
  CHECK(uv_loop_init(&loop) == 0 && mailbox_init(&inbox, &loop) == 0 && mailbox_init(&home, &loop) == 0);
  keeper = keeper_new(host, &inbox, 42);
}
static inline void world_end(void) {
  keeper_free(keeper);
  deliver();
  mailbox_close(&inbox);
  mailbox_close(&home);
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

#endif
