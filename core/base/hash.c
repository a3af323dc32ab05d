/* hash.c: SipHash (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) and FNV-1a.
 *
 * 1-3 in place of the paper's 2-4: the authors name it for hash tables, where nobody sees the hashes, and Rust and Python use it for
 * theirs. A seeded FNV-1a was here before: a few instructions less for a short key, but there is no claim that colliding texts cannot be found without its
 * seed. */
#include "base/hash.h"

#include "base/rand.h"

void hash_key_init(struct hash_key *k) { random_bytes(k, sizeof *k); }

static inline uint64_t rotate(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

struct sip {
  uint64_t v0, v1, v2, v3;
};

static inline void rounds(struct sip *s, unsigned n) {
  while (n-- > 0) {
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
  }
}

/* Up to eight bytes, the first one lowest, whatever the machine's order. */
static inline uint64_t word_at(const char *p, size_t n) {
  uint64_t word = 0;
  for (size_t i = 0; i < n; i++) word |= (uint64_t)(unsigned char)p[i] << (8 * i);
  return word;
}

static inline void take(struct sip *s, uint64_t word, unsigned n) {
  s->v3 ^= word;
  rounds(s, n);
  s->v0 ^= word;
}

static inline uint64_t sip(const struct hash_key *k, struct str s, unsigned word_rounds, unsigned end_rounds) {
  struct sip h = {
      k->half[0] ^ UINT64_C(0x736f6d6570736575), /* "somepseudorandomlygeneratedbytes" */
      k->half[1] ^ UINT64_C(0x646f72616e646f6d),
      k->half[0] ^ UINT64_C(0x6c7967656e657261),
      k->half[1] ^ UINT64_C(0x7465646279746573),
  };
  size_t at = 0;
  for (; s.n - at >= 8; at += 8) take(&h, word_at(s.p + at, 8), word_rounds);
  take(&h, (uint64_t)s.n << 56 | word_at(s.p + at, s.n - at), word_rounds);
  h.v2 ^= 0xff;
  rounds(&h, end_rounds);
  return h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
}

uint64_t hash_keyed(const struct hash_key *k, struct str s) { return sip(k, s, 1, 3); }

uint64_t siphash(const struct hash_key *k, struct str s, unsigned word_rounds, unsigned end_rounds) {
  return sip(k, s, word_rounds, end_rounds);
}

uint64_t hash_plain(uint64_t start, struct str s) {
  uint64_t h = start;
  for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
  return h ^ h >> 32;
}
