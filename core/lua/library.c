/* library.c: see library.h. Owned by the VM's thread. Nothing in it depends on a policy.
 *
 * The tables of functions are strict: reading what one has not raises, as does setting anything, since both are mistakes that Lua would answer with nil, or
 * not at all. What one request assigned (jeton.crypto.equal = …) would hold for all that come later, and __newindex is asked for absent keys alone, so a script gets an
 * empty table in front of the one with the functions. */
#include "lua/library.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/version.h"
#include "lua/arg.h"
#include "lua/lib.h"
#include "lua/sandbox.h"
#include "lua/vm.h"

static int l_now(lua_State *L) {
  lua_pushnumber(L, (lua_Number)clock_wall_ms() / 1000);
  return 1;
}

static const luaL_Reg functions[] = {
    {"now", l_now},   {"sleep", l_sleep},   {"spawn", l_spawn},     {"every", l_every},
    {"exec", l_exec}, {"shared", l_shared}, {"channel", l_channel}, {NULL, NULL},
};
static const luaL_Reg parts[] = {
    {"http", l_http_open},     {"file", l_file_open},     {"env", l_env_open},       {"secret", l_secret_open},
    {"json", l_json_open},     {"base64", l_base64_open}, {"crypto", l_crypto_open}, {"log", l_log_open},
    {"select", l_select_open}, {"time", l_time_open},     {"url", l_url_open},       {NULL, NULL},
};

/* --- what is not there, and how not to call what is. Upvalue 1 of each: "jeton", "jeton.http" --- */

/* jeton.json.parse: says what there is instead, where Lua would say that nil cannot be called. */
static int l_absent(lua_State *L) {
  const char *part = lua_tostring(L, lua_upvalueindex(1));
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  struct str key;
  key.p = lua_tolstring(L, 2, &key.n);
  if (str_eq(key, STR("tokens")) && vm_loading(vm_of(L)))
    return luaL_error(L,
                      "jeton.tokens is not there while the policy's file loads: use it in a hook, a fetch, on_start or "
                      "a task");
  const char *near = arg_nearest(L, 1, key);
  if (near != NULL) return luaL_error(L, "%s has no '%s' (did you mean '%s'?)", part, key.p, near);
  return luaL_error(L, "%s has no '%s' (docs/library.md lists what it has)", part, key.p);
}

static int l_assigned(lua_State *L) {
  const char *part = lua_tostring(L, lua_upvalueindex(1));
  return luaL_error(
      L,
      "%s.%s cannot be set: it would be seen by all requests (options stand in each call, settings in the "
      "policy's table)",
      part, luaL_tolstring(L, 2, NULL));
}

static int l_called(lua_State *L) {
  const char *part = lua_tostring(L, lua_upvalueindex(1));
  return luaL_error(L, "%s is a table of functions (docs/library.md lists them), and cannot be called itself", part);
}

static const char *name_of_running(lua_State *L) {
  lua_Debug ar;
  return lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name != NULL ? ar.name : "f";
}

/* Wraps each function: charges its work to the time budget, and reports `:` in place of `.`. Upvalue 2: the table in front of the one it is of, 3: the
 * function. */
static int l_guarded(lua_State *L) {
  enum { CALL_STEPS = 32 };
  if (lua_rawequal(L, 1, lua_upvalueindex(2))) {
    const char *part = lua_tostring(L, lua_upvalueindex(1)), *name = name_of_running(L);
    return luaL_error(L, "%s:%s(…): write %s.%s(…), with a dot: it is a function, not a method", part, name, part,
                      name);
  }
  sandbox_burn_arguments(L, CALL_STEPS);
  return lua_tocfunction(L, lua_upvalueindex(3))(L); /* in this frame: its arguments are ours */
}

/* The functions of the table below the top, in front of which is the one on the top; those with upvalues of their own stay as they are. */
static void guard_functions(lua_State *L, const char *part) {
  const int front = lua_gettop(L), table = front - 1;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (!lua_iscfunction(L, -1)) continue;
    if (lua_getupvalue(L, -1, 1) != NULL) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, -2);
    lua_pushstring(L, part);
    lua_pushvalue(L, front);
    lua_pushvalue(L, -4);
    lua_pushcclosure(L, l_guarded, 3);
    lua_rawset(L, table); /* an existing key: allowed during a traversal */
  }
}

/* Into the metatable on the top, unless it has that metamethod. */
static void set_default(lua_State *L, const char *metamethod, const char *part, lua_CFunction f) {
  if (lua_getfield(L, -1, metamethod) == LUA_TNIL) {
    lua_pushstring(L, part);
    lua_pushcclosure(L, f, 1);
    lua_setfield(L, -3, metamethod);
  }
  lua_pop(L, 1);
}

static int l_next(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  return lua_next(L, 1) != 0 ? 2 : 0;
}

/* pairs(jeton.http): over a copy, so that the table itself stays out of reach. Upvalue 1: that table. */
static int l_pairs(lua_State *L) {
  lua_pushcfunction(L, l_next);
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, lua_upvalueindex(1)) != 0;) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  return 2;
}

/* Replaces the table on the top by an empty one in front of it, whose metatable is the table's own, if it has one: __call is asked there. What the table has not is
 * asked of the table's, which is left with __index alone. */
static void guard(lua_State *L, const char *part) {
  lua_createtable(L, 0, 0);
  guard_functions(L, part);
  if (!lua_getmetatable(L, -2)) lua_createtable(L, 0, 6);
  lua_createtable(L, 0, 1); /* table, front, its metatable, the table's */
  lua_getfield(L, -2, "__index");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushstring(L, part);
    lua_pushcclosure(L, l_absent, 1);
  }
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -4);
  lua_pushvalue(L, -3);
  lua_setfield(L, -2, "__index");
  lua_pushvalue(L, -3);
  lua_pushcclosure(L, l_pairs, 1);
  lua_setfield(L, -2, "__pairs");
  set_default(L, "__newindex", part, l_assigned);
  set_default(L, "__call", part, l_called);
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, SANDBOX_FROZEN);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_remove(L, -2);
}

static const char INSIDE = 0; /* its address: in the registry, the table `jeton` itself */

void library_set(lua_State *L, const char *name) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &INSIDE);
  lua_pushstring(L, name);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 2);
}

bool library_has(lua_State *L, const char *name) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &INSIDE);
  lua_pushstring(L, name);
  const bool has = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return has;
}

int library_open(lua_State *L) {
  luaL_newlib(L, functions);
  for (const luaL_Reg *part = parts; part->name != NULL; part++) {
    lua_pushcfunction(L, part->func);
    lua_call(L, 0, 1);
    lua_pushfstring(L, "jeton.%s", part->name);
    lua_insert(L, -2);
    guard(L, lua_tostring(L, -2));
    lua_setfield(L, -3, part->name);
    lua_pop(L, 1);
  }
  lua_pushliteral(L, JETON_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &INSIDE);
  guard(L, "jeton");
  return 1;
}
