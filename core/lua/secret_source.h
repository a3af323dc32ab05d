/* secret_source.h: where the bytes of jeton.secret.file, .env and .exec come from, and when they are read again. */
#ifndef JETON_LUA_SECRET_SOURCE_H
#define JETON_LUA_SECRET_SOURCE_H

#include <lua.h>
#include <stdbool.h>

#include "base/list.h"

/* jeton.secret.file(path), .env(name), .exec{ argv…, ttl =, timeout = }: each pushes a secret. */
int secret_source_file(lua_State *L);
int secret_source_env(lua_State *L);
int secret_source_exec(lua_State *L);

/* Commands start when they are named and cannot be awaited at the top of a policy: whoever needs their first outcome waits here. */
struct secret_gate_waiter {
  struct link link;
  void (*open)(struct secret_gate_waiter *w); /* called once, from the loop */
};
/* False: no command of this VM is waiting for its first outcome. */
bool secret_gate_wait(lua_State *L, struct secret_gate_waiter *w);
void secret_gate_leave(struct secret_gate_waiter *w); /* fine when it has been opened; not for one that never waited */

#endif
