/* family.c: a hash table of slots by key, with a list in order of use. One mutex guards both; it is held for a lookup or a walk, never over a fetch.
 *
 * Keys come from requests, so the hash is keyed (SipHash) and the table bounded. A slot with a reference other than the family's and the keeper's is in use and
 * stays: dropping it would end waits, and a second slot for the same key would mean two fetches at a time for one token.
 *
 * Invariants: every entry is in one chain of `table` and in `used`; `used` is in order of last_used, oldest first; each entry holds one
 * reference to its slot; new references to a slot come from family_get or from a holder of one. Lock order: family, slot, mailbox. */
#include "token/family.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/must.h"
#include "base/rand.h"
#include "token/family_internal.h"

struct entry {
  struct link used;
  struct entry *next; /* of its chain */
  uint64_t hash;
  int64_t last_used; /* CLOCK_BOOTTIME ms */
  uint8_t digest[FAMILY_DIGEST];
  struct slot *slot;
};

struct token_family {
  atomic_uint refs;
  char *name;           /* immutable */
  struct hash_key hash; /* immutable */

  pthread_mutex_t mutex; /* guards what follows */
  struct entry **table;
  size_t nchains; /* a power of two */
  struct link used;
  unsigned n, max;
  int64_t idle_ms;
  struct slot_home home;  /* home.inbox NULL: not attached */
  struct token_bond bond; /* of new slots */
  bool bound;
  unsigned traits;
  struct rng seeds;
  bool closed;
};

enum { CHAINS_FIRST = 16, SWEEP_MIN_MS = 1000, LOOKED_AT_MAX = 256 /* slots in use that one request passes over */ };

struct token_family *family_new(struct str name) {
  struct token_family *f = must_calloc(1, sizeof *f);
  atomic_init(&f->refs, 1);
  f->name = must_dup(name);
  rng_seed(&f->seeds, 0);
  hash_key_init(&f->hash);
  pthread_mutex_init(&f->mutex, NULL);
  f->nchains = CHAINS_FIRST;
  f->table = must_calloc(f->nchains, sizeof *f->table);
  list_init(&f->used);
  f->max = 1024;
  f->idle_ms = 10 * 60 * 1000;
  return f;
}

struct token_family *family_ref(struct token_family *f) {
  atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
  return f;
}

static void close_slot(void *arg, struct slot *s) {
  (void)arg;
  slot_close(s, true);
}

void family_unref(struct token_family *f) {
  if (f == NULL || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) > 1) return;
  family_close(f, close_slot, NULL);
  pthread_mutex_destroy(&f->mutex);
  token_bond_fini(&f->bond);
  free(f->table);
  free(f->name);
  free(f);
}

const char *family_name(const struct token_family *f) { return f->name; }

void family_configure(struct token_family *f, unsigned max, int64_t idle_ms) {
  pthread_mutex_lock(&f->mutex);
  f->max = max > 0 ? max : 1;
  f->idle_ms = idle_ms;
  pthread_mutex_unlock(&f->mutex);
}

void family_bind(struct token_family *f, const struct token_bond *bond) {
  pthread_mutex_lock(&f->mutex);
  token_bond_fini(&f->bond);
  token_bond_copy(&f->bond, bond);
  f->bound = true;
  for (struct link *l = f->used.next; l != &f->used; l = l->next)
    slot_bind(CONTAINER_OF(l, struct entry, used)->slot, bond);
  pthread_mutex_unlock(&f->mutex);
}

void family_set_traits(struct token_family *f, unsigned traits) {
  pthread_mutex_lock(&f->mutex);
  f->traits = traits;
  for (struct link *l = f->used.next; l != &f->used; l = l->next)
    slot_set_traits(CONTAINER_OF(l, struct entry, used)->slot, traits);
  pthread_mutex_unlock(&f->mutex);
}

