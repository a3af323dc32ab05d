/* arg.c: see arg.h. Any VM's thread.
 *
 * Lua's own luaL_check functions name an argument by its number. A script gives most of ours as fields of a table, where a number says nothing and a
 * misspelt name would be passed over in silence. So these name the function and the key, say what was expected and the type that was found, and
 * refuse a key that is not known, with the nearest one that is. A value is never shown: it may be a secret that was put in the wrong place.
 *
 * Strings are not converted from numbers, nor numbers from strings: where Lua would, a mistake shows only later, far from its cause. Nothing here owns memory
 * outside of Lua, so every function may raise at any place. */
#include "lua/arg.h"

#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "lua/vm.h"

enum { SUGGEST_DISTANCE = 3 };

/* The name of a type in messages: a store has the name of the function that gives it. */
static const char *without_prefix(const char *type) {
  if (strcmp(type, "jeton.shared") == 0) return "store";
  return strncmp(type, "jeton.", 6) == 0 ? type + 6 : type;
}

/* With the blank behind it; "headers" has none. */
static const char *article(const char *noun) {
  if (noun[strlen(noun) - 1] == 's') return "";
  return strchr("aeiou", noun[0]) != NULL ? "an " : "a ";
}

const char *arg_push_noun(lua_State *L, int idx) {
  if (lua_isnoneornil(L, idx)) return lua_pushstring(L, lua_isnone(L, idx) ? "nothing" : "nil");
  const char *type = luaL_typename(L, idx);
  if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING) type = lua_tostring(L, -1);
  type = without_prefix(type);
  return lua_pushfstring(L, "%s%s", article(type), type);
}

int arg_not_self(lua_State *L, const char *type) {
  lua_Debug ar;
  const char *noun = without_prefix(type), *name = "method";
  if (lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name != NULL) name = ar.name;
  (void)luaL_error(L, "'%s' is a method of %s%s, and was given %s: call it with a colon, as in x:%s(…)", name,
                   article(noun), noun, arg_push_noun(L, 1), name);
  __builtin_unreachable();
}

void *arg_self(lua_State *L, const char *type) {
  void *p = luaL_testudata(L, 1, type);
  if (p == NULL) arg_not_self(L, type);
  return p;
}

void arg_options(lua_State *L, int idx, const char *what, const char *example, const char *const *known) {
  if (lua_isnoneornil(L, idx)) return;
  if (!lua_istable(L, idx))
    luaL_error(L, "%s: expected options as a table, such as %s, got %s", what, example, arg_push_noun(L, idx));
  arg_known(L, idx, what, known);
}

/* Values are not shown: an option may hold what must not be seen. Types are enough to find the mistake. */
int arg_wrong(lua_State *L, const char *what, const char *key, const char *expected, int idx) {
  const char *found = luaL_typename(L, idx);
  if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING) found = lua_tostring(L, -1);
  (void)luaL_error(L, "%s: %s: expected %s, got %s", what, key, expected, found);
  __builtin_unreachable();
}

static const char *nearest(struct str key, const char *const *known) {
  const char *best = NULL;
  unsigned best_distance = SUGGEST_DISTANCE;
  for (; *known != NULL; known++) {
    unsigned distance = str_distance(key, str_of(*known));
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = *known;
  }
  return best;
}

const char *arg_nearest(lua_State *L, int idx, struct str key) {
  const char *best = NULL;
  unsigned best_distance = SUGGEST_DISTANCE;
  idx = lua_absindex(L, idx);
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) continue;
    const char *name = lua_tostring(L, -2);
    unsigned distance = str_distance(key, str_of(name));
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = name;
  }
  return best;
}

static bool is_known(struct str key, const char *const *known) {
  for (; *known != NULL; known++)
    if (str_eq(key, str_of(*known))) return true;
  return false;
}

static const char *push_list(lua_State *L, const char *const *names) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (const char *const *name = names; *name != NULL; name++) {
    if (name != names) luaL_addstring(&b, name[1] != NULL ? ", " : " and ");
    luaL_addstring(&b, *name);
  }
  luaL_pushresult(&b);
  return lua_tostring(L, -1);
}

