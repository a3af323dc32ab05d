/* pins.h: the tokens of a run of Lua that are pinned: all that it computes with them, and all that goes out with that, is of one generation of each.
 *
 * Such a run is a task with pins (task_pin). Whatever makes bytes of a secret for it, does so by pins_expand: then the tokens in it are noted in the context that the
 * request's head is written with, and a token that has moved on since is noticed, there or here. What cannot be had ends the run: pins_failure raises. A script
 * may catch that, so it is `ended` that counts: its owner then does as if the run had never been, waits for what is lacking, and begins anew.
 * Outside of such a run the functions do what they do without pins. The VM's thread. */
#ifndef JETON_LUA_PINS_H
#define JETON_LUA_PINS_H

#include <lua.h>
#include <stdbool.h>

#include "lua/task.h"
#include "token/secret.h"

struct pins {
  struct secret_context *context; /* of the request's head; its `used` are the pins */
  bool must_have;                 /* a token that says missing = "pass" is waited for as well */
  bool ended;                     /* the run has ended, whatever its script makes of it */
  struct slot *lacking; /* a reference: the token that it ended for; NULL: none, only what it had is out of date */
  uint64_t beyond;      /* see slot_waiter */
  enum token_missing missing; /* of that token */
  /* references to the slots that the run noted in context->used, which borrows them: the handle in the script, all that had them, may be collected long before the
   * reply is judged */
  struct slot *held[SECRET_USED_MAX];
  unsigned nheld;
};
/* For a run on its way to context's target, whose `used` begins anew with it. */
void pins_begin(struct pins *p, struct secret_context *context);
void pins_fini(struct pins *p); /* zeroed is fine. What is in context->used may be gone behind it */

/* secret_expand, within the pins of the task that runs: c says how, and its `used` is theirs. Does not raise. */
int pins_expand(lua_State *L, struct secret *s, struct secret_context *c, struct buf *out);
/* Behind a failure of pins_expand, when all is given back that was held: raises when that has ended the run. */
void pins_raise(lua_State *L);
int pins_failure(lua_State *L, int status); /* the same; else pushes nil, message, code */
/* Of a secret that is to go out with the request: are its tokens there? False: one is not, and may be done without. Raises when that ends the run. */
bool pins_check(lua_State *L, struct secret *s);
/* The generation of that slot's token, pinned from now on; 0: nothing is pinned in this run, or there is no valid token. s: the token as a secret. */
uint64_t pins_generation(lua_State *L, struct secret *s, const struct slot *slot);
/* The run has waited: raises when a pinned token has ended meanwhile. */
void pins_waited(lua_State *L);

#endif
