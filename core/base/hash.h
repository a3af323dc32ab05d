/* hash.h: hashes of bytes, for tables. Pure; any thread. */
#ifndef JETON_BASE_HASH_H
#define JETON_BASE_HASH_H

#include <stdint.h>

#include "base/str.h"

/* Keys that a peer or a request chooses: SipHash-1-3 under a random key. It is made to be a pseudorandom function: without the key an attacker cannot find
 * texts that meet in one chain, not even by watching how long lookups take. The key is made once, with the table, and never shown. */
struct hash_key {
  uint64_t half[2];
};
void hash_key_init(struct hash_key *k); /* from the kernel's random bytes */
uint64_t hash_keyed(const struct hash_key *k, struct str s);

/* Keys that no attacker chooses: FNV-1a, going on from `start`. Anybody can make texts that collide under it. */
enum { HASH_START = 1 };
uint64_t hash_plain(uint64_t start, struct str s);

/* SipHash with other numbers of rounds, for each word and at the end: 2 and 4 are those whose results are published. */
uint64_t siphash(const struct hash_key *k, struct str s, unsigned word_rounds, unsigned end_rounds);

#endif
