/* shared.c: a hash table in STRIPES parts, each with a mutex of its own, held for one lookup and the copy of one value.
 *
 * The bound is on the whole store, not on a part, so a value may be as large as the store and a part may be crowded. An insertion puts the entry in and
 * then evicts, from whichever part holds the oldest, until the sum fits: never with two mutexes held. Stamps tell which is oldest: an insertion advances the
 * store's tick, a use takes the tick as it is. Entries used since the last insertion thus count as equally recent between parts, and reading writes nothing
 * that all threads share. Entries are made and freed outside of the locks. A value whose time is over is dropped by the next call that finds it.
 *
 * Invariants: every entry is in one chain and in the part's `used`, which is in order of stamps, oldest first; `oldest` is the stamp of the first one, or
 * NOTHING; `bytes` is the sum of the costs of all entries.
 *
 * On two processors 16 parts and one are alike, at about 250 ns an operation (spec/unit/shared_test.c prints it): the parts are for machines with more,
 * where all workers would wait for the one mutex that each request takes. */
#include "base/shared.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/must.h"

enum {
  STRIPES = 16, /* a power of two */
  STRIPE_BITS = 4,
  CHAINS_MIN = 16,
  BYTES_A_CHAIN = 256,
  ALLOCATION_COST = 32, /* malloc's own, and the share of the table */
  TRIM_SPARE = 64 * 1024
};
#define NOTHING UINT64_MAX

struct entry {
  struct link used;
  struct entry *next; /* of its chain */
  uint64_t hash, stamp;
  int64_t until;
  size_t cost, key_n;
  struct shared_value value; /* a string's bytes are behind the key */
  char bytes[];
};
struct stripe {
  _Alignas(64) pthread_mutex_t mutex; /* guards what follows; `oldest` is read without it */
  struct entry **table;
  size_t nchains; /* a power of two */
  size_t n;
  struct link used;
  atomic_uint_fast64_t oldest;
};
struct shared {
  struct named named;
  struct hash_key hash; /* immutable */
  /* atomic, relaxed: sums and marks that order nothing else */
  atomic_uint_fast64_t max, bytes, evictions, tick, versions;
  atomic_uint_fast64_t version; /* of the settings that are in force; written under `configuring` */
  pthread_mutex_t configuring;  /* one change of the settings at a time; taken before a part's mutex */
  struct stripe stripes[STRIPES];
};

#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define SET(field, v) atomic_store_explicit(&(field), (v), memory_order_relaxed)
#define ADD(field, v) atomic_fetch_add_explicit(&(field), (v), memory_order_relaxed)
#define SUB(field, v) atomic_fetch_sub_explicit(&(field), (v), memory_order_relaxed)

/* --- entries --- */

static struct str key_of(const struct entry *e) { return (struct str){e->bytes, e->key_n}; }

static size_t text_size(const struct shared_value *v) { return v->type == SHARED_STRING ? v->as.string.n : 0; }

static struct entry *new_entry(struct str key, const struct shared_value *v, int64_t until) {
  size_t text = text_size(v), size = sizeof(struct entry) + key.n + text;
  struct entry *e = must_malloc(size);
  list_init(&e->used);
  e->until = until;
  e->cost = size + ALLOCATION_COST;
  e->key_n = key.n;
  e->value = *v;
  memcpy(e->bytes, key.p, key.n);
  if (v->type == SHARED_STRING) {
    if (text > 0) memcpy(e->bytes + key.n, v->as.string.p, text);
    e->value.as.string.p = e->bytes + key.n;
  }
  return e;
}

/* An integer and a float are equal when they are the same number, as in Lua. */
static bool mixed_equal(int64_t i, double d) {
  return d >= -0x1p63 && d < 0x1p63 && (double)(int64_t)d == d && (int64_t)d == i;
}

static bool value_equal(const struct shared_value *a, const struct shared_value *b) {
  if (a->type == SHARED_INTEGER && b->type == SHARED_NUMBER) return mixed_equal(a->as.integer, b->as.number);
  if (a->type == SHARED_NUMBER && b->type == SHARED_INTEGER) return mixed_equal(b->as.integer, a->as.number);
  if (a->type != b->type) return false;
  switch (a->type) {
    case SHARED_BOOLEAN: return a->as.boolean == b->as.boolean;
    case SHARED_INTEGER: return a->as.integer == b->as.integer;
    case SHARED_NUMBER: return a->as.number == b->as.number;
    default: return str_eq(a->as.string, b->as.string);
  }
}

