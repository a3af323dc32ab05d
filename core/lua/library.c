/* library.c: see library.h. Owned by the VM's thread. Nothing in it depends on a policy. */
#include "lua/library.h"

#include <lauxlib.h>

#include "base/clock.h"
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

int library_open(lua_State *L) {
  luaL_newlib(L, functions);
  for (const luaL_Reg *part = parts; part->name != NULL; part++) {
    lua_pushcfunction(L, part->func);
    lua_call(L, 0, 1);
    lua_setfield(L, -2, part->name);
  }
  lua_pushliteral(L, JETON_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}
