/* library.c: see library.h. Owned by the VM's thread. Nothing in it depends on a policy. */
#include "lua/library.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "lua/arg.h"
#include "lua/l_base64.h"
#include "lua/l_channel.h"
#include "lua/l_crypto.h"
#include "lua/l_env.h"
#include "lua/l_exec.h"
#include "lua/l_file.h"
#include "lua/l_http.h"
#include "lua/l_json.h"
#include "lua/l_log.h"
#include "lua/l_secret.h"
#include "lua/l_select.h"
#include "lua/l_shared.h"
#include "lua/l_timer.h"
#include "ops/version.h"

static int l_now(lua_State *L) {
  lua_pushnumber(L, (lua_Number)clock_wall_ms() / 1000);
  return 1;
}

static const luaL_Reg functions[] = {
    {"now", l_now},   {"sleep", l_sleep},   {"spawn", l_spawn},     {"every", l_every},
    {"exec", l_exec}, {"shared", l_shared}, {"channel", l_channel}, {NULL, NULL},
};
static const luaL_Reg parts[] = {
    {"http", l_http_open},     {"file", l_file_open},
    {"env", l_env_open},       {"secret", l_secret_open},
    {"json", l_json_open},     {"base64", l_base64_open},
    {"crypto", l_crypto_open}, {"log", l_log_open},
    {"select", l_select_open}, {NULL, NULL},
};

/* jeton.json.parse: says what there is instead, where Lua would say that nil cannot be called. The upvalue is the part's name. */
static int l_absent(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  struct str key;
  key.p = lua_tolstring(L, 2, &key.n);
  const char *part = lua_tostring(L, lua_upvalueindex(1)), *near = arg_nearest(L, 1, key);
  if (near != NULL) return luaL_error(L, "jeton.%s has no '%s' (did you mean '%s'?)", part, key.p, near);
  return luaL_error(L, "jeton.%s has no '%s' (docs/library.md lists what it has)", part, key.p);
}

/* The part is on top. One that finds what it has by a function of its own (jeton.env) keeps that. */
static void guard_part(lua_State *L, const char *name) {
  if (!lua_getmetatable(L, -1)) lua_createtable(L, 0, 1);
  if (lua_getfield(L, -1, "__index") == LUA_TNIL) {
    lua_pushstring(L, name);
    lua_pushcclosure(L, l_absent, 1);
    lua_setfield(L, -3, "__index");
  }
  lua_pop(L, 1);
  lua_setmetatable(L, -2);
}

int library_open(lua_State *L) {
  luaL_newlib(L, functions);
  for (const luaL_Reg *part = parts; part->name != NULL; part++) {
    lua_pushcfunction(L, part->func);
    lua_call(L, 0, 1);
    guard_part(L, part->name);
    lua_setfield(L, -2, part->name);
  }
  lua_pushliteral(L, JETON_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
