/* refusal.c: see refusal.h. One block: the struct, its slices, their bytes. */
#include "token/refusal.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"

static struct str place(char **at, struct str s) {
  struct str copy = {*at, s.n};
  if (s.n > 0) memcpy(*at, s.p, s.n);
  *at += s.n;
  return copy;
}

struct refusal *refusal_new(int status, const struct str *fields, unsigned n) {
  size_t table = 2 * (size_t)n * sizeof *fields, bytes = 0;
  struct refusal *r = must_malloc(sizeof *r + table + REFUSAL_BYTES_MAX);
  char *at = (char *)(r->fields + 2 * (size_t)n);
  atomic_init(&r->refs, 1);
  r->status = status;
  r->n = 0;
  for (unsigned i = 0; i < n; i++) {
    struct str name = fields[2 * i], value = fields[2 * i + 1];
    if (name.n + value.n > REFUSAL_BYTES_MAX - bytes) continue;
    bytes += name.n + value.n;
    r->fields[2 * r->n] = place(&at, name);
    r->fields[2 * r->n + 1] = place(&at, value);
    r->n++;
  }
  return r;
}

struct refusal *refusal_ref(struct refusal *r) {
  atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
  return r;
}

void refusal_unref(struct refusal *r) {
  if (r != NULL && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) free(r);
}
