/* pool.h: the memory of a worker's exchanges.
 *
 * A script may keep `req` for as long as its VM lives, and a handle looks into the exchange to find out whether it is still the one that it was made for. So
 * an exchange's address is never given back before the worker ends; its pages are: what a burst of requests needed and nobody has
 * needed since is zero pages to the system, and a zero `serial` is no handle's. A page for the fields, a page for the arena's first block, and whoever
 * is idle holds none of them. Owned by the worker's thread. */
#ifndef JETON_PROXY_POOL_H
#define JETON_PROXY_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct exchange_slab;

enum { EXCHANGE_SIZE = 8 * 1024 }; /* an exchange, with the first block of its arena behind it */

/* What an exchange begins with. */
struct exchange_place {
  _Alignas(16) struct link link;
  uint64_t serial; /* scripts' handles hold the value they were made with; 0: the exchange has ended */
};

struct exchange_pool {
  struct link warm;      /* free ones whose pages are there, the one used last first */
  unsigned nwarm, spare; /* spare: the fewest that were warm since the last trim, which nobody needed then */
  struct exchange_place **cold;
  unsigned ncold, cold_cap;
  struct exchange_slab *slabs;
  uint64_t serial; /* the last one given */
};

void exchange_pool_init(struct exchange_pool *p);
void exchange_pool_fini(struct exchange_pool *p); /* no exchange is in use, no VM that may hold a handle lives */
/* All zero, or as exchange_pool_give got it; `serial` is a new one. Never NULL. */
struct exchange_place *exchange_pool_take(struct exchange_pool *p);
void exchange_pool_give(struct exchange_pool *p, struct exchange_place *e);
/* Now and then: gives back the pages of half of those that were spare since the last time. */
void exchange_pool_trim(struct exchange_pool *p);

#endif
