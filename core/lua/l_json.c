/* l_json.c: see l_json.h. Owned by the VM's thread.
 *
 * Decoding is lua-cjson's; encoding is done here. cjson knows nothing of opaque secrets, keeps what it encoded in a buffer that nobody wipes, and writes
 * integers above 2^46 in 14 digits. For the same reason what it decodes is walked once: it makes a float of every number, and an id of 42 that a
 * script puts into a path must not read "42.0". And it makes the same empty table of [] and {}: where the text has an empty list, text and tables are
 * walked side by side and the list is marked, so that a body which is decoded, changed and encoded keeps it.
 *
 * The module is looked up along the C path that Lua was built with (or LUA_CPATH_5_4, LUA_CPATH) and never shows in package.loaded: a policy's
 * require serves Lua sources only. */
#include "lua/l_json.h"

#include <dlfcn.h>
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
#include "lua/l_secret.h"
#include "lua/lib.h"
#include "lua/vm.h"

#define ARRAY "jeton.json.array"
#define DECODE "jeton.json.decode"

enum { DEPTH_MAX = 100, ARRAY_HOLES = 10 };
static const double EXACT_MAX = 9007199254740992.0; /* 2^53: floats up to here are exact integers */

/* --- loading cjson --- */

/* Absolute places only: Lua's path ends in "./?.so", and machine code from whatever folder the process was started in is nobody's wish. */
static void *open_at(struct str pattern) {
  char path[512];
  const char *mark = memchr(pattern.p, '?', pattern.n);
  if (mark == NULL || pattern.p[0] != '/') return NULL;
  int before = (int)(mark - pattern.p), after = (int)pattern.n - before - 1;
  int n = snprintf(path, sizeof path, "%.*scjson%.*s", before, pattern.p, after, mark + 1);
  if (n < 0 || (size_t)n >= sizeof path) return NULL;
  return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static lua_CFunction find_cjson(const char *paths) {
  while (paths != NULL && *paths != '\0') {
    size_t n = strcspn(paths, ";");
    void *library = open_at((struct str){paths, n});
    if (library != NULL) {
      lua_CFunction open;
      void *symbol = dlsym(library, "luaopen_cjson");
      memcpy(&open, &symbol, sizeof open); /* ISO C has no conversion from void * to a function */
      if (open != NULL) return open;
    }
    paths += n + (paths[n] == ';');
  }
  return NULL;
}

static lua_CFunction cjson(void) {
  lua_CFunction open = find_cjson(getenv("LUA_CPATH_5_4"));
  if (open == NULL) open = find_cjson(getenv("LUA_CPATH"));
  if (open == NULL) open = find_cjson(LUA_CPATH_DEFAULT);
  return open;
}

static void set_option(lua_State *L, const char *name, bool value) {
  lua_getfield(L, -1, name);
  lua_pushboolean(L, value);
  lua_call(L, 1, 0);
}

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

static void keep_integers(lua_State *L, int depth) { /* the table on top */
  luaL_checkstack(L, 4, "JSON nested too deep");
  int table = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, table);) {
    vm_burn(L, 1);
    if (lua_istable(L, -1) && depth < DEPTH_MAX) keep_integers(L, depth + 1);
    if (lua_type(L, -1) == LUA_TNUMBER && fabs(lua_tonumber(L, -1)) <= EXACT_MAX &&
        floor(lua_tonumber(L, -1)) == lua_tonumber(L, -1)) {
      lua_pushvalue(L, -2);
      lua_pushinteger(L, (lua_Integer)lua_tonumber(L, -2));
      lua_rawset(L, table); /* an existing key: allowed during a traversal */
    }
    lua_pop(L, 1);
  }
}

/* The text has been decoded, so it is JSON; wherever it should not be, the walk still stays inside of it and comes to an end. */
struct walk {
  const char *p, *end;
};

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static char walk_peek(struct walk *w) { /* behind white space; 0 at the end */
  while (w->p < w->end && is_space(*w->p)) w->p++;
  return w->p < w->end ? *w->p : '\0';
}

