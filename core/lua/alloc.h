/* alloc.h: the memory of one VM: size classes for small blocks, malloc for large ones, and a cap over both.
 *
 * Owned by the VM's thread. A refused allocation is Lua's "not enough memory", after the collector had its turn. */
#ifndef JETON_LUA_ALLOC_H
#define JETON_LUA_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

enum {
  ALLOC_SMALL_STEP = 16,
  ALLOC_SMALL_MAX = 512,
  ALLOC_STEP = 256,
  ALLOC_CLASS_MAX = 4096, /* larger blocks are malloc's */
  ALLOC_CLASSES = ALLOC_SMALL_MAX / ALLOC_SMALL_STEP + (ALLOC_CLASS_MAX - ALLOC_SMALL_MAX) / ALLOC_STEP,
  ALLOC_SLAB = 64 * 1024,
  ALLOC_HEAVY = 4 * 1024 * 1024, /* bytes of large blocks after which `heavy` is asked */
  ALLOC_LEVELS = 48              /* of sizes, a power of two each */
};
/* What a large block holds: one instruction may compare the contents of two strings, byte by byte; or go over the empty places of a table, or copy a stack. */
enum alloc_kind { ALLOC_STRING, ALLOC_OTHER, ALLOC_KINDS };

struct alloc {
  uint64_t max;      /* bytes in use; 0: no cap */
  uint64_t used;     /* bytes handed out, rounded up to their class */
  uint64_t reserved; /* slabs and large blocks, the cost to the process; at most twice `max` and a slab a class */
  uint64_t debt;     /* bytes of large blocks since `heavy` was asked last */
  bool wipe;         /* freed memory is zeroed */
  struct link partial[ALLOC_CLASSES]; /* slabs with room; a full slab is in no list */
  /* Large blocks that live: how many are of at least 2^level bytes and less than twice that, and which of these numbers are not 0. */
  uint32_t living[ALLOC_KINDS][ALLOC_LEVELS];
  uint64_t levels[ALLOC_KINDS];

  /* Called, when not NULL, every ALLOC_HEAVY bytes, with the size of the last block: copying and clearing of large blocks is time that no instruction counts.
   * False: refuse. */
  bool (*heavy)(void *arg, size_t size);
  /* Called, when not NULL, when a block is the first one of its level. */
  void (*grown)(void *arg);
  /* Called, when not NULL, for a refusal. fresh: a new block, so that the stack of calls is in order and may be read. */
  void (*refused)(void *arg, bool fresh);
  void *arg;
};

void alloc_init(struct alloc *a, uint64_t max, bool wipe);
void alloc_fini(struct alloc *a); /* everything has been freed */
/* The level of the largest block of that kind; 0: there is no large one. */
static inline unsigned alloc_level(const struct alloc *a, enum alloc_kind kind) {
  return a->levels[kind] == 0 ? 0 : 63u - (unsigned)__builtin_clzll(a->levels[kind]);
}
/* A lua_Alloc; ud is the struct alloc. */
void *alloc_lua(void *ud, void *p, size_t old_size, size_t new_size);

#endif
