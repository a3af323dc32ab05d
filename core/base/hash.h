/* hash.h: a seeded hash of bytes, for tables whose keys come from requests: who does not know the seed cannot fill one chain on purpose. */
#ifndef JETON_BASE_HASH_H
#define JETON_BASE_HASH_H

#include <stdint.h>

#include "base/str.h"

/* FNV-1a over a secret start, then a finaliser: all bits depend on the seed and on every byte. */
static inline uint64_t hash_bytes(uint64_t seed, struct str key) {
  uint64_t h = seed;
  for (size_t i = 0; i < key.n; i++) h = (h ^ (unsigned char)key.p[i]) * 0x100000001b3u;
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93u;
  return h ^ (h >> 32);
}

#endif