static void add_number(struct shared_value *to, const struct shared_value *v) {
  if (to->type == SHARED_INTEGER && v->type == SHARED_INTEGER) {
    to->as.integer = (int64_t)((uint64_t)to->as.integer + (uint64_t)v->as.integer);
    return;
  }
  double a = to->type == SHARED_INTEGER ? (double)to->as.integer : to->as.number;
  double b = v->type == SHARED_INTEGER ? (double)v->as.integer : v->as.number;
  *to = (struct shared_value){.type = SHARED_NUMBER, .as.number = a + b};
}

/* --- one part, with its mutex held --- */

static struct entry **chain(struct stripe *t, uint64_t h) { return &t->table[(h >> STRIPE_BITS) & (t->nchains - 1)]; }

static void note_oldest(struct stripe *t) {
  SET(t->oldest, list_empty(&t->used) ? NOTHING : CONTAINER_OF(t->used.next, struct entry, used)->stamp);
}

static void take_out(struct shared *s, struct stripe *t, struct entry *e) {
  struct entry **at = chain(t, e->hash);
  while (*at != e) at = &(*at)->next;
  *at = e->next;
  list_remove(&e->used);
  note_oldest(t);
  t->n--;
  SUB(s->bytes, e->cost);
}

static void put_in(struct shared *s, struct stripe *t, struct entry *e, uint64_t h) {
  struct entry **to = chain(t, h);
  e->hash = h;
  e->next = *to;
  *to = e;
  e->stamp = ADD(s->tick, 1) + 1;
  list_push(&t->used, &e->used);
  note_oldest(t);
  t->n++;
  ADD(s->bytes, e->cost);
}

static void use(struct shared *s, struct stripe *t, struct entry *e) {
  uint64_t tick = GET(s->tick);
  if (e->stamp == tick) return;
  e->stamp = tick;
  list_remove(&e->used);
  list_push(&t->used, &e->used);
  note_oldest(t);
}

/* The living entry, or NULL; one that has ended is taken out and is *dead, for the caller to free when the mutex is free. */
static struct entry *find(struct shared *s, struct stripe *t, uint64_t h, struct str key, int64_t now,
                          struct entry **dead) {
  struct entry *e = *chain(t, h);
  while (e != NULL && !(e->hash == h && str_eq(key_of(e), key))) e = e->next;
  if (e == NULL || e->until > now) return e;
  take_out(s, t, e);
  *dead = e;
  return NULL;
}

static struct stripe *lock(struct shared *s, uint64_t h) {
  struct stripe *t = &s->stripes[h & (STRIPES - 1)];
  pthread_mutex_lock(&t->mutex);
  return t;
}

/* --- room --- */

static struct stripe *with_the_oldest(struct shared *s) {
  struct stripe *best = NULL;
  uint64_t least = NOTHING;
  for (unsigned i = 0; i < STRIPES; i++) {
    uint64_t oldest = GET(s->stripes[i].oldest);
    if (oldest < least) best = &s->stripes[i];
    if (oldest < least) least = oldest;
  }
  return best;
}

/* Returns the cost of the entry removed; 0: there was none. */
static size_t evict_one(struct shared *s) {
  struct stripe *t = with_the_oldest(s);
  if (t == NULL) return 0;
  pthread_mutex_lock(&t->mutex);
  struct entry *e = list_empty(&t->used) ? NULL : CONTAINER_OF(t->used.next, struct entry, used);
  if (e != NULL) take_out(s, t, e);
  pthread_mutex_unlock(&t->mutex);
  if (e == NULL) return 0;
  size_t cost = e->cost;
  ADD(s->evictions, 1);
  free(e);
  return cost;
}

/* After a lower max there may be much to evict: a write that added `cost` evicts in proportion, so that none takes long. */
static void trim(struct shared *s, size_t cost) {
  size_t evicted = 0, enough = 2 * cost + TRIM_SPARE;
  while (evicted < enough && GET(s->bytes) > GET(s->max)) {
    size_t one = evict_one(s);
    if (one == 0) return;
    evicted += one;
  }
}

/* --- writing --- */

typedef bool (*condition_fn)(const struct entry *old, const void *arg); /* old: NULL when there is none */

static bool is_absent(const struct entry *old, const void *arg) {
  (void)arg;
  return old == NULL;
}
static bool is_present(const struct entry *old, const void *arg) {
  (void)arg;
  return old != NULL;
}
static bool is_equal(const struct entry *old, const void *arg) {
  const struct shared_value *from = arg;
  return from == NULL ? old == NULL : old != NULL && value_equal(&old->value, from);
}

