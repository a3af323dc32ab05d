/* addresses.c: see addresses.h.
 *
 * A table with open addressing, linear probing and deletion by moving back, so that no mark of what has gone stays behind. At most half of it is
 * used; it grows and shrinks by two. */
#include "proxy/addresses.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/must.h"

enum { ROOM_MIN = 64 };

struct entry {
  struct address_key key;
  uint32_t count; /* 0: free */
};
struct addresses {
  struct hash_key hash; /* immutable */
  pthread_mutex_t lock; /* guards the rest */
  struct entry *v;
  size_t room /* a power of two */, n;
};

bool address_key(const union address *a, struct address_key *out) {
  const uint64_t v4_mapped = UINT64_C(0xffff) << 32;
  if (a->sa.sa_family == AF_INET) {
    *out = (struct address_key){0, v4_mapped | ntohl(a->in.sin_addr.s_addr)};
    return true;
  }
  if (a->sa.sa_family != AF_INET6) return false;
  const uint8_t *b = a->in6.sin6_addr.s6_addr;
  uint64_t half[2] = {0, 0};
  for (unsigned i = 0; i < 16; i++) half[i / 8] = half[i / 8] << 8 | b[i];
  bool mapped = half[0] == 0 && half[1] >> 32 == 0xffff;
  *out = (struct address_key){half[0], mapped ? half[1] : 0};
  return true;
}

static size_t home(const struct addresses *t, struct address_key k) {
  return (size_t)hash_keyed(&t->hash, (struct str){(const char *)&k, sizeof k}) & (t->room - 1);
}

/* Where the key is, or where it would go. */
static struct entry *find(struct addresses *t, struct address_key k) {
  size_t i = home(t, k);
  while (t->v[i].count > 0 && (t->v[i].key.high != k.high || t->v[i].key.low != k.low)) i = (i + 1) & (t->room - 1);
  return &t->v[i];
}

static void resize(struct addresses *t, size_t room) {
  struct entry *old = t->v;
  size_t n = t->room;
  t->v = must_calloc(room, sizeof *t->v);
  t->room = room;
  for (size_t i = 0; i < n; i++)
    if (old[i].count > 0) *find(t, old[i].key) = old[i];
  free(old);
}

/* Moves back what probing had carried past the gap. */
static void remove_entry(struct addresses *t, struct entry *e) {
  size_t mask = t->room - 1, gap = (size_t)(e - t->v);
  for (size_t i = (gap + 1) & mask; t->v[i].count > 0; i = (i + 1) & mask) {
    size_t wants = home(t, t->v[i].key);
    if (((i - wants) & mask) < ((i - gap) & mask)) continue; /* it would come before its home */
    t->v[gap] = t->v[i];
    gap = i;
  }
  t->v[gap].count = 0;
  t->n--;
  if (t->room > ROOM_MIN && t->n < t->room / 8) resize(t, t->room / 2);
}

bool addresses_enter(struct addresses *t, struct address_key k, uint32_t limit) {
  pthread_mutex_lock(&t->lock);
  struct entry *e = find(t, k);
  bool fits = e->count < limit;
  if (fits && e->count++ == 0) {
    e->key = k;
    if (++t->n > t->room / 2) resize(t, t->room * 2);
  }
  pthread_mutex_unlock(&t->lock);
  return fits;
}

void addresses_leave(struct addresses *t, struct address_key k) {
  pthread_mutex_lock(&t->lock);
  struct entry *e = find(t, k);
  assert(e->count > 0);
  if (e->count > 1)
    e->count--;
  else
    remove_entry(t, e);
  pthread_mutex_unlock(&t->lock);
}

size_t addresses_count(struct addresses *t) {
  pthread_mutex_lock(&t->lock);
  size_t n = t->n;
  pthread_mutex_unlock(&t->lock);
  return n;
}

struct addresses *addresses_new(void) {
  struct addresses *t = must_calloc(1, sizeof *t);
  hash_key_init(&t->hash);
  pthread_mutex_init(&t->lock, NULL);
  resize(t, ROOM_MIN);
  return t;
}

void addresses_free(struct addresses *t) {
  if (t == NULL) return;
  assert(t->n == 0);
  pthread_mutex_destroy(&t->lock);
  free(t->v);
  free(t);
}
