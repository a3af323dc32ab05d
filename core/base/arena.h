/* arena.h: memory that lives exactly as long as one exchange.
 *
 * Bump allocation from a first block that the owner supplies (no malloc in the steady state) and then from malloc'd
 * blocks. arena_defer attaches a clean-up to the arena's end; clean-ups run last in, first out. Owned by one thread. */
#ifndef JETON_BASE_ARENA_H
#define JETON_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct arena_block;
struct arena_defer;
struct arena {
  uint8_t *p, *end; /* free room of the current block */
  uint8_t *first;   /* the owner's block */
  size_t first_size;
  struct arena_block *blocks; /* malloc'd ones, newest first */
  struct arena_defer *deferred;
  size_t used; /* bytes in malloc'd blocks, for bounding */
};

void arena_init(struct arena *a, void *first, size_t size);
/* 16-byte aligned, never NULL (aborts when the machine is out of memory). In line: nearly always a few instructions. */
enum { ARENA_ALIGN = 16 };
void *arena_alloc_block(struct arena *a, size_t n); /* arena_alloc's own, for pieces that do not fit */
static inline void *arena_alloc(struct arena *a, size_t n) {
  size_t pad = -(uintptr_t)a->p & (ARENA_ALIGN - 1), left = (size_t)(a->end - a->p);
  if (left < pad || left - pad < n || a->p == NULL) return arena_alloc_block(a, n);
  uint8_t *p = a->p + pad;
  a->p = p + n;
  return p;
}
struct str arena_dup(struct arena *a, struct str s); /* a copy with a NUL behind it that does not count */
struct str arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_defer(struct arena *a, void (*fn)(void *), void *arg);
void arena_reset(struct arena *a); /* runs the deferred, frees the blocks; ready for use again */

#endif
