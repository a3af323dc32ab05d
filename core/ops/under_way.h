/* under_way.h: the fetches and releases that run in the keeper's thread, for whoever ends the process: what it waits for, and what it costs not to wait.
 *
 * A refresh that is cut off is not merely late. Its issuer may have rotated the refresh token already: the old one is spent, the new one was on its way to us,
 * and a restart is locked out until a person logs in. So the end of the process names each of them. Any thread. */
#ifndef JETON_OPS_UNDER_WAY_H
#define JETON_OPS_UNDER_WAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct under_way {
  pthread_mutex_t mutex; /* guards the list and its entries */
  struct link fetches;
};
struct under_way_fetch { /* embedded in the fetch's run */
  struct link link;
  const char *name; /* of the slot, which the fetch holds */
  bool release;     /* what it holds at its issuer is given back: no fetch */
  int64_t since;    /* CLOCK_BOOTTIME ms */
};

void under_way_init(struct under_way *u);
void under_way_fini(struct under_way *u);
void under_way_begin(struct under_way *u, struct under_way_fetch *f, const char *name);
void under_way_end(struct under_way *u, struct under_way_fetch *f);
bool under_way_any(struct under_way *u);
/* A line of the log for each: that the stop waits for it, `until` CLOCK_BOOTTIME ms (INT64_MAX: its own limit only). */
void under_way_log_wait(struct under_way *u, int64_t until);
/* A line for each: that it is cut off, and what that means. */
void under_way_log_cut(struct under_way *u);

#endif