static bool walk_past(struct walk *w, char c) {
  bool there = walk_peek(w) == c && c != '\0';
  if (there) w->p++;
  return there;
}

static void walk_scalar(struct walk *w) {
  while (w->p < w->end && !is_space(*w->p) && *w->p != ',' && *w->p != ']' && *w->p != '}') w->p++;
}

static struct str walk_string(struct walk *w) { /* with its quotes */
  const char *begin = w->p++;
  while (w->p < w->end && *w->p != '"') w->p += *w->p == '\\' ? 2 : 1;
  w->p = w->p < w->end ? w->p + 1 : w->end;
  return (struct str){begin, (size_t)(w->p - begin)};
}

static void push_name(lua_State *L, struct str text) {
  if (memchr(text.p, '\\', text.n) == NULL && text.n >= 2) {
    lua_pushlstring(L, text.p + 1, text.n - 2);
    return;
  }
  lua_getfield(L, LUA_REGISTRYINDEX, DECODE); /* what escapes mean is cjson's business */
  lua_pushliteral(L, "[");
  lua_pushlstring(L, text.p, text.n);
  lua_pushliteral(L, "]");
  lua_concat(L, 3);
  lua_call(L, 1, 1);
  lua_rawgeti(L, -1, 1);
  lua_remove(L, -2);
}

/* The member of that name of the value on top; nil when that is no table. */
static void push_member(lua_State *L, struct str name) {
  if (!lua_istable(L, -1)) {
    lua_pushnil(L);
    return;
  }
  push_name(L, name);
  lua_rawget(L, -2);
}

static bool is_empty(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  lua_pushnil(L);
  if (!vm_next(L, idx)) return true;
  lua_pop(L, 2);
  return false;
}

static void mark_value(lua_State *L, struct walk *w, int depth);

static void mark_object(lua_State *L, struct walk *w, int depth) {
  while (walk_peek(w) == '"') {
    push_member(L, walk_string(w));
    (void)walk_past(w, ':');
    mark_value(L, w, depth);
    lua_pop(L, 1);
    (void)walk_past(w, ',');
  }
  (void)walk_past(w, '}');
}

static void mark_list(lua_State *L, struct walk *w, int depth) {
  if (walk_past(w, ']')) {
    if (lua_istable(L, -1) && is_empty(L, -1)) mark_array(L);
    return;
  }
  for (lua_Integer i = 1; walk_peek(w) != '\0'; i++) {
    if (lua_istable(L, -1))
      lua_rawgeti(L, -1, i);
    else
      lua_pushnil(L);
    mark_value(L, w, depth);
    lua_pop(L, 1);
    if (!walk_past(w, ',')) break;
  }
  (void)walk_past(w, ']');
}

static void mark_value(lua_State *L, struct walk *w, int depth) { /* the value on top */
  if (depth > DEPTH_MAX) return;
  luaL_checkstack(L, 8, "JSON nested too deep");
  vm_burn(L, 1);
  char c = walk_peek(w);
  if (c == '"') {
    (void)walk_string(w);
  } else if (walk_past(w, '{')) {
    mark_object(L, w, depth + 1);
  } else if (walk_past(w, '[')) {
    mark_list(L, w, depth + 1);
  } else {
    walk_scalar(w);
  }
}

static bool has_empty_list(struct str text) {
  struct walk w = {text.p, text.p + text.n};
  while ((w.p = memchr(w.p, '[', (size_t)(w.end - w.p))) != NULL) {
    w.p++;
    if (walk_peek(&w) == ']') return true;
  }
  return false;
}

static int l_decode_raw(lua_State *L) { /* the text; raises cjson's error */
  struct str text;
  text.p = lua_tolstring(L, 1, &text.n);
  lua_getfield(L, LUA_REGISTRYINDEX, DECODE);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  if (has_empty_list(text)) mark_value(L, &(struct walk){text.p, text.p + text.n}, 0);
  lua_createtable(L, 1, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 1); /* so that a bare number is a table's value too */
  keep_integers(L, 0);
  lua_rawgeti(L, -1, 1);
  return 1;
}

