/* sandbox.c: the base functions and the globals of a script; see sandbox.h for the whole.
 *
 * Every function that catches errors checks the time budget before it gives control back to the script, so that no script outlives its budget by catching the
 * budget's error. Finalizers of scripts are refused: the collector would run them with the count hook off. The table of globals is a plain one, with a
 * metatable that refuses new names from Lua; C declares freely. Owned by the VM's thread. */
#include "lua/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "lua/vm.h"
#include "lua/vm_internal.h"

enum { PRINT_MAX = 16 * 1024, LOAD_MAX = 4 * 1024 * 1024 };

/* --- protected calls --- */

/* Gives `true, results…`, which are above `below` slots, or `false, error`. */
static int on_protected_end(lua_State *L, int status, lua_KContext below) {
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)below;
  budget_check(L, &vm_at(L)->budget);
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

static int l_pcall(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, 1);
  lua_insert(L, 1);
  return on_protected_end(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, on_protected_end), 0);
}

static int l_guarded_handler(lua_State *L) {
  if (vm_at(L)->budget.over) return 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  return 1;
}

static int l_xpcall(lua_State *L) {
  int nargs = lua_gettop(L) - 2;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, l_guarded_handler, 1);
  lua_replace(L, 2);
  lua_pushboolean(L, 1);
  lua_pushvalue(L, 1);
  lua_rotate(L, 3, 2); /* function, handler, true, function, arguments */
  return on_protected_end(L, lua_pcallk(L, nargs, LUA_MULTRET, 2, 2, on_protected_end), 2);
}

/* --- metatables --- */

/* With weak keys and strong values the collector goes over the table again and again, each time the length of it, until nothing more of it is found to live: in one
 * step, whose time is the square of a chain's length (15 s for 60,000), with no hook inside. Tables that are weak both ways, or in their values, cost one walk. */
static void check_mode(lua_State *L) { /* the metatable is argument 2 */
  lua_pushliteral(L, "__mode");
  const char *mode = lua_rawget(L, 2) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  if (strchr(mode, 'k') != NULL && strchr(mode, 'v') == NULL)
    luaL_error(
        L,
        "__mode = \"k\" is not available: the collector would go over such a table outside of every time budget; "
        "\"v\" and \"kv\" are, or keep what belongs to an object in a field of it");
  lua_settop(L, 2);
}

static int l_setmetatable(lua_State *L) {
  int type = lua_type(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
  lua_settop(L, 2);
  if (type == LUA_TTABLE) {
    lua_pushliteral(L, "__gc");
    if (lua_rawget(L, 2) != LUA_TNIL)
      return luaL_error(
          L,
          "__gc is not available: the collector would run it outside of every time budget; use a variable with "
          "<close>, or give up what is held when it is no longer needed");
    lua_settop(L, 2);
    check_mode(L);
  }
  lua_setmetatable(L, 1);
  return 1;
}

/* A userdata's metatable holds functions of C that trust it: a script never gets it. */
static int l_getmetatable(lua_State *L) {
  luaL_checkany(L, 1);
  if (!lua_getmetatable(L, 1)) return 0;
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return 1;
  if (!lua_istable(L, 1)) lua_pushboolean(L, 0);
  return 1;
}

static int l_rawset(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checkany(L, 2);
  luaL_checkany(L, 3);
  lua_settop(L, 3);
  lua_pushglobaltable(L);
  if (lua_rawequal(L, 1, 4)) return luaL_error(L, "globals cannot be set with rawset: use a local");
  if (luaL_getmetafield(L, 1, SANDBOX_FROZEN) != LUA_TNIL)
    return luaL_error(L, "this table cannot be set with rawset: all requests see it");
  lua_settop(L, 3);
  lua_rawset(L, 1);
  return 1;
}

/* Of a frozen table what is behind it, which is how a script asks whether this jeton has a function. */
static int l_rawget(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, 1) != LUA_TNIL) return 1;
  lua_settop(L, 2);
  if (luaL_getmetafield(L, 1, SANDBOX_FROZEN) != LUA_TNIL && luaL_getmetafield(L, 1, "__index") == LUA_TTABLE)
    lua_replace(L, 1); /* else what was asked for is nil there, too */
  lua_settop(L, 2);
  lua_rawget(L, 1);
  return 1;
}

/* --- code --- */

/* The text of a chunk: argument 1, or what the function there gives, piece by piece, each kept at LOAD_PIECE. */
enum { LOAD_PIECE = 5, LOAD_STEP = 4096 };
struct load_text {
  struct str rest; /* of the piece */
  size_t given;
  bool whole; /* no piece comes after this one */
};

