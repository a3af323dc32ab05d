/* token_set.h: the slots and families of one policy, in the policy's own order: [i] belongs to policy->tokens[i], one of the two is NULL.
 *
 * Made by the keeper as it prepares a policy, copied by every worker. Holds a reference to each; reading one is fine on any thread that owns the set. */
#ifndef JETON_TOKEN_TOKEN_SET_H
#define JETON_TOKEN_TOKEN_SET_H

#include <stddef.h>

#include "base/str.h"
#include "token/family.h"
#include "token/slot.h"

struct token_set { /* zeroed: an empty one */
  struct slot **slots;
  struct token_family **families;
  size_t n;
};
void token_set_init(struct token_set *t, size_t n); /* n places, all NULL */
void token_set_copy(struct token_set *to, const struct token_set *from);
void token_set_fini(struct token_set *t); /* gives the references back; t is empty afterwards */
/* The slot that is shown under this name, "api" or "tenant[acme]": a new reference, or NULL. */
struct slot *token_set_find(const struct token_set *t, struct str name);

#endif