/* If the condition (NULL: none) holds, e replaces the entry that was there; a NULL e removes it. e is taken over. */
static bool replace(struct shared *s, struct str key, struct entry *e, condition_fn condition, const void *arg,
                    int64_t now) {
  uint64_t h = hash_keyed(&s->hash, key);
  struct entry *dead = NULL;
  size_t cost = e != NULL ? e->cost : 0;
  struct stripe *t = lock(s, h);
  struct entry *old = find(s, t, h, key, now, &dead);
  bool holds = condition == NULL || condition(old, arg);
  if (holds && old != NULL) take_out(s, t, old);
  if (holds && e != NULL) put_in(s, t, e, h);
  pthread_mutex_unlock(&t->mutex);
  free(dead);
  free(holds ? old : e);
  if (holds && e != NULL) trim(s, cost);
  return holds;
}

static enum shared_outcome write_value(struct shared *s, struct str key, const struct shared_value *v, int64_t until,
                                       int64_t now, condition_fn condition, const void *arg) {
  assert(key.n > 0 && key.n <= SHARED_KEY_MAX);
  struct entry *e = new_entry(key, v, until);
  if (e->cost > GET(s->max)) {
    free(e);
    return SHARED_TOO_LARGE;
  }
  return replace(s, key, e, condition, arg, now) ? SHARED_DONE : SHARED_REFUSED;
}

enum shared_outcome shared_set(struct shared *s, struct str key, const struct shared_value *v, int64_t until,
                               int64_t now) {
  return write_value(s, key, v, until, now, NULL, NULL);
}

enum shared_outcome shared_add(struct shared *s, struct str key, const struct shared_value *v, int64_t until,
                               int64_t now) {
  return write_value(s, key, v, until, now, is_absent, NULL);
}

enum shared_outcome shared_cas(struct shared *s, struct str key, const struct shared_value *from,
                               const struct shared_value *to, int64_t until, int64_t now) {
  if (to != NULL) return write_value(s, key, to, until, now, is_equal, from);
  return replace(s, key, NULL, is_equal, from, now) ? SHARED_DONE : SHARED_REFUSED;
}

enum shared_outcome shared_delete(struct shared *s, struct str key, int64_t now) {
  return replace(s, key, NULL, is_present, NULL, now) ? SHARED_DONE : SHARED_REFUSED;
}

static bool is_number(const struct shared_value *v) { return v->type == SHARED_INTEGER || v->type == SHARED_NUMBER; }

/* REFUSED: there is none to add to. */
static enum shared_outcome add_in_place(struct shared *s, struct str key, struct shared_value *v, int64_t now) {
  uint64_t h = hash_keyed(&s->hash, key);
  struct entry *dead = NULL;
  enum shared_outcome outcome = SHARED_REFUSED;
  struct stripe *t = lock(s, h);
  struct entry *e = find(s, t, h, key, now, &dead);
  if (e != NULL) outcome = is_number(&e->value) ? SHARED_DONE : SHARED_NO_NUMBER;
  if (outcome == SHARED_DONE) {
    add_number(&e->value, v);
    *v = e->value;
    use(s, t, e);
  }
  pthread_mutex_unlock(&t->mutex);
  free(dead);
  return outcome;
}

enum shared_outcome shared_incr(struct shared *s, struct str key, struct shared_value *v, int64_t until, int64_t now) {
  for (;;) { /* again only when another thread has put one there, or taken it away, between the two steps */
    enum shared_outcome outcome = add_in_place(s, key, v, now);
    if (outcome != SHARED_REFUSED) return outcome;
    outcome = shared_add(s, key, v, until, now);
    if (outcome != SHARED_REFUSED) return outcome;
  }
}

/* --- reading --- */

bool shared_get(struct shared *s, struct str key, int64_t now, struct shared_value *v, char *room, size_t size) {
  uint64_t h = hash_keyed(&s->hash, key);
  struct entry *dead = NULL;
  struct stripe *t = lock(s, h);
  struct entry *e = find(s, t, h, key, now, &dead);
  if (e != NULL) {
    *v = e->value;
    use(s, t, e);
    size_t n = text_size(v);
    if (n > 0 && n <= size) memcpy(room, v->as.string.p, n);
  }
  pthread_mutex_unlock(&t->mutex);
  free(dead);
  if (e == NULL) return false;
  if (v->type == SHARED_STRING) v->as.string.p = room;
  return true;
}

