/* alloc.c: see alloc.h.
 *
 * Lua passes the size of a block that it frees, so small blocks carry no header. Large ones say what they are, since Lua tells that only once. A slab is aligned to its size and holds blocks of one class; masking a block's
 * address finds it. Free blocks are kept by their slab, not by the class, so that an empty slab can go back to malloc: a script that filled the cap with blocks
 * of one size and dropped them can then fill it with another. A class keeps its last slab, so that steady work calls no malloc. Tried and dropped: one list a
 * class (fast, but never gives anything back).
 *
 * Lua demands that shrinking succeeds, so neither the cap nor `heavy` can refuse it. Owned by the VM's thread. */
#include "lua/alloc.h"

#include <assert.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/secmem.h"

#if defined(__SANITIZE_ADDRESS__)
#define POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISONS 1
#endif
#endif
#ifdef POISONS
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct block {
  struct block *next;
};
struct slab {
  struct link link; /* in its class's list while it has room */
  struct block *free;
  uint8_t *fresh, *end; /* room that was never handed out */
  uint32_t live;
  uint32_t class;
};
enum { SLAB_HEAD = 64 };
static_assert(sizeof(struct slab) <= SLAB_HEAD, "the head of a slab has room for its fields");

/* --- classes --- */

static unsigned class_of(size_t n) {
  if (n <= ALLOC_SMALL_MAX) return (unsigned)((n - 1) / ALLOC_SMALL_STEP);
  return (unsigned)(ALLOC_SMALL_MAX / ALLOC_SMALL_STEP + (n - ALLOC_SMALL_MAX - 1) / ALLOC_STEP);
}

static size_t class_size(unsigned c) {
  const unsigned small = ALLOC_SMALL_MAX / ALLOC_SMALL_STEP;
  if (c < small) return (size_t)(c + 1) * ALLOC_SMALL_STEP;
  return ALLOC_SMALL_MAX + (size_t)(c - small + 1) * ALLOC_STEP;
}

/* --- slabs --- */

static struct slab *slab_of(void *p) { return (struct slab *)((uintptr_t)p & ~(uintptr_t)(ALLOC_SLAB - 1)); }

static bool slab_has_room(const struct slab *s) { return s->free != NULL || s->fresh < s->end; }

static struct slab *slab_new(struct alloc *a, unsigned c, bool forced) {
  const uint64_t bound = 2 * a->max + (uint64_t)ALLOC_CLASSES * ALLOC_SLAB;
  if (a->max != 0 && !forced && a->reserved + ALLOC_SLAB > bound) return NULL;
  struct slab *s = aligned_alloc(ALLOC_SLAB, ALLOC_SLAB);
  if (s == NULL) return NULL;
  size_t size = class_size(c);
  s->free = NULL;
  s->fresh = (uint8_t *)s + SLAB_HEAD;
  s->end = s->fresh + (ALLOC_SLAB - SLAB_HEAD) / size * size;
  s->live = 0;
  s->class = c;
  list_init(&s->link);
  list_push(&a->partial[c], &s->link);
  a->reserved += ALLOC_SLAB;
  POISON(s->fresh, ALLOC_SLAB - SLAB_HEAD);
  return s;
}

static void slab_free(struct alloc *a, struct slab *s) {
  UNPOISON(s, ALLOC_SLAB);
  list_remove(&s->link);
  a->reserved -= ALLOC_SLAB;
  free(s);
}

static bool only_of_its_class(const struct slab *s) { return s->link.next == s->link.prev; }

static void *small_take(struct alloc *a, size_t n, bool forced) {
  unsigned c = class_of(n);
  struct slab *s;
  if (!list_empty(&a->partial[c])) {
    s = CONTAINER_OF(a->partial[c].next, struct slab, link);
  } else {
    s = slab_new(a, c, forced);
    if (s == NULL) return NULL;
  }
  void *p = s->free;
  if (p != NULL) {
    UNPOISON(p, sizeof(struct block));
    s->free = s->free->next;
  } else {
    p = s->fresh;
    s->fresh += class_size(c);
  }
  POISON(p, sizeof(struct block));
  UNPOISON(p, n);
  s->live++;
  if (!slab_has_room(s)) list_remove(&s->link);
  a->used += class_size(c);
  return p;
}

static void small_give(struct alloc *a, void *p) {
  struct slab *s = slab_of(p);
  size_t size = class_size(s->class);
  struct block *b = p;
  UNPOISON(p, size);
  if (a->wipe) secmem_wipe(p, size);
  if (!slab_has_room(s)) list_push_front(&a->partial[s->class], &s->link);
  b->next = s->free;
  s->free = b;
  POISON(p, size);
  a->used -= size;
  if (--s->live == 0 && !only_of_its_class(s)) slab_free(a, s);
}

/* --- large blocks --- */

struct large { /* in front of the block */
  _Alignas(16) enum alloc_kind kind;
};

static struct large *large_of(void *p) { return (struct large *)p - 1; }

static unsigned level_of(size_t n) { return 63u - (unsigned)__builtin_clzll(n); }

