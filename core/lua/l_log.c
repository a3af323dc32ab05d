/* l_log.c: see lib.h. Owned by the VM's thread.
 *
 * Whatever is logged goes through luaL_tolstring: a secret comes out as its description, as everywhere. A line that the level would
 * drop costs a comparison. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mask.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/vm.h"

/* A line is cut to 8 KiB, after what it holds of secrets has been masked: so more than that is gathered, but not a thousand times the same long string. */
enum { GATHER_MAX = 256 * 1024 };

static void add_value(lua_State *L, int idx, struct buf *b, bool quote) {
  struct str s;
  s.p = luaL_tolstring(L, idx, &s.n);
  const size_t left = b->n < GATHER_MAX ? GATHER_MAX - b->n : 0;
  if (s.n > left) s.n = left;
  vm_burn(L, 1 + s.n / 4);
  bool plain = s.n > 0;
  for (size_t i = 0; plain && i < s.n; i++) plain = s.p[i] > ' ' && s.p[i] != '"' && s.p[i] != '=' && s.p[i] != 0x7f;
  if (quote && !plain)
    json_add_string(b, s);
  else
    buf_adds(b, s);
  lua_pop(L, 1);
}

static void add_fields(lua_State *L, int idx, struct buf *b) {
  for (lua_pushnil(L); b->n < GATHER_MAX && vm_next(L, idx); lua_pop(L, 1)) {
    buf_addz(b, " ");
    add_value(L, lua_gettop(L) - 1, b, true);
    buf_addz(b, "=");
    add_value(L, lua_gettop(L), b, true);
  }
}

/* "policy.lua:12", without the colon and blank of luaL_where. */
static const char *push_source(lua_State *L) {
  luaL_where(L, 1);
  size_t n;
  const char *where = lua_tolstring(L, -1, &n);
  if (n < 2) return "script";
  return lua_pushlstring(L, where, n - 2);
}

static int write_line(lua_State *L, enum log_level level, int message) {
  if (lua_isnone(L, message)) return luaL_error(L, "jeton.log: expected a message");
  if (!lua_isnoneornil(L, message + 1) && !lua_istable(L, message + 1))
    return luaL_error(
        L,
        "jeton.log: fields: expected a table such as { status = 200 }, got %s; a message is one value: join "
        "with .. or use (\"…\"):format(…)",
        arg_push_noun(L, message + 1));
  if (!log_wants(level)) return 0;
  lua_settop(L, message + 1);
  struct buf *b = guard_buf(L);
  add_value(L, message, b, false);
  if (lua_istable(L, message + 1)) add_fields(L, message + 1, b);
  log_from(level, push_source(L), "%.*s", STR_FMT(buf_str(b)));
  guard_close(L, message + 2);
  return 0;
}

static int l_debug(lua_State *L) { return write_line(L, LOG_DEBUG, 1); }
static int l_info(lua_State *L) { return write_line(L, LOG_INFO, 1); }
static int l_warn(lua_State *L) { return write_line(L, LOG_WARN, 1); }
static int l_error(lua_State *L) { return write_line(L, LOG_ERROR, 1); }
/* For a script that cuts a text or compares it before it logs it. */
static int l_masked(lua_State *L) {
  struct str s;
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_typeerror(L, 1, "string");
  lua_settop(L, 1);
  s.p = lua_tolstring(L, 1, &s.n);
  vm_burn(L, s.n);
  if (mask_is_empty()) return 1;
  struct buf *b = guard_buf(L);
  if (!mask_apply(mask_of_thread(), s, b)) {
    guard_close(L, 2);
    lua_settop(L, 1);
    return 1;
  }
  lua_pushlstring(L, (const char *)b->p, b->n);
  guard_close(L, 2);
  return 1;
}

static int l_call(lua_State *L) { return write_line(L, LOG_INFO, 2); }

static const luaL_Reg functions[] = {{"debug", l_debug}, {"info", l_info},     {"warn", l_warn},
                                     {"error", l_error}, {"masked", l_masked}, {NULL, NULL}};

int l_log_open(lua_State *L) {
  luaL_newlib(L, functions);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_call);
  lua_setfield(L, -2, "__call");
  lua_setmetatable(L, -2);
  return 1;
}
