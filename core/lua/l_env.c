/* l_env.c: see l_env.h. Any thread: nothing in the process changes the environment. */
#include "lua/l_env.h"

#include <lauxlib.h>
#include <stdlib.h>

static int l_get(lua_State *L) { /* the table, the name */
  const char *value = getenv(luaL_checkstring(L, 2));
  if (value == NULL) return 0;
  lua_pushstring(L, value);
  return 1;
}

static int l_set(lua_State *L) { return luaL_error(L, "jeton.env is read only"); }

static const luaL_Reg metamethods[] = {{"__index", l_get}, {"__call", l_get}, {"__newindex", l_set}, {NULL, NULL}};

int l_env_open(lua_State *L) {
  lua_newtable(L);
  luaL_newlib(L, metamethods);
  lua_setmetatable(L, -2);
  return 1;
}
