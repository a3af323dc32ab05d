/* arena.c: bump allocation. Blocks after the first grow with what has been used, so that a large message costs few of
 * them; a clean-up's record lies in the arena itself. Owned by the thread of the exchange that it belongs to. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"

enum { BLOCK_MIN = 4096, BLOCK_MAX = 64 * 1024 };

struct arena_block {
  struct arena_block *next;
  size_t size;
};
struct arena_defer {
  struct arena_defer *next;
  void (*fn)(void *);
  void *arg;
};
_Static_assert(sizeof(struct arena_block) <= ARENA_ALIGN, "a block's head must leave the rest aligned");

static void set_room(struct arena *a, uint8_t *p, size_t size) {
  a->p = p;
  a->end = size > 0 ? p + size : p;
}

void arena_init(struct arena *a, void *first, size_t size) {
  *a = (struct arena){.first = first, .first_size = size};
  set_room(a, first, size);
}

static uint8_t *block_add(struct arena *a, size_t n) {
  size_t size = a->used < BLOCK_MIN ? BLOCK_MIN : a->used < BLOCK_MAX ? a->used : BLOCK_MAX;
  if (size < n + ARENA_ALIGN) size = n + ARENA_ALIGN;
  struct arena_block *b = must_malloc(size);
  b->next = a->blocks;
  b->size = size;
  a->blocks = b;
  a->used += size;
  return (uint8_t *)b;
}

void *arena_alloc_block(struct arena *a, size_t n) {
  if (n > SIZE_MAX / 2) out_of_memory(n);
  uint8_t *block = block_add(a, n),
          *p = block + ARENA_ALIGN; /* malloc aligns to 16 on the machines we run on, and the head takes 16 */
  size_t left = a->blocks->size - ARENA_ALIGN - n;
  /* A large piece has a block of its own; going on in whichever has more room wastes less. */
  if (a->p == NULL || left > (size_t)(a->end - a->p)) set_room(a, p + n, left);
  return p;
}

struct str arena_dup(struct arena *a, struct str s) {
  char *p = arena_alloc(a, s.n + 1);
  if (s.n > 0) memcpy(p, s.p, s.n);
  p[s.n] = '\0';
  return (struct str){p, s.n};
}

struct str arena_printf(struct arena *a, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  if (n < 0) abort();
  char *p = arena_alloc(a, (size_t)n + 1);
  vsnprintf(p, (size_t)n + 1, fmt, again);
  va_end(again);
  return (struct str){p, (size_t)n};
}

void arena_defer(struct arena *a, void (*fn)(void *), void *arg) {
  struct arena_defer *d = arena_alloc(a, sizeof *d);
  *d = (struct arena_defer){a->deferred, fn, arg};
  a->deferred = d;
}

void arena_reset(struct arena *a) {
  while (a->deferred != NULL) {
    struct arena_defer *d = a->deferred;
    a->deferred = d->next; /* first, so that a clean-up may itself defer */
    d->fn(d->arg);
  }
  while (a->blocks != NULL) {
    struct arena_block *b = a->blocks;
    a->blocks = b->next;
    free(b);
  }
  a->used = 0;
  set_room(a, a->first, a->first_size);
}
