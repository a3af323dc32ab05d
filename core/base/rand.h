/* rand.h: randomness. Jitter needs no cryptography; ids and jeton.crypto.random do, and use getrandom(2). */
#ifndef JETON_BASE_RAND_H
#define JETON_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

struct rng {
  uint64_t s;
};                                           /* splitmix64: owned by one thread, seedable for tests */
void rng_seed(struct rng *r, uint64_t seed); /* 0: from the system */
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r);                    /* [0, 1) */
uint64_t rng_below(struct rng *r, uint64_t bound); /* [0, bound), unbiased; bound > 0 */
void random_bytes(void *p, size_t n);              /* from the kernel; aborts if it has none to give */

#endif
