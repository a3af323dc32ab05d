/* later.h: work that a thread puts off until its present callback has returned.
 *
 * For code that must not call back from inside: the call is noted, and made from the loop in its next iteration, before it waits for anything. It costs two
 * list operations and no system call, where a mail to the own thread costs a lock and a write. A struct later is embedded in the object that it is about;
 * posting allocates nothing and cannot fail. All of it belongs to one loop's thread. */
#ifndef JETON_BASE_LATER_H
#define JETON_BASE_LATER_H

#include <stdbool.h>
#include <uv.h>

#include "base/list.h"

struct laters { /* one a thread */
  uv_idle_t idle;
  struct link posted;
};
struct later {
  struct link link; /* in a list while it is posted */
  void (*run)(struct later *);
};

void laters_init(struct laters *all, uv_loop_t *loop);
void laters_close(struct laters *all); /* nothing may be posted any more */

void later_init(struct later *l, void (*run)(struct later *));
/* Calls run in the order of their posts; a second post of one that waits does nothing. One that is posted by a call that runs is called an iteration later,
 * after the loop has polled for events. */
void later_post(struct laters *all, struct later *l);
void later_cancel(struct later *l); /* fine when it is not posted; before its memory goes */

#endif
