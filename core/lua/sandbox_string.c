/* sandbox_string.c: the string library: the stock one with patterns of our own (pattern.h), without dump, and with a rep whose time is that of one copy.
 * The metatable of strings is hidden: what one request changed there would be seen by all. Owned by the VM's thread. */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "lua/pattern.h"
#include "lua/sandbox.h"
#include "lua/vm.h"
#include "lua/vm_internal.h"

/* The stock one copies n times, which for rep("x", 1e9) takes a second; this doubles what is there. A result above the memory cap fails at once. */
static int l_rep(lua_State *L) {
  size_t ns, nsep;
  const char *s = luaL_checklstring(L, 1, &ns);
  lua_Integer n = luaL_checkinteger(L, 2);
  const char *sep = luaL_optlstring(L, 3, "", &nsep);
  const size_t unit = ns + nsep;
  if (n <= 0 || unit == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (unit < ns || unit > (size_t)LUA_MAXINTEGER / (size_t)n) return luaL_error(L, "resulting string too large");
  const size_t total = unit * (size_t)n - nsep;
  vm_reserve(L, 2 * (uint64_t)total); /* the buffer and the string */
  luaL_Buffer b;
  char *p = luaL_buffinitsize(L, &b, total);
  memcpy(p, s, ns);
  if (n > 1) memcpy(p + ns, sep, nsep);
  for (size_t have = n > 1 ? unit : ns; have < total;) {
    size_t more = have < total - have ? have : total - have;
    memcpy(p + have, p, more);
    have += more;
  }
  luaL_pushresultsize(&b, total);
  return 1;
}

static const char *const reading[] = {"byte",    "format", "lower", "pack", "packsize",
                                      "reverse", "unpack", "upper", NULL};

/* `s + 1` reads s as a number. */
static const char *const arithmetic[] = {"__add", "__sub", "__mul", "__div", "__mod", "__pow", "__idiv", "__unm", NULL};

void sandbox_open_string(lua_State *L) {
  luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
  pattern_open(L);
  sandbox_burn_by_length(L, reading);
  lua_pushcfunction(L, l_rep);
  lua_setfield(L, -2, "rep");
  lua_pushnil(L);
  lua_setfield(L, -2, "dump");
  lua_pushliteral(L, "");
  if (lua_getmetatable(L, -1)) {
    sandbox_burn_by_length(L, arithmetic);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
}