static void next_piece(lua_State *L, struct load_text *t) {
  luaL_checkstack(L, 2, "too many nested functions");
  lua_pushvalue(L, 1);
  lua_call(L, 0, 1);
  t->whole = lua_isnil(L, -1);
  if (!t->whole && !lua_isstring(L, -1)) luaL_error(L, "reader function must return a string");
  lua_replace(L, LOAD_PIECE);
  if (!t->whole) t->rest.p = lua_tolstring(L, LOAD_PIECE, &t->rest.n);
  t->whole = t->whole || t->rest.n == 0;
}

/* The compiler counts no instructions, so it gets the text in small pieces, and the clock is checked before each. */
static const char *on_load(lua_State *L, void *arg, size_t *n) {
  struct load_text *t = arg;
  budget_check(L, &vm_at(L)->budget);
  if (t->rest.n == 0 && !t->whole) next_piece(L, t);
  const char *p = t->rest.p;
  *n = t->rest.n < LOAD_STEP ? t->rest.n : LOAD_STEP;
  t->rest.p += *n;
  t->rest.n -= *n;
  t->given += *n;
  if (t->given > LOAD_MAX) luaL_error(L, "a chunk of more than %d bytes is not loaded", LOAD_MAX);
  return *n > 0 ? p : NULL;
}

