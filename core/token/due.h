/* due.h: a heap of deadlines: the keeper's one timer for any number of slots. Owned by one thread. */
#ifndef JETON_TOKEN_DUE_H
#define JETON_TOKEN_DUE_H

#include <stddef.h>
#include <stdint.h>

struct due { /* embedded; zeroed: in no heap */
  int64_t at;
  size_t place; /* 1-based position in the heap; 0: not in it */
};
struct due_heap {
  struct due **v; /* v[0] is the earliest */
  size_t n, cap;
};
void due_init(struct due_heap *h);
void due_fini(struct due_heap *h);
/* Puts, moves, or with INT64_MAX removes. */
void due_set(struct due_heap *h, struct due *d, int64_t at);
int64_t due_first(const struct due_heap *h);          /* INT64_MAX when empty */
struct due *due_pop(struct due_heap *h, int64_t now); /* one with at <= now, removed; or NULL */

#endif
