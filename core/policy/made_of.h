/* made_of.h: a digest of what a token's fetch is made of, by which a reload sees that it fetches something else. */
#ifndef JETON_POLICY_MADE_OF_H
#define JETON_POLICY_MADE_OF_H

#include <lua.h>
#include <stdint.h>

#include "policy/policy.h"

/* The digest of the value at idx: text, numbers, booleans, secrets by their source and not their bytes, functions by their source text without comments and
 * blanks, and tables of these. NULL; or what it cannot be made of, and the digest is as it was. p has the sources. May raise out-of-memory. */
const char *made_of_value(const struct policy *p, lua_State *L, int idx, uint64_t digest[2]);

#endif