static void note_large(struct alloc *a, enum alloc_kind kind, size_t n) {
  const unsigned level = level_of(n);
  if (a->living[kind][level]++ > 0) return;
  a->levels[kind] |= UINT64_C(1) << level;
  if (a->grown != NULL) a->grown(a->arg);
}

static void forget_large(struct alloc *a, enum alloc_kind kind, size_t n) {
  const unsigned level = level_of(n);
  if (--a->living[kind][level] == 0) a->levels[kind] &= ~(UINT64_C(1) << level);
}

static void *large_take(struct alloc *a, size_t n, enum alloc_kind kind) {
  if (n >> (ALLOC_LEVELS - 1) != 0) return NULL;
  struct large *l = malloc(sizeof *l + n);
  if (l == NULL) return NULL;
  l->kind = kind;
  a->used += n;
  a->reserved += n;
  note_large(a, kind, n);
  return l + 1;
}

static void large_give(struct alloc *a, void *p, size_t n) {
  struct large *l = large_of(p);
  if (a->wipe) secmem_wipe(p, n);
  forget_large(a, l->kind, n);
  a->used -= n;
  a->reserved -= n;
  free(l);
}

/* --- any block --- */

static bool is_large(size_t n) { return n > ALLOC_CLASS_MAX; }

static size_t footprint(size_t n) { return n == 0 ? 0 : is_large(n) ? n : class_size(class_of(n)); }

static void *take(struct alloc *a, size_t n, enum alloc_kind kind, bool forced) {
  return is_large(n) ? large_take(a, n, kind) : small_take(a, n, forced);
}

static void give(struct alloc *a, void *p, size_t n) {
  if (is_large(n))
    large_give(a, p, n);
  else
    small_give(a, p);
}

/* May the block grow from old_size (0: it is new) to new_size? */
static bool may_grow(struct alloc *a, size_t old_size, size_t new_size) {
  size_t have = footprint(old_size), want = footprint(new_size);
  if (a->max != 0 && (want > a->max || a->used - have > a->max - want)) return false;
  if (!is_large(new_size)) return true;
  a->debt += new_size;
  if (a->debt < ALLOC_HEAVY) return true;
  if (a->heavy != NULL && !a->heavy(a->arg, new_size))
    return false; /* the debt stays: the next one is asked for as well */
  a->debt = 0;
  return true;
}

static void *refuse(struct alloc *a, bool fresh) {
  if (a->refused != NULL) a->refused(a->arg, fresh);
  return NULL;
}

static void *resize_large(struct alloc *a, void *p, size_t old_size, size_t new_size) {
  struct large *l = large_of(p), *moved = realloc(l, sizeof *l + new_size);
  if (moved == NULL && new_size > old_size) return refuse(a, false);
  if (moved != NULL) l = moved;
  a->used += new_size - old_size; /* unsigned: also when it shrinks */
  a->reserved += new_size - old_size;
  if (level_of(new_size) != level_of(old_size)) {
    forget_large(a, l->kind, old_size);
    note_large(a, l->kind, new_size);
  }
  return l + 1;
}

static bool same_class(size_t old_size, size_t new_size) {
  return !is_large(old_size) && !is_large(new_size) && class_of(old_size) == class_of(new_size);
}

static void *resize(struct alloc *a, void *p, size_t old_size, size_t new_size) {
  const bool shrinks = new_size < old_size;
  if (same_class(old_size, new_size)) {
    POISON(p, class_size(class_of(old_size)));
    UNPOISON(p, new_size);
    return p;
  }
  if (!shrinks && !may_grow(a, old_size, new_size)) return refuse(a, false);
  if (is_large(old_size) && is_large(new_size) && !a->wipe) return resize_large(a, p, old_size, new_size);
  void *q = take(a, new_size, ALLOC_OTHER, shrinks); /* Lua gives no other size to a string */
  if (q == NULL && shrinks) out_of_memory(new_size); /* the machine has no memory left, not the cap */
  if (q == NULL) return refuse(a, false);
  memcpy(q, p, shrinks ? new_size : old_size);
  give(a, p, old_size);
  return q;
}

void *alloc_lua(void *ud, void *p, size_t old_size, size_t new_size) {
  struct alloc *a = ud;
  if (p == NULL) { /* old_size says what the block will be */
    if (new_size == 0) return NULL;
    enum alloc_kind kind = old_size == LUA_TSTRING ? ALLOC_STRING : ALLOC_OTHER;
    void *q = may_grow(a, 0, new_size) ? take(a, new_size, kind, false) : NULL;
    return q != NULL ? q : refuse(a, true);
  }
  if (new_size != 0) return resize(a, p, old_size, new_size);
  if (old_size != 0) give(a, p, old_size);
  return NULL;
}

void alloc_init(struct alloc *a, uint64_t max, bool wipe) {
  *a = (struct alloc){.max = max, .wipe = wipe};
  for (unsigned c = 0; c < ALLOC_CLASSES; c++) list_init(&a->partial[c]);
}

void alloc_fini(struct alloc *a) {
  assert(a->used == 0);
  for (unsigned c = 0; c < ALLOC_CLASSES; c++)
    while (!list_empty(&a->partial[c])) slab_free(a, CONTAINER_OF(a->partial[c].next, struct slab, link));
  assert(a->reserved == 0);
}
