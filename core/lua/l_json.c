/* l_json.c: see l_json.h. Owned by the VM's thread.
 *
 * Decoding is in json_decode.c, encoding here: it knows opaque secrets, wipes its buffer, and writes integers as they are. An empty list is marked, so that a body which
 * is decoded, changed and encoded keeps it. */
#include "lua/l_json.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/err.h"
#include "base/json.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/json_decode.h"
#include "lua/l_secret.h"
#include "lua/lib.h"
#include "lua/vm.h"

#define ARRAY "jeton.json.array"

enum { DEPTH_MAX = JSON_DEPTH_MAX, VALUE_MAX = 64 /* a number, or a bracket and a comma */ };
static const char no_room[] = "more than there is room for within limits.memory";
static const double EXACT_MAX = 9007199254740992.0; /* 2^53: floats up to here are exact integers */

/* --- decoding --- */

/* The table on top. Scripts never see the metatable, which all lists of the VM share: with a __gc in it, every list would have a finalizer. */
static void mark_array(lua_State *L) {
  if (luaL_newmetatable(L, ARRAY)) {
    lua_pushboolean(L, true);
    lua_setfield(L, -2, ARRAY);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

static bool is_empty(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  lua_pushnil(L);
  if (!vm_next(L, idx)) return true;
  lua_pop(L, 2);
  return false;
}

int l_json_decode_at(lua_State *L, int idx) {
  static const struct str mark = {"\xef\xbb\xbf",
                                  3}; /* some servers write it first; RFC 8259 section 8.1 lets a reader ignore it */
  struct str text;
  text.p = lua_tolstring(L, lua_absindex(L, idx), &text.n);
  if (str_starts(text, mark)) text = (struct str){text.p + mark.n, text.n - mark.n};
  size_t wrong = json_decode(L, text, mark_array);
  if (wrong == 0) return 1;
  if (wrong == JSON_TOO_DEEP) return arg_failure(L, UV_EINVAL, "not JSON, or nested too deep");
  return arg_failure(L, UV_EINVAL, "not JSON, at character %llu", (unsigned long long)wrong);
}

static int l_decode(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  return l_json_decode_at(L, 1);
}

/* --- encoding --- */

struct encoder {
  lua_State *L;
  struct parts *p;
};

static const char *add_value(struct encoder *e, int idx, int depth);

static const char *add_number(struct encoder *e, int idx) {
  char text[32];
  if (lua_isinteger(e->L, idx)) {
    buf_addf(&e->p->text, "%lld", (long long)lua_tointeger(e->L, idx));
    return NULL;
  }
  double n = lua_tonumber(e->L, idx);
  if (!isfinite(n)) return "a number that JSON does not have (NaN or infinite)";
  if (floor(n) == n && fabs(n) <= EXACT_MAX) {
    buf_addf(&e->p->text, "%.0f", n);
    return NULL;
  }
  (void)snprintf(text, sizeof text, "%.14g", n); /* the shortest of the two that reads back as the same */
  if (strtod(text, NULL) != n) (void)snprintf(text, sizeof text, "%.17g", n);
  buf_addz(&e->p->text, text);
  return NULL;
}

/* A list: keys are 1…n without holes; or marked with jeton.json.array, unless all it has are names. -1: it is an object. */
/* In pieces, between which the clock and the room are asked: a byte that is escaped takes as long as fifty that are not. */
static void add_string(struct encoder *e, struct str s) {
  enum { PIECE = 16 * 1024, CHARACTER_MAX = 4 };
  struct buf *text = &e->p->text;
  buf_addz(text, "\"");
  for (size_t n = 0; s.n > 0; s = (struct str){s.p + n, s.n - n}) {
    n = s.n < PIECE ? s.n : PIECE;
    while (n < s.n && n > PIECE - CHARACTER_MAX && ((unsigned char)s.p[n] & 0xc0) == 0x80) n--;
    if (!parts_reserve(e->L, e->p, JSON_ESCAPE_MAX * n)) return;
    const size_t before = text->n;
    json_add_text(text, (struct str){s.p, n});
    vm_burn(e->L, (text->n - before) / 4);
  }
  buf_addz(text, "\"");
}

static lua_Integer list_length(lua_State *L, int idx) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, idx), count = 0;
  if (luaL_getmetafield(L, idx, ARRAY) != LUA_TNIL) {
    lua_pop(L, 1);
    if (n > 0 || is_empty(L, idx)) return n;
  }
  if (n == 0) return -1;
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) count++;
  return count == n ? n : -1;
}