static int refuse_load(lua_State *L) { /* the message is on the top */
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* load(chunk [, chunkname [, mode [, env]]]), of text. */
static int l_load(lua_State *L) {
  struct load_text t = {{NULL, 0}, 0, lua_isstring(L, 1)};
  const bool env = !lua_isnone(L, 4);
  if (t.whole)
    t.rest.p = lua_tolstring(L, 1, &t.rest.n);
  else
    luaL_checktype(L, 1, LUA_TFUNCTION);
  const char *name = luaL_optstring(L, 2, t.whole ? t.rest.p : "=(load)");
  lua_settop(L, LOAD_PIECE);
  if (strchr(luaL_optstring(L, 3, "t"), 't') == NULL) {
    lua_pushliteral(L, "only text is loaded here: the mode is \"t\"");
    return refuse_load(L);
  }
  int status = lua_load(L, on_load, &t, name, "t");
  budget_check(L, &vm_at(L)->budget);
  if (status != LUA_OK) return refuse_load(L);
  if (!env) return 1;
  lua_pushvalue(L, 4);
  if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
  return 1;
}

static int l_no_files(lua_State *L) {
  return luaL_error(L, "%s is not available: use require for modules, jeton.file to read",
                    lua_tostring(L, lua_upvalueindex(1)));
}

static int l_collectgarbage(lua_State *L) {
  const char *what = luaL_optstring(L, 1, "collect");
  if (strcmp(what, "count") != 0)
    return luaL_error(L, "collectgarbage(\"%s\") is not available: only \"count\" is, the collector runs by itself",
                      what);
  lua_pushnumber(L, (lua_Number)vm_memory(vm_at(L)) / 1024);
  return 1;
}

/* --- functions whose time is that of reading their strings --- */

enum { BYTES_A_STEP = 16 };

void sandbox_burn_arguments(lua_State *L, size_t steps) {
  size_t bytes = 0;
  for (int i = lua_gettop(L); i > 0; i--)
    if (lua_type(L, i) == LUA_TSTRING) bytes += lua_rawlen(L, i);
  budget_burn(L, &vm_at(L)->budget, steps + bytes / BYTES_A_STEP);
}

static int l_burning(lua_State *L) {
  sandbox_burn_arguments(L, 0);
  return lua_tocfunction(L, lua_upvalueindex(1))(L); /* in this frame: its arguments are ours */
}

void sandbox_burn_by_length(lua_State *L, const char *const *names) {
  for (; *names != NULL; names++) {
    lua_getfield(L, -1, *names);
    lua_pushcclosure(L, l_burning, 1);
    lua_setfield(L, -2, *names);
  }
}

/* --- output --- */

static void place_of_caller(lua_State *L, char out[PLACE_SIZE]) {
  lua_Debug ar;
  (void)snprintf(out, PLACE_SIZE, "script");
  if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
    (void)snprintf(out, PLACE_SIZE, "%s:%d", ar.short_src, ar.currentline);
}

static void say(lua_State *L, enum log_level level) { /* the string on the top */
  char place[PLACE_SIZE];
  size_t n;
  const char *text = lua_tolstring(L, -1, &n);
  place_of_caller(L, place);
  if (n <= PRINT_MAX)
    log_from(level, place, "%.*s", (int)n, text);
  else
    log_from(level, place, "%.*s … (%zu bytes in all)", PRINT_MAX, text, n);
}

static int l_print(lua_State *L) {
  luaL_Buffer b;
  int n = lua_gettop(L);
  if (!log_wants(LOG_INFO)) return 0;
  luaL_buffinit(L, &b);
  for (int i = 1; i <= n; i++) {
    if (i > 1) luaL_addchar(&b, '\t');
    luaL_tolstring(L, i, NULL);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  say(L, LOG_INFO);
  return 0;
}

/* At the top of a policy's file it is a warning about the policy: each load reports it once, `jeton check` too, though the file runs in every VM. Modules put the
 * place that they mean in front. */
static void warn_of_policy(lua_State *L, const struct vm *vm) {
  size_t n;
  const char *text = lua_tolstring(L, -1, &n), *blank = memchr(text, ' ', n);
  char place[PLACE_SIZE] = "", line[1280];
  if (vm->role != VM_CONTROL) return;
  if (blank == NULL || memmem(text, (size_t)(blank - text), ".lua:", 5) == NULL) place_of_caller(L, place);
  (void)snprintf(line, sizeof line, "%s%s%s", place, place[0] != '\0' ? ": " : "", text);
  vm_warn(vm, line);
}

static int l_warn(lua_State *L) {
  int n = lua_gettop(L);
  luaL_checkstring(L, 1);
  for (int i = 2; i <= n; i++) luaL_checkstring(L, i);
  lua_concat(L, n);
  if (vm_at(L)->loading)
    warn_of_policy(L, vm_at(L));
  else
    say(L, LOG_WARN);
  return 0;
}

static void on_warning(void *arg, const char *text, int more) { /* Lua's own: an error in a __gc of C */
  struct vm *vm = arg;
  size_t n = strlen(vm->warning);
  (void)snprintf(vm->warning + n, sizeof vm->warning - n, "%s", text);
  if (more) return;
  log_from(LOG_WARN, "lua", "%s", vm->warning);
  vm->warning[0] = '\0';
}

/* --- globals --- */

static bool called_from_lua(lua_State *L) {
  lua_Debug ar;
  return lua_getstack(L, 1, &ar) && lua_getinfo(L, "S", &ar) && ar.what[0] != 'C';
}

/* Is the key in argument 2 one of sandbox_declare_fixed? */
static bool is_fixed(lua_State *L) {
  if (luaL_getmetafield(L, 1, "__index") != LUA_TTABLE) return false;
  lua_pushvalue(L, 2);
  return lua_rawget(L, -2) != LUA_TNIL;
}

static int l_new_global(lua_State *L) {
  lua_settop(L, 3);
  if (called_from_lua(L)) {
    bool fixed = is_fixed(L);
    const char *name = luaL_tolstring(L, 2, NULL);
    if (fixed)
      return luaL_error(L, "%s cannot be set: it would be seen by all requests (`local %s = …` is this file's own)",
                        name, name);
    const char *keys = vm_at(L)->loading ? "; a key of the policy stands in the table that its file returns" : "";
    return luaL_error(
        L, "assignment to undeclared global '%s': write `local %s` (globals would be shared by all requests)%s", name,
        name, keys);
  }
  lua_rawset(L, 1);
  return 0;
}

void sandbox_declare(lua_State *L, const char *name) {
  lua_pushglobaltable(L);
  lua_insert(L, -2);
  lua_pushstring(L, name);
  lua_insert(L, -2);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

void sandbox_declare_fixed(lua_State *L, const char *name) {
  lua_pushglobaltable(L);
  (void)lua_getmetatable(L, -1); /* of guard_globals */
  (void)luaL_getsubtable(L, -1, "__index");
  lua_pushvalue(L, -4);
  lua_setfield(L, -2, name);
  lua_pop(L, 4);
}

static void guard_globals(lua_State *L) {
  lua_pushglobaltable(L);
  lua_createtable(L, 0, 4);
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, SANDBOX_FROZEN);
  lua_pushcfunction(L, l_new_global);
  lua_setfield(L, -2, "__newindex");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

static const luaL_Reg base[] = {{"pcall", l_pcall},
                                {"xpcall", l_xpcall},
                                {"setmetatable", l_setmetatable},
                                {"getmetatable", l_getmetatable},
                                {"rawget", l_rawget},
                                {"rawset", l_rawset},
                                {"collectgarbage", l_collectgarbage},
                                {"load", l_load},
                                {"print", l_print},
                                {"warn", l_warn},
                                {NULL, NULL}};

static void sandbox_open_base(lua_State *L) {
  luaL_requiref(L, LUA_GNAME, luaopen_base, 1);
  luaL_setfuncs(L, base, 0);
  sandbox_burn_by_length(L, (const char *const[]){"tonumber", NULL});
  static const char *const files[] = {"dofile", "loadfile"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    lua_pushstring(L, files[i]);
    lua_pushcclosure(L, l_no_files, 1);
    lua_setfield(L, -2, files[i]);
  }
  lua_pop(L, 1);
  lua_setwarnf(L, on_warning, vm_at(L));
}

void sandbox_open(lua_State *L) {
  sandbox_open_base(L);
  luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
  luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 1);
  sandbox_burn_by_length(L, (const char *const[]){"codepoint", "len", "offset", NULL});
  lua_pop(L, 2);
  sandbox_open_string(L);
  sandbox_open_table(L);
  sandbox_open_coroutine(L);
  sandbox_open_system(L);
  guard_globals(L);
}
