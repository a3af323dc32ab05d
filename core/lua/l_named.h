/* l_named.h: how scripts hold named objects of the process (base/named.h): jeton.shared(name, …).
 *
 * The policy's file names them at its top. There the VM makes one handle a name, which holds the object until the VM closes; later calls give the same
 * handle. So what lives is what the policy's text says, whatever hooks do. */
#ifndef JETON_LUA_L_NAMED_H
#define JETON_LUA_L_NAMED_H

#include <lauxlib.h>
#include <lua.h>
#include <stddef.h>

#include "base/named.h"

struct l_named { /* first member of every handle */
  struct named *object;
};
struct l_named_type {
  const struct named_kind *kind;
  const char *metatable; /* "jeton.shared" */
  const char *shown;     /* "shared": tostring gives shared<name> */
  size_t size;           /* of a handle */
  unsigned most;         /* names of a policy: each costs memory outside of the VM */
  const luaL_Reg *methods;
};

/* The name, argument 1 of `what` ("jeton.shared"): raises when it is none. */
struct str l_named_name(lua_State *L, const char *what);
/* Pushes this VM's handle of that name and returns it; NULL, and nothing pushed: the file has not named it. */
void *l_named_find(lua_State *L, const struct l_named_type *t, struct str name);
/* Pushes a new handle, kept by the VM, of the object there is or of a new one with `settings`. Zeroed behind its first member. Raises when the file does not
 * run any more, and then says which name may have been meant. */
void *l_named_new(lua_State *L, const struct l_named_type *t, struct str name, const void *settings);
/* The handle at idx, for a method: raises while the file runs, since its top only declares. */
void *l_named_check(lua_State *L, int idx, const struct l_named_type *t);

#endif
