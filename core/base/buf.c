/* buf.c: see buf.h. Capacity doubles; what is in it is bounded by its owner, so memory that runs out ends the process (must.h).
 *
 * A sensitive buffer never uses realloc, which would leave a copy behind. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/secmem.h"

enum { BUF_MIN = 256 };

void buf_init(struct buf *b) { *b = (struct buf){0}; }

static void release(struct buf *b) {
  if (b->secret) {
    secmem_free_passing(b->p, b->cap);
  } else {
    if (b->sensitive) secmem_wipe(b->p, b->cap);
    free(b->p);
  }
}

void buf_fini(struct buf *b) {
  bool sensitive = b->sensitive;
  release(b);
  *b = (struct buf){.sensitive = sensitive};
}

void buf_reset(struct buf *b) {
  if (b->sensitive) secmem_wipe(b->p, b->n);
  b->n = 0;
}

static void grow_secret(struct buf *b, size_t cap) {
  uint8_t *p = secmem_alloc_passing(cap);
  if (b->n > 0) memcpy(p, b->p, b->n);
  release(b);
  b->p = p;
  b->cap = cap;
  b->secret = true;
}

uint8_t *buf_grow(struct buf *b, size_t extra) {
  if (extra > SIZE_MAX / 4 || b->n > SIZE_MAX / 4) out_of_memory(extra);
  size_t cap = b->cap > 0 ? b->cap * 2 : BUF_MIN;
  if (cap < b->n + extra) cap = b->n + extra;
  if (b->sensitive || b->secret) {
    grow_secret(b, cap);
  } else {
    b->p = must_realloc(b->p, cap);
    b->cap = cap;
  }
  return b->p + b->n;
}

void buf_add(struct buf *b, const void *p, size_t n) {
  if (n == 0) return;
  memcpy(buf_reserve(b, n), p, n);
  b->n += n;
}

void buf_adds(struct buf *b, struct str s) { buf_add(b, s.p, s.n); }
void buf_addz(struct buf *b, const char *z) { buf_add(b, z, strlen(z)); }

void buf_addf(struct buf *b, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  size_t room = b->cap - b->n;
  int n = vsnprintf(b->p != NULL ? (char *)b->p + b->n : NULL, room, fmt, args);
  va_end(args);
  if (n < 0) abort();
  if ((size_t)n >= room) vsnprintf((char *)buf_reserve(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
  va_end(again);
  b->n += (size_t)n;
}

void buf_drop(struct buf *b, size_t n) {
  if (n == 0) return;
  memmove(b->p, b->p + n, b->n - n);
  b->n -= n;
  if (b->sensitive) secmem_wipe(b->p + b->n, n);
}

struct str buf_str(const struct buf *b) {
  return (struct str){(const char *)b->p, b->n};
}

const char *buf_z(struct buf *b) {
  *buf_reserve(b, 1) = '\0';
  return (const char *)b->p;
}
