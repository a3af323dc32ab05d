/* secmem.c: an allocator of its own for secrets.
 *
 * Small pieces come from size classes (powers of two) cut out of 64 KiB chunks; freed pieces go to their class's list
 * and chunks are never given back, so what is locked is bounded by the most that was in use at once. Large pieces are mapped one by one.
 * Every page is locked, left out of core dumps and zero in a child. A free piece is all zero but for the pointer to the
 * next one. One mutex guards the lists; it is held for a few stores, or for one mmap. */
#include "base/secmem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/must.h"

enum { CLASS_MIN_BITS = 5, CLASS_MAX_BITS = 14, CLASSES = CLASS_MAX_BITS - CLASS_MIN_BITS + 1, CHUNK = 64 * 1024 };

struct piece {
  struct piece *next;
};

static struct {
  pthread_mutex_t lock;        /* held for a list operation, or while new pages are mapped */
  struct piece *free[CLASSES]; /* guarded by lock */
  void (*on_unlocked)(void);   /* set before there are other threads */
  atomic_flag unlocked;        /* it has been called */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER, .unlocked = ATOMIC_FLAG_INIT};

void secmem_on_unlocked(void (*fn)(void)) { heap.on_unlocked = fn; }

/* It may be called under the lock and must ask for no memory here: it logs. */
static void report_unlocked(void) {
  if (heap.on_unlocked != NULL && !atomic_flag_test_and_set(&heap.unlocked)) heap.on_unlocked();
}

static void *map_pages(size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) out_of_memory(size);
  madvise(p, size, MADV_DONTDUMP);
  madvise(p, size, MADV_WIPEONFORK);
  if (mlock(p, size) != 0) report_unlocked();
  return p;
}

static size_t page_round(size_t n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (n + page - 1) / page * page;
}

static bool is_large(size_t n) { return n > (size_t)1 << CLASS_MAX_BITS; }

static unsigned class_of(size_t n) {
  unsigned c = 0;
  while (((size_t)1 << (CLASS_MIN_BITS + c)) < n) c++;
  return c;
}

/* Cuts a new chunk into pieces of class c. The lock is held. */
static void refill(unsigned c) {
  size_t size = (size_t)1 << (CLASS_MIN_BITS + c);
  char *chunk = map_pages(CHUNK);
  for (size_t at = CHUNK; at > 0; at -= size) {
    struct piece *p = (struct piece *)(void *)(chunk + at - size);
    p->next = heap.free[c];
    heap.free[c] = p;
  }
}

void *secmem_alloc(size_t n) {
  if (n > SIZE_MAX / 2) out_of_memory(n);
  if (is_large(n)) return map_pages(page_round(n));
  unsigned c = class_of(n);
  pthread_mutex_lock(&heap.lock);
  if (heap.free[c] == NULL) refill(c);
  struct piece *p = heap.free[c];
  heap.free[c] = p->next;
  pthread_mutex_unlock(&heap.lock);
  p->next = NULL;
  return p;
}

void secmem_free(const void *held, size_t n) {
  void *p = (void *)(uintptr_t)held;
  if (p == NULL) return;
  secmem_wipe(p, n);
  if (is_large(n)) {
    munmap(p, page_round(n));
    return;
  }
  unsigned c = class_of(n);
  struct piece *piece = p;
  pthread_mutex_lock(&heap.lock);
  piece->next = heap.free[c];
  heap.free[c] = piece;
  pthread_mutex_unlock(&heap.lock);
}

void secmem_wipe(void *p, size_t n) {
  if (n > 0) explicit_bzero(p, n);
}
