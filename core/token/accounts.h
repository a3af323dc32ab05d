/* accounts.h: whose refusals of a token cause no fetch for a while.
 *
 * An upstream refuses a generation; a fresh one is fetched, and the same request is refused with that, too. Then it is not the token: this path is not for this
 * client, or not for this token. To note that of the token would poison it for all others, whose refusals may be a revocation. So it is charged to an account of path
 * and client: 1 s, doubled with each further generation, to a minute; forgotten a minute behind that. A good answer to the same account shows that it may
 * be the token after all: then it is damped for SLOT_DAMP_PROVEN_MS at the most.
 *
 * At most ACCOUNTS_MAX of them: the one that ends first makes room, so that an attacker with many paths costs memory that is bounded, and it is the slot that bounds
 * the fetches (slot_publish.c). Keys lie together: a look is a walk over a few cache lines. Embedded in the slot, guarded by its mutex. */
#ifndef JETON_TOKEN_ACCOUNTS_H
#define JETON_TOKEN_ACCOUNTS_H

#include <stdbool.h>
#include <stdint.h>

enum { ACCOUNTS_MAX = 1024, DAMP_MIN_MS = 1000, DAMP_PROVEN_MS = 4000, DAMP_MAX_MS = 60 * 1000 };

/* How long the level-th refusal in a row damps, from 1. */
int64_t damp_ms(unsigned level);

struct damping {
  uint64_t generation; /* the last one whose replay was refused */
  int64_t at, until;   /* CLOCK_BOOTTIME ms */
  unsigned level;
  bool proven;
};
struct accounts { /* zeroed: none */
  uint64_t *keys;
  struct damping *v;
  unsigned n, cap;
};
void accounts_fini(struct accounts *a);
bool accounts_damped(const struct accounts *a, uint64_t key, int64_t now);
/* A replay with that generation was refused. Returns for how long the account is damped; 0: that is known of this generation. */
int64_t accounts_charge(struct accounts *a, uint64_t key, uint64_t generation, int64_t now);
void accounts_accept(struct accounts *a, uint64_t key, uint64_t generation);
/* 1 << key % 64 of each that is damped, and not proven: whose good answers are news. */
uint64_t accounts_unproven(const struct accounts *a, int64_t now);

#endif