void arg_known(lua_State *L, int idx, const char *what, const char *const *known) {
  idx = lua_absindex(L, idx);
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) {
    if (lua_isinteger(L, -2)) continue;
    if (lua_type(L, -2) != LUA_TSTRING) luaL_error(L, "%s: a key that is a %s", what, luaL_typename(L, -2));
    struct str key;
    key.p = lua_tolstring(L, -2, &key.n);
    if (is_known(key, known)) continue;
    const char *near = nearest(key, known);
    if (near != NULL) luaL_error(L, "%s: unknown option '%s' (did you mean '%s'?)", what, key.p, near);
    luaL_error(L, "%s: unknown option '%s': there are %s", what, key.p, push_list(L, known));
  }
}

static bool number_ms(lua_Number seconds, int64_t *ms) {
  if (!(seconds >= 0) || seconds > 1e12) return false; /* NaN fails the first */
  *ms = (int64_t)ceil(seconds * 1000);
  return true;
}

/* A number may be shown: it is no secret, and its sign is the mistake. */
static void wrong_amount(lua_State *L, const char *what, const char *key, const char *expected, int idx) {
  if (lua_type(L, idx) != LUA_TNUMBER) arg_wrong(L, what, key, expected, idx);
  luaL_error(L, "%s: %s: expected %s, got %s", what, key, expected, luaL_tolstring(L, idx, NULL));
}

int64_t arg_duration_ms(lua_State *L, int idx, const char *what, const char *key) {
  int64_t ms = 0;
  bool ok = false;
  if (lua_type(L, idx) == LUA_TNUMBER) {
    ok = number_ms(lua_tonumber(L, idx), &ms);
  } else if (lua_type(L, idx) == LUA_TSTRING) {
    struct str s;
    s.p = lua_tolstring(L, idx, &s.n);
    ok = units_duration_ms(s, &ms) && ms >= 0;
  }
  if (!ok) wrong_amount(L, what, key, "a duration (seconds, or \"250ms\", \"2s\", \"5m\")", idx);
  return ms;
}

static uint64_t arg_size(lua_State *L, int idx, const char *what, const char *key) {
  uint64_t bytes = 0;
  bool ok = false;
  if (lua_isinteger(L, idx)) {
    ok = lua_tointeger(L, idx) >= 0;
    bytes = ok ? (uint64_t)lua_tointeger(L, idx) : 0;
  } else if (lua_type(L, idx) == LUA_TSTRING) {
    struct str s;
    s.p = lua_tolstring(L, idx, &s.n);
    ok = units_size(s, &bytes);
  }
  if (!ok) wrong_amount(L, what, key, "a size (bytes, or \"64k\", \"1m\")", idx);
  return bytes;
}

/* Pushes the field; false (and nil pushed) when there is none. */
static bool push_field(lua_State *L, int idx, const char *key) {
  if (lua_type(L, idx) == LUA_TTABLE) return lua_getfield(L, idx, key) != LUA_TNIL;
  lua_pushnil(L);
  return false;
}

int64_t arg_field_ms(lua_State *L, int idx, const char *what, const char *key, int64_t otherwise) {
  if (push_field(L, idx, key)) otherwise = arg_duration_ms(L, -1, what, key);
  lua_pop(L, 1);
  return otherwise;
}

uint64_t arg_field_size(lua_State *L, int idx, const char *what, const char *key, uint64_t otherwise) {
  if (push_field(L, idx, key)) otherwise = arg_size(L, -1, what, key);
  lua_pop(L, 1);
  return otherwise;
}

bool arg_field_bool(lua_State *L, int idx, const char *what, const char *key, bool otherwise) {
  if (push_field(L, idx, key)) {
    if (lua_type(L, -1) != LUA_TBOOLEAN) arg_wrong(L, what, key, "true or false", -1);
    otherwise = lua_toboolean(L, -1);
  }
  lua_pop(L, 1);
  return otherwise;
}

struct str arg_string(lua_State *L, int idx, const char *what, const char *key) {
  struct str s;
  if (lua_type(L, idx) != LUA_TSTRING) arg_wrong(L, what, key, "a string", idx);
  s.p = lua_tolstring(L, idx, &s.n);
  return s;
}

const char *arg_field_string(lua_State *L, int idx, const char *what, const char *key) {
  if (!push_field(L, idx, key)) return NULL;
  struct str s = arg_string(L, -1, what, key);
  if (memchr(s.p, '\0', s.n) != NULL) luaL_error(L, "%s: %s: a NUL byte inside", what, key);
  return s.p;
}

int arg_failure(lua_State *L, int code, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  lua_pushnil(L);
  lua_pushstring(L, text);
  lua_pushstring(L, err_name(code));
  return 3;
}
