/* due.c: a binary heap whose members know their place, so that moving one is O(log n) and needs no search.
 *
 * A timer a slot was the other way; it would tie the keeper to libuv and make thousands of family slots cost as many handles.
 * Invariants: v[i]->place == i + 1; no member is earlier than its parent. */
#include "token/due.h"

#include <assert.h>
#include <stdlib.h>

#include "base/must.h"

void due_init(struct due_heap *h) { *h = (struct due_heap){NULL, 0, 0}; }

void due_fini(struct due_heap *h) {
  for (size_t i = 0; i < h->n; i++) h->v[i]->place = 0;
  free(h->v);
  due_init(h);
}

static void put(struct due_heap *h, size_t i, struct due *d) {
  h->v[i] = d;
  d->place = i + 1;
}

static void rise(struct due_heap *h, size_t i) {
  struct due *d = h->v[i];
  for (; i > 0 && d->at < h->v[(i - 1) / 2]->at; i = (i - 1) / 2) put(h, i, h->v[(i - 1) / 2]);
  put(h, i, d);
}

static void sink(struct due_heap *h, size_t i) {
  struct due *d = h->v[i];
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= h->n) break;
    if (child + 1 < h->n && h->v[child + 1]->at < h->v[child]->at) child++;
    if (h->v[child]->at >= d->at) break;
    put(h, i, h->v[child]);
    i = child;
  }
  put(h, i, d);
}

static void take_out(struct due_heap *h, struct due *d) {
  size_t i = d->place - 1;
  assert(i < h->n && h->v[i] == d);
  struct due *last = h->v[--h->n];
  d->place = 0;
  if (last == d) return;
  put(h, i, last);
  rise(h, i);
  sink(h, last->place - 1);
}

static void add(struct due_heap *h, struct due *d) {
  if (h->n == h->cap) {
    h->cap = h->cap > 0 ? 2 * h->cap : 16;
    h->v = must_realloc(h->v, h->cap * sizeof(struct due *));
  }
  put(h, h->n++, d);
  rise(h, d->place - 1);
}

void due_set(struct due_heap *h, struct due *d, int64_t at) {
  if (d->place != 0 && d->at == at) return;
  if (d->place != 0) take_out(h, d);
  d->at = at;
  if (at != INT64_MAX) add(h, d);
}

int64_t due_first(const struct due_heap *h) { return h->n > 0 ? h->v[0]->at : INT64_MAX; }

struct due *due_pop(struct due_heap *h, int64_t now) {
  if (h->n == 0 || h->v[0]->at > now) return NULL;
  struct due *d = h->v[0];
  take_out(h, d);
  return d;
}
