/* compute.h: functions that compute with strings and with opaque secrets alike (hashes, signatures, encodings): of secrets they make secrets, which keep what
 * binds the ones that went in (secret_computed).
 *
 *   check every argument (compute_operand)        may raise; owns nothing
 *   compute_begin                                 bytes of all of them, or a code
 *   the work, into memory that is wiped           raises nothing
 *   compute_push, or compute_fail                 gives everything back, and pushes
 *
 * The VM's thread. */
#ifndef JETON_LUA_COMPUTE_H
#define JETON_LUA_COMPUTE_H

#include <lua.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"
#include "token/secret.h"

struct operand {
  struct secret *secret; /* borrowed from its userdata; NULL: a string */
  struct str bytes;      /* of a string from the start, of a secret from compute_begin to the end */
  struct buf expanded;
};
enum { COMPUTE_OPERANDS = 3 };
struct compute {    /* zeroed */
  const char *what; /* "hmac", for tostring */
  unsigned n;
  struct operand v[COMPUTE_OPERANDS];
  struct secret_taint from;
};
/* The string or secret at idx becomes the next operand. Raises when it is neither. */
struct operand *compute_operand(lua_State *L, int idx, struct compute *c);
/* Raises for a secret: "expected a string". */
struct operand *compute_text(lua_State *L, int idx, struct compute *c);
static inline bool compute_is_opaque(const struct compute *c) {
  for (unsigned i = 0; i < c->n; i++)
    if (c->v[i].secret != NULL) return true;
  return false;
}
/* Bytes of them all, each token in one generation, which is the pinned one where the run's tokens are (pins.h). 0; or secret_expand's error. Afterwards compute_push,
 * compute_fail or compute_end. Does not raise. */
int compute_begin(lua_State *L, struct compute *c);
void compute_end(struct compute *c);
/* The secret of these bytes, bound as the operands are: a new reference, NULL: too long. Does not raise. */
struct secret *compute_secret(lua_State *L, struct compute *c, const void *bytes, size_t n);
/* Ends it and pushes the bytes, which are wiped: as a secret, bound as the operands are; or as a string, when none of them is one. Returns 1. */
int compute_push(lua_State *L, struct compute *c, void *bytes, size_t n);
/* Ends it and pushes nil, message, code; raises where that ends a run whose tokens are pinned. */
int compute_fail(lua_State *L, struct compute *c, int code);

#endif
