/* binding.h: a policy's functions in one VM. Made by running the policy's kept source there. */
#ifndef JETON_POLICY_BINDING_H
#define JETON_POLICY_BINDING_H

#include <stdint.h>

#include "lua/vm.h"
#include "policy/policy.h"
#include "token/token_set.h"

struct binding { /* registry references; LUA_NOREF where the policy has none. Freed with the VM. */
  int hooks[HOOK_COUNT];
  int *fetch;     /* by index in policy->tokens */
  int *reject_on; /* the same: the functions */
  int *release;   /* the same */
  int *tasks;     /* by index in policy->tasks */
  int tokens; /* the `tokens` table given to hooks: token userdata by name (made by lua/l_token.c), set by binding_tokens */
};
/* Runs policy->sources[0] in vm with require served from policy->sources, and takes the references. 0, or an error with *message. */
int binding_init(struct binding *b, struct vm *vm, const struct policy *p, const char **message);
/* Makes the tokens table from the policy's set. 0, or an error. */
int binding_tokens(struct binding *b, struct vm *vm, const struct policy *p, const struct token_set *tokens);
void binding_fini(struct binding *b);

#endif
