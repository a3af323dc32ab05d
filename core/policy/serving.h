/* serving.h: counts the threads that still serve under a policy, and sends the keeper a mail when none does any more.
 *
 * An exchange keeps the policy that it began with, and may need its tokens after a reload has put another one in its place. So the keeper holds the
 * slots of an old policy, and the VM that fetches for them, until the last exchange has ended; it cannot see that by itself, since exchanges belong to workers. It
 * was polled before: every 100 ms the keeper read a counter of each old policy.
 *
 * The invariants:
 * - The keeper holds the count from its PREPARE until its SWITCH to the next policy, or its DISCARD. A worker's runtime holds it from its making, in the worker's
 *   PREPARE, to the end of its last exchange. PREPARE of a worker comes after the keeper's and before the keeper lets go, so the count never rises from zero, and
 *   falls to zero once in a policy's life.
 * - The last holder learns that it was the last: the keeper from serving_leave; a worker posts `over` to the keeper. So there is one mail at the most, and
 *   never a second post of one that is under way.
 * - `over` lies in the policy's own memory, and its sender takes a reference to the policy for it, which the keeper gives up when it has arrived. Whatever the
 *   keeper has done meanwhile (at the end of timeouts.drain it waits no longer), the mail is there.
 * - The keeper's mailbox is there for as long as a worker runs: workers are joined before the keeper gets its STOP, and mail keeps its order, so every `over`
 *   has arrived before STOP. */
#ifndef JETON_POLICY_SERVING_H
#define JETON_POLICY_SERVING_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/mailbox.h"

struct serving {
  atomic_uint holders;
  /* Written by the keeper in its PREPARE, before any worker has the policy; immutable afterwards. NULL: nobody wants to hear of the end. */
  struct mailbox *keeper;
  struct mail over;
};

void serving_init(struct serving *s);
/* The keeper's hold, the first one; `deliver` gets &s->over on the keeper's thread, with a reference to the policy to give up. */
void serving_begin(struct serving *s, struct mailbox *keeper, void (*deliver)(struct mail *over));
void serving_join(struct serving *s);  /* any thread, while another holds it */
bool serving_leave(struct serving *s); /* any thread. True: this was the last */

#endif
