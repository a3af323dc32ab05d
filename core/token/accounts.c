/* accounts.c: see accounts.h. */
#include "token/accounts.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"

enum { FIRST_CAP = 16 };

int64_t damp_ms(unsigned level) {
  int64_t ms = DAMP_MIN_MS;
  for (unsigned i = 1; i < level && ms < DAMP_MAX_MS; i++) ms *= 2;
  return ms < DAMP_MAX_MS ? ms : DAMP_MAX_MS;
}

void accounts_fini(struct accounts *a) {
  free(a->keys);
  free(a->v);
  *a = (struct accounts){0};
}

static struct damping *find(const struct accounts *a, uint64_t key) {
  for (unsigned i = 0; i < a->n; i++)
    if (a->keys[i] == key) return &a->v[i];
  return NULL;
}

bool accounts_damped(const struct accounts *a, uint64_t key, int64_t now) {
  const struct damping *d = find(a, key);
  return d != NULL && now < d->until;
}

static void remove_at(struct accounts *a, unsigned i) {
  a->keys[i] = a->keys[--a->n];
  a->v[i] = a->v[a->n];
}

/* What has been quiet for long is a new story. */
static void forget_old(struct accounts *a, int64_t now) {
  for (unsigned i = a->n; i-- > 0;)
    if (now > a->v[i].until + DAMP_MAX_MS) remove_at(a, i);
}

static void make_room(struct accounts *a) {
  if (a->n == ACCOUNTS_MAX) {
    unsigned first = 0;
    for (unsigned i = 1; i < a->n; i++)
      if (a->v[i].until < a->v[first].until) first = i;
    remove_at(a, first);
  } else if (a->n == a->cap) {
    a->cap = a->cap == 0 ? FIRST_CAP : 2 * a->cap;
    a->keys = must_realloc(a->keys, a->cap * sizeof *a->keys);
    a->v = must_realloc(a->v, a->cap * sizeof *a->v);
  }
}

int64_t accounts_charge(struct accounts *a, uint64_t key, uint64_t generation, int64_t now) {
  forget_old(a, now);
  struct damping *d = find(a, key);
  if (d == NULL) {
    make_room(a);
    d = &a->v[a->n];
    a->keys[a->n++] = key;
    *d = (struct damping){0};
  }
  if (generation <= d->generation) return 0;
  d->level++;
  d->generation = generation;
  d->at = now;
  d->until = now + damp_ms(d->level);
  d->proven = false;
  return d->until - now;
}

void accounts_accept(struct accounts *a, uint64_t key, uint64_t generation) {
  struct damping *d = find(a, key);
  if (d == NULL || generation < d->generation) return;
  int64_t most = d->at + DAMP_PROVEN_MS;
  if (d->until > most) d->until = most;
  while (damp_ms(d->level) > DAMP_PROVEN_MS) d->level--;
  d->proven = true;
}

uint64_t accounts_unproven(const struct accounts *a, int64_t now) {
  uint64_t bits = 0;
  for (unsigned i = 0; i < a->n; i++)
    if (!a->v[i].proven && now < a->v[i].until) bits |= UINT64_C(1) << a->keys[i] % 64;
  return bits;
}
