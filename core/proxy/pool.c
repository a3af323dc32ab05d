/* pool.c: see pool.h. Slabs of exchanges are mapped and never unmapped before the end; MADV_DONTNEED makes pages zero again. */
#include "proxy/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "proxy/exchange.h"

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
  struct link *l;
  while ((l = list_pop(&p->warm)) != NULL) buf_fini(&CONTAINER_OF(l, struct exchange, link)->head);
  while (p->slabs != NULL) {
    struct exchange_slab *s = p->slabs;
    p->slabs = s->next;
    munmap(s->memory, (size_t)SLAB_EXCHANGES * EXCHANGE_SIZE);
    free(s);
  }
  free(p->cold);
}

static void cold_push(struct exchange_pool *p, struct exchange *ex) {
  if (p->ncold == p->cold_cap) {
    p->cold_cap += SLAB_EXCHANGES;
    p->cold = realloc(p->cold, p->cold_cap * sizeof *p->cold);
    if (p->cold == NULL) abort();
  }
  p->cold[p->ncold++] = ex;
}

static void slab_add(struct exchange_pool *p) {
  struct exchange_slab *s = malloc(sizeof *s);
  if (s == NULL) abort();
  s->memory =
      mmap(NULL, (size_t)SLAB_EXCHANGES * EXCHANGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s->memory == MAP_FAILED) abort();
  s->next = p->slabs;
  p->slabs = s;
  for (unsigned i = SLAB_EXCHANGES; i-- > 0;)
    cold_push(p, (struct exchange *)(void *)((char *)s->memory + (size_t)i * EXCHANGE_SIZE));
}

struct exchange *exchange_pool_take(struct exchange_pool *p) {
  struct link *l = list_pop(&p->warm);
  struct exchange *ex;
  if (l != NULL) {
    ex = CONTAINER_OF(l, struct exchange, link);
    if (--p->nwarm < p->spare) p->spare = p->nwarm;
  } else {
    if (p->ncold == 0) slab_add(p);
    ex = p->cold[--p->ncold];
  }
  assert(ex->serial == 0);
  ex->serial = ++p->serial;
  return ex;
}

void exchange_pool_give(struct exchange_pool *p, struct exchange *ex) {
  ex->serial = 0;
  list_push_front(&p->warm, &ex->link);
  p->nwarm++;
}

void exchange_pool_trim(struct exchange_pool *p) {
  for (unsigned n = p->spare > KEPT ? (p->spare - KEPT + 1) / 2 : 0; n > 0; n--) {
    struct exchange *ex = CONTAINER_OF(p->warm.prev, struct exchange, link);
    list_remove(&ex->link);
    p->nwarm--;
    buf_fini(&ex->head);
    (void)madvise(ex, EXCHANGE_SIZE, MADV_DONTNEED);
    cold_push(p, ex);
  }
  p->spare = p->nwarm;
}
