/* secret_source.h: for a call of the library that needs a secret of jeton.secret.exec before its command has run. jeton.secret itself is in lib.h. */
#ifndef JETON_LUA_SECRET_SOURCE_H
#define JETON_LUA_SECRET_SOURCE_H

#include <lua.h>
#include <stdbool.h>

#include "base/list.h"

/* Commands start when they are named and cannot be awaited at the top of a policy: a call that needs their first outcome waits here. */
struct secret_gate_waiter {
  struct link link;
  void (*open)(struct secret_gate_waiter *w); /* called once, from the loop */
};
/* False: no command of this VM is waiting for its first outcome. */
bool secret_gate_wait(lua_State *L, struct secret_gate_waiter *w);
void secret_gate_leave(struct secret_gate_waiter *w); /* fine when it has been opened; not for one that never waited */

#endif
