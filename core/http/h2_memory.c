/* h2_memory.c: see h2_memory.h. The library frees without saying how much: each piece has its size in front of it. */
#include "http/h2_memory.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/secmem.h"

union piece {
  size_t size;     /* with this */
  max_align_t pad; /* what follows is aligned as malloc's */
};

static union piece *piece_of(void *p) { return (union piece *)p - 1; }

static void *take(size_t n, void *arg) { /* never NULL: who is out of memory ends (must.h) */
  (void)arg;
  size_t size = n + sizeof(union piece);
  union piece *piece = secmem_alloc_passing(size);
  piece->size = size;
  return piece + 1;
}

static void *take_zeroed(size_t n, size_t each, void *arg) { return take(n * each, arg); } /* as all of it is */

static void give(void *p, void *arg) {
  (void)arg;
  if (p != NULL) secmem_free_passing(piece_of(p), piece_of(p)->size);
}

static void *retake(void *p, size_t n, void *arg) {
  if (p == NULL) return take(n, arg);
  size_t had = piece_of(p)->size - sizeof(union piece);
  void *to = take(n, arg);
  memcpy(to, p, had < n ? had : n);
  give(p, arg);
  return to;
}

const nghttp2_mem *h2_memory(void) {
  static const nghttp2_mem mem = {.malloc = take, .free = give, .calloc = take_zeroed, .realloc = retake};
  return &mem;
}
