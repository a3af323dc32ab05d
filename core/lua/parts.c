/* parts.c: see parts.h. Secrets stay opaque: their encoding is a node around them (secret_encode), done while the request is written. */
#include "lua/parts.h"

#include <lauxlib.h>
#include <string.h>

#include "lua/arg.h"
#include "lua/charge.h"
#include "lua/l_secret.h"
#include "lua/vm.h"

void parts_init(struct parts *p) {
  memset(p, 0, sizeof *p);
  buf_init(&p->text);
  p->text.sensitive = true;
}

void parts_fini(struct parts *p) {
  buf_fini(&p->text);
  secret_unref(p->before);
  p->before = NULL;
}

bool parts_reserve(lua_State *L, struct parts *p, size_t n) {
  enum { AHEAD = 64 * 1024 };
  if (p->text.n + n <= p->room) return true;
  struct charge c = {0};
  p->full = p->full || !charge_begin(L, &c, p->text.n + n + AHEAD);
  charge_end(&c); /* no more than a question: nothing else of this VM runs until the text is done */
  if (!p->full) p->room = p->text.n + n + AHEAD;
  return !p->full;
}

/* before = before .. s, taking over s. */
static void join(struct parts *p, struct secret *s) {
  struct secret *old = p->before;
  p->before = old == NULL ? s : secret_join(old, s);
  if (old == NULL) return;
  secret_unref(old);
  secret_unref(s);
  if (p->before == NULL) p->overflow = true;
}

static void flush_text(struct parts *p) {
  if (p->text.n == 0) return;
  struct secret *text = secret_literal(buf_str(&p->text));
  buf_reset(&p->text);
  if (text == NULL)
    p->overflow = true;
  else
    join(p, text);
}

void parts_add_secret(struct parts *p, struct secret *s) {
  p->has_secret = true;
  flush_text(p);
  if (s == NULL)
    p->overflow = true;
  else
    join(p, s);
}

struct secret *parts_secret(struct parts *p) {
  if (!p->has_secret || p->overflow) return NULL;
  flush_text(p);
  return p->before != NULL && !p->overflow ? secret_ref(p->before) : NULL;
}

/* --- forms --- */

static void add_piece(struct buf *b, struct str s) {
  static const char hex[] = "0123456789ABCDEF";
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '*' || c == '-' ||
                 c == '.' || c == '_';
    char out[3] = {'%', hex[c >> 4], hex[c & 15]};
    if (plain)
      buf_add(b, &s.p[i], 1);
    else if (c == ' ')
      buf_add(b, "+", 1);
    else
      buf_add(b, out, 3);
  }
}

static void add_encoded(lua_State *L, struct parts *p, struct str s) {
  enum { PIECE = 16 * 1024 };
  for (struct str piece = s; s.n > 0; s = (struct str){s.p + piece.n, s.n - piece.n}) {
    piece = (struct str){s.p, s.n < PIECE ? s.n : PIECE};
    vm_burn(L, 1 + piece.n / 4);
    if (!parts_reserve(L, p, 3 * piece.n)) return;
    add_piece(&p->text, piece);
  }
}

/* The value at the top. */
static void add_pair(lua_State *L, struct parts *p, struct str name, const char *what) {
  if (!parts_reserve(L, p, 2)) return;
  if (p->text.n > 0 || p->before != NULL) buf_addz(&p->text, "&");
  add_encoded(L, p, name);
  buf_addz(&p->text, "=");
  struct secret *s = l_secret_test(L, -1);
  if (s != NULL) {
    parts_add_secret(p, secret_encode(s, SECRET_FORM));
    return;
  }
  int type = lua_type(L, -1);
  if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
    arg_wrong(L, what, name.p, "a string, number, boolean or secret, or a list of these", -1);
  struct str text;
  text.p = luaL_tolstring(L, -1, &text.n);
  add_encoded(L, p, text);
  lua_pop(L, 1);
}

static void add_list(lua_State *L, struct parts *p, struct str name, const char *what) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1), found = 0;
  for (lua_pushnil(L); vm_next(L, -2); lua_pop(L, 1)) found++;
  if (found != n)
    luaL_error(L,
               "%s: %s: expected a value or a list of values, got a table with names (a form has no tables in tables)",
               what, name.p);
  for (lua_Integer i = 1; i <= n; i++) {
    vm_burn(L, 1);
    lua_rawgeti(L, -1, i);
    add_pair(L, p, name, what);
    lua_pop(L, 1);
  }
}

void parts_add_form(lua_State *L, int idx, struct parts *p, const char *what) {
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 8, what);
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) {
    vm_burn(L, 1);
    if (lua_type(L, -2) != LUA_TSTRING)
      luaL_error(L, "%s: expected { name = value, … }, got %s in place of a name", what, arg_push_noun(L, -2));
    struct str name = arg_string(L, -2, what, "name");
    if (lua_istable(L, -1))
      add_list(L, p, name, what);
    else
      add_pair(L, p, name, what);
  }
}
