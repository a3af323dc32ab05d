/* l_env.c: see lib.h. Any thread: nothing in the process changes the environment. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "lua/arg.h"

static int l_get(lua_State *L) { /* the table, the name */
  if (lua_type(L, 2) != LUA_TSTRING)
    return luaL_error(L, "jeton.env: expected the name of a variable, got %s", arg_push_noun(L, 2));
  const char *value = getenv(lua_tostring(L, 2));
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