static const char *add_list(struct encoder *e, int idx, lua_Integer n, int depth) {
  buf_addz(&e->p->text, "[");
  for (lua_Integer i = 1; i <= n; i++) {
    if (i > 1) buf_addz(&e->p->text, ",");
    lua_rawgeti(e->L, idx, i);
    const char *wrong = add_value(e, lua_gettop(e->L), depth);
    if (wrong != NULL) return wrong;
    lua_pop(e->L, 1);
  }
  buf_addz(&e->p->text, "]");
  return NULL;
}

static const char *add_key(struct encoder *e, int idx) {
  struct str key;
  int type = lua_type(e->L, idx);
  if (type != LUA_TSTRING && type != LUA_TNUMBER) return "a key that is neither a string nor a number";
  lua_pushvalue(e->L, idx); /* converting the key itself would confuse lua_next */
  key.p = lua_tolstring(e->L, -1, &key.n);
  add_string(e, key);
  lua_pop(e->L, 1);
  buf_addz(&e->p->text, ":");
  return NULL;
}

static const char *add_object(struct encoder *e, int idx, int depth) {
  bool any = false;
  buf_addz(&e->p->text, "{");
  for (lua_pushnil(e->L); vm_next(e->L, idx); lua_pop(e->L, 1)) {
    if (any) buf_addz(&e->p->text, ",");
    any = true;
    const char *wrong = add_key(e, lua_gettop(e->L) - 1);
    if (wrong == NULL) wrong = add_value(e, lua_gettop(e->L), depth);
    if (wrong != NULL) return wrong;
  }
  buf_addz(&e->p->text, "}");
  return NULL;
}

static const char *add_table(struct encoder *e, int idx, int depth) {
  if (depth >= DEPTH_MAX) return "nested too deep (or a table inside of itself)";
  luaL_checkstack(e->L, 8, "JSON nested too deep");
  lua_Integer n = list_length(e->L, idx);
  return n >= 0 ? add_list(e, idx, n, depth + 1) : add_object(e, idx, depth + 1);
}

static const char *add_userdata(struct encoder *e, int idx) {
  struct secret *s = l_secret_test(e->L, idx);
  if (s == NULL) return "a userdata";
  buf_addz(&e->p->text, "\"");
  parts_add_secret(e->p, secret_encode(s, SECRET_JSON));
  buf_addz(&e->p->text, "\"");
  return NULL;
}

static const char *add_value(struct encoder *e, int idx, int depth) {
  struct buf *text = &e->p->text;
  struct str s;
  vm_burn(e->L, 1);
  if (!parts_reserve(e->L, e->p, VALUE_MAX)) return no_room;
  switch (lua_type(e->L, idx)) {
    case LUA_TNIL: buf_addz(text, "null"); return NULL;
    case LUA_TBOOLEAN: buf_addz(text, lua_toboolean(e->L, idx) ? "true" : "false"); return NULL;
    case LUA_TNUMBER: return add_number(e, idx);
    case LUA_TSTRING:
      s.p = lua_tolstring(e->L, idx, &s.n);
      add_string(e, s);
      return NULL;
    case LUA_TTABLE: return add_table(e, idx, depth);
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(e->L, idx) != NULL) return "a light userdata";
      buf_addz(text, "null");
      return NULL;
    case LUA_TUSERDATA: return add_userdata(e, idx);
    default: return "a function or a coroutine";
  }
}

const char *l_json_add(lua_State *L, int idx, struct parts *p) {
  struct encoder e = {.L = L, .p = p};
  int top = lua_gettop(L);
  const char *wrong = add_value(&e, lua_absindex(L, idx), 0);
  lua_settop(L, top);
  return p->full ? no_room : wrong;
}

static int l_encode(lua_State *L) {
  luaL_checkany(L, 1);
  struct parts *p = parts_guard(L);
  lua_toclose(L, lua_gettop(L)); /* the collector does not see how much it holds */
  const char *wrong = l_json_add(L, 1, p);
  if (p->full) return arg_failure(L, ERR_LIMIT, "JSON: %s", wrong);
  if (wrong != NULL) return arg_failure(L, UV_EINVAL, "JSON cannot hold %s", wrong);
  if (p->has_secret)
    l_secret_push(L, parts_secret(p)); /* the whole of it is one then */
  else
    lua_pushlstring(L, (const char *)p->text.p, p->text.n);
  guard_close(L, -2);
  return 1;
}

/* --- jeton.json --- */

static int l_array(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  if (luaL_getmetafield(L, 1, ARRAY) == LUA_TNIL && luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
    return luaL_error(L,
                      "jeton.json.array: this table has a protected metatable: copy what is in it to one of your own");
  lua_settop(L, 1);
  mark_array(L);
  return 1;
}

static const luaL_Reg functions[] = {{"encode", l_encode}, {"decode", l_decode}, {"array", l_array}, {NULL, NULL}};

int l_json_open(lua_State *L) {
  luaL_newlib(L, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
