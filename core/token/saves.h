/* saves.h: what fetches brought (a new refresh token) and could not save: tried again until it is saved, or something newer has come.
 *
 * It belongs to the keeper's thread and not to a policy: a reload ends what a policy's scripts do, and what they could not save may be all that is left of a login.
 * The end of the process tries each once more. */
#ifndef JETON_TOKEN_SAVES_H
#define JETON_TOKEN_SAVES_H

#include <stdbool.h>
#include <uv.h>

#include "base/str.h"
#include "token/slot.h"

enum { SAVES_BEFORE_MAX = 4 };
struct saves_of { /* all borrowed */
  struct slot *slot;
  struct str path, value;
  struct str before
      [SAVES_BEFORE_MAX]; /* what may stand there: anything else is newer than value. What is empty counts for nothing */
  unsigned nbefore;
};

struct saves;
/* ended(arg) follows the end of each, from the loop. */
struct saves *saves_new(uv_loop_t *loop, void (*ended)(void *arg), void *arg);
/* Of a slot there is one: it takes the place of an earlier one, and may be written over whatever that might have been. */
void saves_add(struct saves *all, const struct saves_of *s);
void saves_drop(struct saves *all, const struct slot *s); /* that slot's is saved, or of no use any more */
bool saves_any(const struct saves *all);
/* Tries each at once, for the last time; also those that are still to come. */
void saves_hurry(struct saves *all);
void saves_drop_all(struct saves *all);
void saves_free(struct saves *all); /* when the loop has closed what was dropped */

#endif