void family_attach(struct token_family *f, const struct slot_home *home) {
  pthread_mutex_lock(&f->mutex);
  bool first = f->home.inbox == NULL;
  f->home = *home;
  for (struct link *l = f->used.next; l != &f->used; l = l->next) {
    struct slot *s = CONTAINER_OF(l, struct entry, used)->slot;
    if (first) slot_attach(s, home);
    slot_configure(s, &home->schedule, home->has_fetch);
  }
  pthread_mutex_unlock(&f->mutex);
}

void family_leave(struct token_family *f) {
  pthread_mutex_lock(&f->mutex);
  f->home.leaving = true;
  for (struct link *l = f->used.next; l != &f->used; l = l->next) slot_leave(CONTAINER_OF(l, struct entry, used)->slot);
  pthread_mutex_unlock(&f->mutex);
}

/* --- the table, with the mutex held --- */

static struct entry **chain(struct token_family *f, uint64_t h) { return &f->table[h & (f->nchains - 1)]; }

/* The digest is one of a hash that nobody can choose collisions of, so that comparing it is comparing the data. */
static struct entry *find(struct token_family *f, uint64_t h, const struct family_place *p) {
  for (struct entry *e = *chain(f, h); e != NULL; e = e->next) {
    if (e->hash == h && str_eq(slot_key(e->slot), p->key) && memcmp(e->digest, p->digest, FAMILY_DIGEST) == 0) return e;
  }
  return NULL;
}

static void grow(struct token_family *f) {
  free(f->table);
  f->nchains *= 2;
  f->table = must_calloc(f->nchains, sizeof *f->table);
  for (struct link *l = f->used.next; l != &f->used; l = l->next) {
    struct entry *e = CONTAINER_OF(l, struct entry, used), **to = chain(f, e->hash);
    e->next = *to;
    *to = e;
  }
}

static struct slot *unlink_entry(struct token_family *f, struct entry *e) {
  struct entry **at = chain(f, e->hash);
  while (*at != e) at = &(*at)->next;
  *at = e->next;
  list_remove(&e->used);
  f->n--;
  struct slot *s = e->slot;
  free(e);
  return s;
}

/* Closed at once, under the mutex: nobody can have got it meanwhile. A mail has the keeper forget it. */
static bool drop_if_unused(struct token_family *f, struct entry *e) {
  if (slot_in_use(e->slot)) return false;
  struct slot *s = unlink_entry(f, e);
  slot_close(s, true);
  slot_unref(s);
  return true;
}

/* A stranger who sends key after key that nobody knows must not cost a walk over all that are in use each time: one that is found in use counts as used now and goes to
 * the end, so the next look begins behind it. */
static bool make_room(struct token_family *f, int64_t now_boot_ms) {
  unsigned looked = 0;
  while (f->n >= f->max && looked++ < LOOKED_AT_MAX && !list_empty(&f->used)) {
    struct entry *e = CONTAINER_OF(f->used.next, struct entry, used);
    if (drop_if_unused(f, e)) continue;
    e->last_used = now_boot_ms;
    list_remove(&e->used);
    list_push(&f->used, &e->used);
  }
  return f->n < f->max;
}

static struct entry *add(struct token_family *f, uint64_t h, const struct family_place *p) {
  if (f->n >= f->nchains) grow(f);
  struct entry *e = must_calloc(1, sizeof *e), **to = chain(f, h);
  e->hash = h;
  e->slot = slot_new_of(str_of(f->name), p->key, p->shown, p->data);
  memcpy(e->digest, p->digest, FAMILY_DIGEST);
  if (f->bound) slot_bind(e->slot, &f->bond);
  slot_set_traits(e->slot, f->traits);
  if (f->home.inbox != NULL) {
    f->home.seed = rng_next(&f->seeds) | 1;
    slot_attach(e->slot, &f->home);
  }
  e->next = *to;
  *to = e;
  list_init(&e->used);
  f->n++;
  return e;
}

