/* release.h: a token that has left is given back to its issuer, by the policy's `release`: a lease revoked, a session closed. Keeper's thread. */
#ifndef JETON_OPS_RELEASE_H
#define JETON_OPS_RELEASE_H

#include "ops/keeper_runtime.h"

enum release_reason { RELEASE_UNUSED, RELEASE_REMOVED, RELEASE_STOP };

/* Has r a release function for that slot? */
bool release_is_there(const struct keeper_runtime *r, const struct slot *s);
/* Runs it, within the token's `timeout`, when its turn comes; takes references to slot and token. `ended` is called once, from the loop, unless too many wait for their turn: then
 * nothing is done, and the log says so. The runtime's VM stays until it has ended. */
void release_begin(struct keeper_runtime *r, struct slot *s, struct token *last, enum release_reason reason,
                   void (*ended)(void *arg), void *arg);
void release_end_all(struct keeper_runtime *r); /* at once, with `ended` */

#endif
