/* runtime.h: one policy on one worker: its snapshot, its VM with its functions, its upstreams' origins. Refcounted by exchanges: the old one
 * goes when its last exchange ends. Owned by the worker's thread. */
#ifndef JETON_PROXY_RUNTIME_H
#define JETON_PROXY_RUNTIME_H

#include <stdbool.h>

#include "http/origin.h"
#include "lua/vm.h"
#include "policy/binding.h"
#include "policy/policy.h"
#include "token/token_set.h"

struct upstream { /* one of the policy's upstreams here */
  const struct upstream_conf *conf;
  struct origin **origins; /* by index in conf->urls */
  char **hosts;            /* their Host fields */
  unsigned turn;
};
struct runtime {
  unsigned refs;
  struct policy *policy;
  struct vm *vm;
  struct binding binding;
  bool bound;
  struct token_set tokens;    /* references of our own */
  struct upstream *upstreams; /* by index in policy->upstreams */
};

/* `open` adds to the VM what hooks are given, before the policy runs. NULL with a sentence in err. */
struct runtime *runtime_new(struct policy *p, const struct token_set *tokens, struct services *services,
                            lua_CFunction open, char *err, size_t errsize);
struct runtime *runtime_ref(struct runtime *r);
void runtime_unref(struct runtime *r);
/* The upstream of that name, or NULL. */
struct upstream *runtime_upstream(const struct runtime *r, struct str name);
/* The next server of it: round robin over its URLs, those that do not serve passed over while there are others. *url is what the policy says of it, *host what
 * stands in Host. can_move: the request can be sent to another one if this fails. */
struct origin *upstream_next(struct upstream *u, bool can_move, const struct url **url, struct str *host);
/* Another one than `failed`, which serves as far as is known; NULL: there is none. */
struct origin *upstream_other(struct upstream *u, const struct origin *failed, const struct url **url,
                              struct str *host);
/* What the policy says of the token in this slot, families' included. NULL: not one of this policy's. */
const struct token_conf *runtime_token_conf(const struct runtime *r, const struct slot *s);

#endif
