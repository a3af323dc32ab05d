/* serving.c: see serving.h. */
#include "policy/serving.h"

#include <assert.h>

void serving_init(struct serving *s) {
  atomic_init(&s->holders, 0);
  s->keeper = NULL;
}

void serving_begin(struct serving *s, struct mailbox *keeper, void (*deliver)(struct mail *over)) {
  s->keeper = keeper;
  mail_init(&s->over, deliver);
  serving_join(s);
}

void serving_join(struct serving *s) { atomic_fetch_add_explicit(&s->holders, 1, memory_order_relaxed); }

/* Release and acquire: the last one has seen all that the others' exchanges did, and the keeper sees it by the mail. */
bool serving_leave(struct serving *s) {
  unsigned before = atomic_fetch_sub_explicit(&s->holders, 1, memory_order_acq_rel);
  assert(before > 0);
  return before == 1;
}
