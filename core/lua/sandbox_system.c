/* sandbox_system.c: os, io and debug as scripts find them.
 *
 * A stock function that blocks the thread, ends the process or reaches inside of other functions is replaced by one that raises and names what to use instead,
 * since "attempt to call a nil value" helps nobody. The tables are built from lists, not by removal: a function that is new in a later Lua stays out until it
 * is listed here. Owned by the VM's thread. */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "lua/sandbox.h"
#include "lua/vm.h"

struct refusal {
  const char *name, *instead;
};

static const struct refusal os_refused[] = {
    {"execute", "use jeton.exec, which does not block"},
    {"exit", "raise an error to end this call; `jeton stop` ends the process"},
    {"getenv", "use jeton.env"},
    {"remove", "use jeton.file or jeton.exec, which do not block"},
    {"rename", "use jeton.file or jeton.exec, which do not block"},
    {"setlocale", "the locale belongs to the whole process"},
    {"tmpname", "use jeton.file, and a name of your own"},
    {NULL, NULL},
};
static const struct refusal io_refused[] = {
    {"close", "use jeton.file, which does not block"},
    {"input", "there is no standard input; use jeton.file"},
    {"lines", "use jeton.file, which does not block"},
    {"open", "use jeton.file, which does not block"},
    {"output", "use jeton.log or print"},
    {"popen", "use jeton.exec, which does not block"},
    {"read", "there is no standard input; use jeton.file"},
    {"tmpfile", "use jeton.file, and a name of your own"},
    {"type", "there are no file handles; use jeton.file"},
    {"write", "use jeton.log or print"},
    {NULL, NULL},
};

/* --- refusals --- */

static int l_refused(lua_State *L) { return luaL_error(L, "%s", lua_tostring(L, lua_upvalueindex(1))); }

/* Functions that raise, into the table on the top. */
static void set_refused(lua_State *L, const char *library, const struct refusal *refused) {
  for (const struct refusal *r = refused; r->name != NULL; r++) {
    lua_pushfstring(L, "%s.%s is not available: %s", library, r->name, r->instead);
    lua_pushcclosure(L, l_refused, 1);
    lua_setfield(L, -2, r->name);
  }
}

static int l_no_handle(lua_State *L) {
  return luaL_error(L, "io.%s is not available: use jeton.log or print to write, jeton.file to read",
                    luaL_tolstring(L, 2, NULL));
}

/* --- os --- */

/* The C library looks at the file of the time zone for each part of the format. Upvalue 1: the stock function. */
static int l_date(lua_State *L) {
  enum { FORMAT_MAX = 256, PART_STEPS = 512 };
  size_t n, parts = 1;
  const char *format = luaL_optlstring(L, 1, "", &n);
  if (n > FORMAT_MAX) return luaL_error(L, "os.date: a format of more than %d bytes", FORMAT_MAX);
  for (size_t i = 0; i < n; i++) parts += format[i] == '%';
  vm_burn(L, parts * PART_STEPS);
  return lua_tocfunction(L, lua_upvalueindex(1))(L); /* in this frame: its arguments are ours */
}

static void open_os(lua_State *L) {
  static const char *const kept[] = {"clock", "date", "difftime", "time"};
  luaL_requiref(L, LUA_OSLIBNAME, luaopen_os, 0);
  lua_createtable(L, 0, 12);
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
    lua_getfield(L, -2, kept[i]);
    lua_setfield(L, -2, kept[i]);
  }
  lua_getfield(L, -1, "date");
  lua_pushcclosure(L, l_date, 1);
  lua_setfield(L, -2, "date");
  set_refused(L, "os", os_refused);
  sandbox_declare(L, LUA_OSLIBNAME);
  lua_pop(L, 1);
}

/* --- io --- */

static void open_io(lua_State *L) {
  lua_createtable(L, 0, 12);
  set_refused(L, "io", io_refused);
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, l_no_handle);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  sandbox_declare(L, LUA_IOLIBNAME);
}

/* --- debug --- */

static void set_string(lua_State *L, const char *key, const char *value) {
  if (value == NULL) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, int value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

static void set_boolean(lua_State *L, const char *key, int value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

static void push_info(lua_State *L, const lua_Debug *ar, const char *what) {
  lua_createtable(L, 0, 12);
  if (strchr(what, 'S') != NULL) {
    set_string(L, "source", ar->source);
    set_string(L, "short_src", ar->short_src);
    set_string(L, "what", ar->what);
    set_integer(L, "linedefined", ar->linedefined);
    set_integer(L, "lastlinedefined", ar->lastlinedefined);
  }
  if (strchr(what, 'l') != NULL) set_integer(L, "currentline", ar->currentline);
  if (strchr(what, 'n') != NULL) {
    set_string(L, "name", ar->name);
    set_string(L, "namewhat", ar->namewhat);
  }
  if (strchr(what, 'u') != NULL) {
    set_integer(L, "nups", ar->nups);
    set_integer(L, "nparams", ar->nparams);
    set_boolean(L, "isvararg", ar->isvararg);
  }
  if (strchr(what, 't') != NULL) set_boolean(L, "istailcall", ar->istailcall);
}

/* getinfo(level or function [, what]): as in stock Lua, without `func` and `activelines`, and of the running coroutine only. */
static int l_getinfo(lua_State *L) {
  lua_Debug ar;
  const char *what = luaL_optstring(L, 2, "Slnut");
  luaL_argcheck(L, strspn(what, "SlnutfrL") == strlen(what), 2, "invalid option");
  if (lua_isfunction(L, 1)) {
    lua_pushvalue(L, 1);
    lua_getinfo(L, ">Slnut", &ar);
  } else {
    lua_Integer level = luaL_checkinteger(L, 1);
    if (level < 0 || level > 1000000 || !lua_getstack(L, (int)level, &ar)) {
      lua_pushnil(L);
      return 1;
    }
    lua_getinfo(L, "Slnut", &ar);
  }
  push_info(L, &ar, what);
  return 1;
}

static void open_debug(lua_State *L) {
  luaL_requiref(L, LUA_DBLIBNAME, luaopen_debug, 0);
  lua_createtable(L, 0, 2);
  lua_getfield(L, -2, "traceback");
  lua_setfield(L, -2, "traceback");
  lua_pushcfunction(L, l_getinfo);
  lua_setfield(L, -2, "getinfo");
  sandbox_declare(L, LUA_DBLIBNAME);
  lua_pop(L, 1);
}

/* The stock tables were made to take functions from: nothing may find them in the registry later. */
static void forget(lua_State *L, const char *library) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil(L);
  lua_setfield(L, -2, library);
  lua_pop(L, 1);
}

void sandbox_open_system(lua_State *L) {
  open_os(L);
  open_io(L);
  open_debug(L);
  forget(L, LUA_OSLIBNAME);
  forget(L, LUA_DBLIBNAME);
}
