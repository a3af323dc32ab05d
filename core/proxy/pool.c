/* pool.c: see pool.h. Slabs of exchanges are mapped and never unmapped before the end; MADV_DONTNEED makes pages zero again. */
#include "proxy/pool.h"
#include "base/must.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SLAB_EXCHANGES = 64, KEPT = 8 /* warm ones that a worker at rest keeps */ };
_Static_assert(EXCHANGE_SIZE % 4096 == 0, "an exchange shares no page");

struct exchange_slab {
  struct exchange_slab *next;
  void *memory;
};

void exchange_pool_init(struct exchange_pool *p) {
  *p = (struct exchange_pool){.nwarm = 0};
  list_init(&p->warm);
}

void exchange_pool_fini(struct exchange_pool *p) {
  while (p->slabs != NULL) {
    struct exchange_slab *s = p->slabs;
    p->slabs = s->next;
    munmap(s->memory, (size_t)SLAB_EXCHANGES * EXCHANGE_SIZE);
    free(s);
  }
  free(p->cold);
}

static void cold_push(struct exchange_pool *p, struct exchange_place *e) {
  if (p->ncold == p->cold_cap) {
    p->cold_cap += SLAB_EXCHANGES;
    p->cold = must_realloc(p->cold, p->cold_cap * sizeof *p->cold);
  }
  p->cold[p->ncold++] = e;
}

static void slab_add(struct exchange_pool *p) {
  struct exchange_slab *s = must_malloc(sizeof *s);
  s->memory =
      mmap(NULL, (size_t)SLAB_EXCHANGES * EXCHANGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s->memory == MAP_FAILED) out_of_memory((size_t)SLAB_EXCHANGES * EXCHANGE_SIZE);
  s->next = p->slabs;
  p->slabs = s;
  for (unsigned i = SLAB_EXCHANGES; i-- > 0;)
    cold_push(p, (struct exchange_place *)(void *)((char *)s->memory + (size_t)i * EXCHANGE_SIZE));
}

struct exchange_place *exchange_pool_take(struct exchange_pool *p) {
  struct link *l = list_pop(&p->warm);
  struct exchange_place *e;
  if (l != NULL) {
    e = CONTAINER_OF(l, struct exchange_place, link);
    if (--p->nwarm < p->spare) p->spare = p->nwarm;
  } else {
    if (p->ncold == 0) slab_add(p);
    e = p->cold[--p->ncold];
  }
  assert(e->serial == 0);
  e->serial = ++p->serial;
  return e;
}

void exchange_pool_give(struct exchange_pool *p, struct exchange_place *e) {
  e->serial = 0;
  list_push_front(&p->warm, &e->link);
  p->nwarm++;
}

void exchange_pool_trim(struct exchange_pool *p) {
  for (unsigned n = p->spare > KEPT ? (p->spare - KEPT + 1) / 2 : 0; n > 0; n--) {
    struct exchange_place *e = CONTAINER_OF(p->warm.prev, struct exchange_place, link);
    list_remove(&e->link);
    p->nwarm--;
    (void)madvise(e, EXCHANGE_SIZE, MADV_DONTNEED);
    cold_push(p, e);
  }
  p->spare = p->nwarm;
}