/* Without the mark of UTF-8 that some servers write first (RFC 8259 section 8.1 lets a reader ignore it). */
static void push_unmarked(lua_State *L, int idx) {
  size_t n;
  const char *text = lua_tolstring(L, idx, &n);
  if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
    lua_pushlstring(L, text + 3, n - 3);
  else
    lua_pushvalue(L, idx);
}

int l_json_decode_at(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  lua_pushcfunction(L, l_decode_raw);
  push_unmarked(L, idx);
  int status = lua_pcall(L, 1, 1, 0);
  if (status == LUA_OK) return 1;
  if (status != LUA_ERRRUN || lua_type(L, -1) != LUA_TSTRING) return lua_error(L); /* memory, the time budget */
  /* cjson's text names kinds and offsets ("Expected value but found T_END at character 1"), except for a string it cannot
   * read, where it may show the text: what is behind "invalid" is cut. */
  const char *text = lua_tostring(L, -1);
  const char *at = strstr(text, "at character");
  return arg_failure(L, UV_EINVAL, "not JSON, %s", at != NULL ? at : "or nested too deep");
}

static int l_decode(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  return l_json_decode_at(L, 1);
}

/* --- encoding --- */

struct encoder {
  lua_State *L;
  struct parts *p;
  bool secrets;
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
  json_add_string(&e->p->text, key);
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
  if (!e->secrets)
    return "a secret: only jeton.http's json option takes one, since there it is written into the request by C";
  buf_addz(&e->p->text, "\"");
  parts_add_secret(e->p, secret_encode(s, SECRET_JSON));
  buf_addz(&e->p->text, "\"");
  return NULL;
}

static const char *add_value(struct encoder *e, int idx, int depth) {
  struct buf *text = &e->p->text;
  struct str s;
  vm_burn(e->L, 1);
  switch (lua_type(e->L, idx)) {
    case LUA_TNIL: buf_addz(text, "null"); return NULL;
    case LUA_TBOOLEAN: buf_addz(text, lua_toboolean(e->L, idx) ? "true" : "false"); return NULL;
    case LUA_TNUMBER: return add_number(e, idx);
    case LUA_TSTRING:
      s.p = lua_tolstring(e->L, idx, &s.n);
      vm_burn(e->L, s.n / 4);
      json_add_string(text, s);
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

const char *l_json_add(lua_State *L, int idx, struct parts *p, bool secrets) {
  struct encoder e = {.L = L, .p = p, .secrets = secrets};
  int top = lua_gettop(L);
  const char *wrong = add_value(&e, lua_absindex(L, idx), 0);
  lua_settop(L, top);
  return wrong;
}

static void unmake_parts(void *p) {
  parts_fini(p);
  free(p);
}

static int l_encode(lua_State *L) {
  luaL_checkany(L, 1);
  struct parts *p = guard_new(L, sizeof *p, unmake_parts);
  parts_init(p);
  const char *wrong = l_json_add(L, 1, p, false);
  if (wrong != NULL && l_secret_test(L, 1) == NULL && strncmp(wrong, "a secret", 8) != 0)
    return arg_failure(L, UV_EINVAL, "JSON cannot hold %s", wrong);
  if (wrong != NULL) return luaL_error(L, "jeton.json.encode: %s", wrong);
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
  lua_CFunction open = cjson();
  if (open == NULL)
    return luaL_error(L, "lua-cjson is not installed: no cjson.so at the absolute places of %s", LUA_CPATH_DEFAULT);
  lua_pushcfunction(L, open);
  lua_call(L, 0, 1);
  set_option(L, "decode_invalid_numbers", false);
  lua_getfield(L, -1, "decode_max_depth");
  lua_pushinteger(L, DEPTH_MAX);
  lua_call(L, 1, 0);
  lua_getfield(L, -1, "decode");
  lua_setfield(L, LUA_REGISTRYINDEX, DECODE);
  luaL_newlib(L, functions);
  lua_getfield(L, -2, "null");
  lua_setfield(L, -2, "null");
  lua_remove(L, -2);
  return 1;
}