static unsigned keys_of(struct shared *s, struct stripe *t, int64_t now, unsigned limit,
                        void (*fn)(void *arg, struct str key), void *arg) {
  unsigned found = 0;
  pthread_mutex_lock(&t->mutex);
  for (struct link *l = t->used.prev, *prev; l != &t->used && found < limit; l = prev) {
    prev = l->prev;
    struct entry *e = CONTAINER_OF(l, struct entry, used);
    if (e->until > now) {
      fn(arg, key_of(e));
      found++;
    } else {
      take_out(s, t, e);
      free(e);
    }
  }
  pthread_mutex_unlock(&t->mutex);
  return found;
}

void shared_keys(struct shared *s, int64_t now, unsigned limit, void (*fn)(void *arg, struct str key), void *arg) {
  for (unsigned i = 0; i < STRIPES && limit > 0; i++) limit -= keys_of(s, &s->stripes[i], now, limit, fn, arg);
}

void shared_facts(struct shared *s, struct shared_facts *out) {
  *out = (struct shared_facts){.bytes = GET(s->bytes), .max = GET(s->max), .evictions = GET(s->evictions)};
  for (unsigned i = 0; i < STRIPES; i++) {
    pthread_mutex_lock(&s->stripes[i].mutex);
    out->entries += s->stripes[i].n;
    pthread_mutex_unlock(&s->stripes[i].mutex);
  }
}

/* --- settings --- */

static size_t chains_for(uint64_t max) {
  size_t n = CHAINS_MIN;
  while (n * STRIPES * BYTES_A_CHAIN < max) n *= 2;
  return n;
}

/* Only grows: a table that is too large costs no more than it did when it was full. */
static void make_table(struct stripe *t, size_t nchains) {
  struct entry **table = must_calloc(nchains, sizeof(struct entry *));
  pthread_mutex_lock(&t->mutex);
  struct entry **old = t->table;
  t->table = table;
  t->nchains = nchains;
  for (struct link *l = t->used.next; l != &t->used; l = l->next) {
    struct entry *e = CONTAINER_OF(l, struct entry, used), **to = chain(t, e->hash);
    e->next = *to;
    *to = e;
  }
  pthread_mutex_unlock(&t->mutex);
  free(old);
}

static void set_max(struct shared *s, uint64_t max) {
  assert(max >= SHARED_BYTES_MIN && max <= SHARED_BYTES_MAX);
  size_t nchains = chains_for(max);
  for (unsigned i = 0; i < STRIPES; i++) {
    if (s->stripes[i].nchains < nchains) make_table(&s->stripes[i], nchains);
  }
  SET(s->max, max);
}

uint64_t shared_version(struct shared *s) { return ADD(s->versions, 1) + 1; }

void shared_configure(struct shared *s, uint64_t version, uint64_t max) {
  if (GET(s->version) >= version) return;
  pthread_mutex_lock(&s->configuring);
  if (GET(s->version) < version) {
    if (GET(s->max) != max) set_max(s, max);
    SET(s->version, version);
  }
  pthread_mutex_unlock(&s->configuring);
}

/* --- life --- */

static struct named *make(const void *settings) {
  struct shared *s = aligned_alloc(_Alignof(struct shared), sizeof *s);
  if (s == NULL) out_of_memory(sizeof *s);
  memset(s, 0, sizeof *s);
  hash_key_init(&s->hash);
  pthread_mutex_init(&s->configuring, NULL);
  for (unsigned i = 0; i < STRIPES; i++) {
    pthread_mutex_init(&s->stripes[i].mutex, NULL);
    list_init(&s->stripes[i].used);
    SET(s->stripes[i].oldest, NOTHING);
  }
  set_max(s, *(const uint64_t *)settings);
  return &s->named;
}

struct shared *shared_of(struct named *n) {
  assert(n->kind == &shared_kind);
  return CONTAINER_OF(n, struct shared, named);
}

static void free_store(struct named *n) {
  struct shared *s = shared_of(n);
  for (unsigned i = 0; i < STRIPES; i++) {
    struct stripe *t = &s->stripes[i];
    struct link *l;
    while ((l = list_pop(&t->used)) != NULL) free(CONTAINER_OF(l, struct entry, used));
    pthread_mutex_destroy(&t->mutex);
    free(t->table);
  }
  pthread_mutex_destroy(&s->configuring);
  free(s);
}

const struct named_kind shared_kind = {"jeton.shared", make, free_store};
