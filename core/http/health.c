/* health.c: see health.h. A short list, searched from its start: it is empty while all is well, and read for a dial only. */
#include "http/health.h"

#include <assert.h>
#include <string.h>

#include "net/resolver.h"

static struct mark *find(const struct health *h, const union address *a) {
  for (unsigned i = 0; i < h->n; i++)
    if (h->marks[i].until != 0 && address_same(&h->marks[i].address, a)) return (struct mark *)&h->marks[i];
  return NULL;
}

/* A free one, or the one whose time is up first. */
static struct mark *take(struct health *h) {
  struct mark *first = &h->marks[0];
  for (unsigned i = 0; i < h->n; i++)
    if (h->marks[i].until < first->until) first = &h->marks[i];
  if ((h->n == 0 || first->until != 0) && h->n < HEALTH_KNOWN) first = &h->marks[h->n++];
  return first;
}

static struct mark *mark(struct health *h, const union address *a) {
  struct mark *m = find(h, a);
  if (m != NULL) return m;
  m = take(h);
  *m = (struct mark){.address = *a};
  return m;
}

void health_failed(struct health *h, const union address *a, uint64_t now) {
  struct mark *m = mark(h, a);
  if (m->until < now + HEALTH_FAILED_MS) m->until = now + HEALTH_FAILED_MS;
}

void health_slow(struct health *h, const union address *a, uint64_t now) {
  struct mark *m = mark(h, a);
  if (m->pause > 0 && m->until > now) return; /* one of several dials that were under way at once */
  m->pause = m->pause == 0 ? HEALTH_SLOW_MS : m->pause * 2;
  if (m->pause > HEALTH_SLOW_MOST_MS) m->pause = HEALTH_SLOW_MOST_MS;
  m->until = now + m->pause;
}

void health_good(struct health *h, const union address *a) {
  struct mark *m = find(h, a);
  if (m != NULL) m->until = m->pause = 0;
  while (h->n > 0 && h->marks[h->n - 1].until == 0) h->n--;
}

/* --- the order --- */

struct poor {
  union address address;
  uint64_t until;
};

static void add_poor(struct poor *v, unsigned n, const union address *a, uint64_t until) {
  unsigned at = n;
  for (; at > 0 && v[at - 1].until > until; at--) v[at] = v[at - 1];
  v[at] = (struct poor){*a, until};
}

/* Those of one family, or of all others, from the turn's on; good ones into *out, poor ones into *poor. */
static void sort_out(const struct health *h, const union address *v, unsigned n, bool first, uint64_t now,
                     unsigned turn, union address *out, unsigned *nout, struct poor *poor, unsigned *npoor) {
  const union address *kind[RESOLVE_MAX];
  unsigned kinds = 0;
  for (unsigned i = 0; i < n; i++)
    if ((v[i].sa.sa_family == v[0].sa.sa_family) == first) kind[kinds++] = &v[i];
  for (unsigned i = 0; i < kinds; i++) {
    const union address *a = kind[(turn + i) % kinds];
    const struct mark *m = find(h, a);
    if (m != NULL && m->until > now)
      add_poor(poor, (*npoor)++, a, m->until);
    else
      out[(*nout)++] = *a;
  }
}

void health_order(const struct health *h, union address *v, unsigned n, unsigned turn, uint64_t now) {
  assert(n <= RESOLVE_MAX);
  if (n < 2) return;
  union address one[RESOLVE_MAX], other[RESOLVE_MAX];
  struct poor poor[RESOLVE_MAX];
  unsigned n1 = 0, n2 = 0, npoor = 0, at = 0;
  sort_out(h, v, n, true, now, turn, one, &n1, poor, &npoor);
  sort_out(h, v, n, false, now, turn, other, &n2, poor, &npoor);
  for (unsigned i = 0; i < n1 || i < n2; i++) {
    if (i < n1) v[at++] = one[i];
    if (i < n2) v[at++] = other[i];
  }
  for (unsigned i = 0; i < npoor; i++) v[at++] = poor[i].address;
}