/* --- any thread --- */

static uint64_t hash_of(const struct token_family *f, const struct family_place *p) {
  uint64_t of_data;
  memcpy(&of_data, p->digest, sizeof of_data);
  return hash_keyed(&f->hash, p->key) ^ of_data;
}

struct slot *family_place(struct token_family *f, const struct family_place *p, int64_t now_boot_ms) {
  if (p->key.n == 0 || p->key.n > FAMILY_KEY_MAX) return NULL;
  struct slot *s = NULL;
  uint64_t h = hash_of(f, p);
  pthread_mutex_lock(&f->mutex);
  struct entry *e = f->closed ? NULL : find(f, h, p);
  if (e == NULL && !f->closed && make_room(f, now_boot_ms)) e = add(f, h, p);
  if (e != NULL) {
    e->last_used = now_boot_ms;
    list_remove(&e->used);
    list_push(&f->used, &e->used);
    s = slot_ref(e->slot);
  }
  pthread_mutex_unlock(&f->mutex);
  return s;
}

struct slot *family_get(struct token_family *f, struct str key, int64_t now_boot_ms) {
  const struct family_place p = {.key = key, .shown = key};
  return family_place(f, &p, now_boot_ms);
}

void family_mark(const struct token_family *f, struct str text, char out[FAMILY_MARK_SIZE]) {
  (void)snprintf(out, FAMILY_MARK_SIZE, "%08x", (unsigned)(hash_keyed(&f->hash, text) >> 32));
}

unsigned family_size(struct token_family *f) {
  pthread_mutex_lock(&f->mutex);
  unsigned n = f->n;
  pthread_mutex_unlock(&f->mutex);
  return n;
}

unsigned family_max(struct token_family *f) {
  pthread_mutex_lock(&f->mutex);
  unsigned max = f->max;
  pthread_mutex_unlock(&f->mutex);
  return max;
}

void family_each(struct token_family *f, void (*fn)(void *arg, struct slot *s), void *arg) {
  pthread_mutex_lock(&f->mutex);
  unsigned n = 0;
  struct slot **slots = must_calloc(f->n + 1, sizeof *slots);
  for (struct link *l = f->used.next; l != &f->used; l = l->next)
    slots[n++] = slot_ref(CONTAINER_OF(l, struct entry, used)->slot);
  pthread_mutex_unlock(&f->mutex);
  for (unsigned i = 0; i < n; i++) {
    fn(arg, slots[i]);
    slot_unref(slots[i]);
  }
  free(slots);
}

/* --- the keeper's --- */

int64_t family_sweep_ms(struct token_family *f) {
  pthread_mutex_lock(&f->mutex);
  int64_t ms = f->idle_ms / 4;
  pthread_mutex_unlock(&f->mutex);
  return ms > SWEEP_MIN_MS ? ms : SWEEP_MIN_MS;
}

void family_drop_idle(struct token_family *f, int64_t now_boot_ms) {
  pthread_mutex_lock(&f->mutex);
  for (struct link *l = f->used.next, *next; l != &f->used; l = next) {
    next = l->next;
    struct entry *e = CONTAINER_OF(l, struct entry, used);
    if (now_boot_ms - e->last_used < f->idle_ms) break;
    drop_if_unused(f, e);
  }
  pthread_mutex_unlock(&f->mutex);
}

void family_close(struct token_family *f, void (*fn)(void *arg, struct slot *s), void *arg) {
  pthread_mutex_lock(&f->mutex);
  f->closed = true;
  while (!list_empty(&f->used)) {
    struct slot *s = unlink_entry(f, CONTAINER_OF(f->used.next, struct entry, used));
    pthread_mutex_unlock(&f->mutex);
    fn(arg, s);
    slot_unref(s);
    pthread_mutex_lock(&f->mutex);
  }
  pthread_mutex_unlock(&f->mutex);
}
