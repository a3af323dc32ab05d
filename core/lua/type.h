/* type.h: the types of userdata that hooks meet with every request. luaL_setmetatable and luaL_checkudata look their metatable up by a name, which is made
 * a string and hashed each time; here the address of the name is the key. Any VM's thread. */
#ifndef JETON_LUA_TYPE_H
#define JETON_LUA_TYPE_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "lua/arg.h"

/* Pushes the type's metatable; true when it has just been made and is to be filled. `type`: always the same array. */
static inline bool type_new(lua_State *L, const char *type) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, type) == LUA_TTABLE) return false;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushstring(L, type);
  lua_setfield(L, -2, "__name");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, type);
  return true;
}

/* Makes the userdata on top one of that type, whose metatable is there. */
static inline void type_set(lua_State *L, const char *type) {
  (void)lua_rawgetp(L, LUA_REGISTRYINDEX, type);
  lua_setmetatable(L, -2);
}

/* The userdata at idx if it is of that type, or NULL. */
static inline void *type_test(lua_State *L, int idx, const char *type) {
  void *p = lua_touserdata(L, idx);
  if (p == NULL || !lua_getmetatable(L, idx)) return NULL;
  (void)lua_rawgetp(L, LUA_REGISTRYINDEX, type);
  bool same = lua_rawequal(L, -1, -2) != 0;
  lua_pop(L, 2);
  return same ? p : NULL;
}

/* The first argument of a method, which is of that type, or an error. */
static inline void *type_check(lua_State *L, const char *type) {
  void *p = type_test(L, 1, type);
  if (p == NULL) arg_not_self(L, type);
  return p;
}

#endif
