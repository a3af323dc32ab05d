/* rand.c: splitmix64 (Steele, Lea, Flood 2014) for jitter, getrandom(2) for all else. */
#include "base/rand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void rng_seed(struct rng *r, uint64_t seed) {
  r->s = seed;
  if (seed == 0) random_bytes(&r->s, sizeof r->s);
}

uint64_t rng_next(struct rng *r) {
  uint64_t z = r->s += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

double rng_unit(struct rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

uint64_t rng_below(struct rng *r, uint64_t bound) {
  uint64_t skewed = -bound % bound; /* 2^64 mod bound: that many of the lowest values would come up too often */
  uint64_t v;
  do v = rng_next(r);
  while (v < skewed);
  return v % bound;
}

void random_bytes(void *p, size_t n) {
  uint8_t *at = p;
  while (n > 0) {
    ssize_t got = getrandom(at, n, 0);
    if (got < 0 && errno != EINTR) abort();
    if (got <= 0) continue;
    at += got;
    n -= (size_t)got;
  }
}
