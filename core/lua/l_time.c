/* l_time.c: jeton.time, over base/moment.h.
 *
 *   parse(text)  -> seconds since the epoch, or nil, message, code. Without a fraction it is an integer: it is compared, subtracted and put into claims. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <math.h>
#include <uv.h>

#include "base/clock.h"
#include "base/moment.h"
#include "lua/arg.h"

static int l_parse(lua_State *L) {
  double seconds;
  const char *wrong =
      moment_parse(arg_string(L, 1, "jeton.time.parse", "text"), (double)clock_wall_ms() / 1000, &seconds);
  if (wrong != NULL) return arg_failure(L, UV_EINVAL, "%s", wrong);
  if (floor(seconds) == seconds)
    lua_pushinteger(L, (lua_Integer)seconds);
  else
    lua_pushnumber(L, seconds);
  return 1;
}

static const luaL_Reg functions[] = {{"parse", l_parse}, {NULL, NULL}};

int l_time_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
