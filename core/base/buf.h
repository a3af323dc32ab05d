/* buf.h: a growable byte buffer on the heap, bounded by its owner. */
#ifndef JETON_BASE_BUF_H
#define JETON_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct buf {
  uint8_t *p;
  size_t n, cap;
  bool
      sensitive; /* set by the owner, best before the first byte: wiped whenever its memory is given back or moved, and what it
                   * allocates from then on is secret memory (base/secmem.h) */
  bool secret; /* p is secret memory: buf's own note of how to free it */
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);
void buf_reset(struct buf *b); /* n = 0, keeps memory (wipes it when sensitive) */
uint8_t *buf_grow(struct buf *b, size_t extra);
static inline uint8_t *buf_reserve(struct buf *b, size_t extra) { /* room for `extra` behind n; never NULL */
  return b->p != NULL && extra <= b->cap - b->n ? b->p + b->n : buf_grow(b, extra);
}
void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, struct str s);
void buf_addz(struct buf *b, const char *z);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_drop(struct buf *b, size_t n); /* drops n bytes from the front */
struct str buf_str(const struct buf *b);
const char *buf_z(struct buf *b); /* NUL-terminates behind n */

#endif
