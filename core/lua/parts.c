/* parts.c: see parts.h. Secrets stay opaque: their encoding is a node around them (secret_encode), done while the request is written. */
#include "lua/parts.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/percent.h"
#include "lua/arg.h"
#include "lua/charge.h"
#include "lua/guard.h"
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

static void unmake_parts(void *p) {
  parts_fini(p);
  free(p);
}

struct parts *parts_guard(lua_State *L) {
  struct parts *p = guard_new(L, sizeof *p, unmake_parts);
  parts_init(p);
  return p;
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

/* --- forms and queries --- */

typedef unsigned (*escape_fn)(unsigned char c, char out[PERCENT_MAX]);

struct pairs { /* name=value&name=value … */
  struct parts *parts;
  const char *what;
  escape_fn escape;
};

static void add_piece(struct buf *b, struct str s, escape_fn escape) {
  char out[PERCENT_MAX];
  for (size_t i = 0; i < s.n; i++) buf_add(b, out, escape((unsigned char)s.p[i], out));
}

static void add_encoded(lua_State *L, const struct pairs *to, struct str s) {
  enum { PIECE = 16 * 1024 };
  for (struct str piece = s; s.n > 0; s = (struct str){s.p + piece.n, s.n - piece.n}) {
    piece = (struct str){s.p, s.n < PIECE ? s.n : PIECE};
    vm_burn(L, 1 + piece.n / 4);
    if (!parts_reserve(L, to->parts, PERCENT_MAX * piece.n)) return;
    add_piece(&to->parts->text, piece, to->escape);
  }
}

static void add_secret(const struct pairs *to, struct secret *s) {
  parts_add_secret(to->parts, secret_encode(s, to->escape == percent_escape_byte ? SECRET_URL : SECRET_FORM));
}

/* The value at the top. */
static void add_pair(lua_State *L, const struct pairs *to, struct str name) {
  struct parts *p = to->parts;
  if (!parts_reserve(L, p, 2)) return;
  if (p->text.n > 0 || p->before != NULL) buf_addz(&p->text, "&");
  add_encoded(L, to, name);
  buf_addz(&p->text, "=");
  struct secret *s = l_secret_test(L, -1);
  if (s != NULL) {
    add_secret(to, s);
    return;
  }
  int type = lua_type(L, -1);
  if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
    arg_wrong(L, to->what, name.p, "a string, number, boolean or secret, or a list of these", -1);
  struct str text;
  text.p = luaL_tolstring(L, -1, &text.n);
  add_encoded(L, to, text);
  lua_pop(L, 1);
}

static void add_list(lua_State *L, const struct pairs *to, struct str name) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1), found = 0;
  for (lua_pushnil(L); vm_next(L, -2); lua_pop(L, 1)) found++;
  if (found != n)
    luaL_error(L,
               "%s: %s: expected a value or a list of values, got a table with names (there are no tables in tables)",
               to->what, name.p);
  for (lua_Integer i = 1; i <= n; i++) {
    vm_burn(L, 1);
    lua_rawgeti(L, -1, i);
    add_pair(L, to, name);
    lua_pop(L, 1);
  }
}

/* The value, or list of values, at the top. */
static void add_value(lua_State *L, const struct pairs *to, struct str name) {
  if (lua_istable(L, -1))
    add_list(L, to, name);
  else
    add_pair(L, to, name);
}

/* The key below the top. */
static struct str name_of(lua_State *L, const char *what) {
  if (lua_type(L, -2) != LUA_TSTRING)
    luaL_error(L, "%s: expected { name = value, … }, got %s in place of a name", what, arg_push_noun(L, -2));
  return arg_string(L, -2, what, "name");
}

void parts_add_form(lua_State *L, int idx, struct parts *p, const char *what) {
  const struct pairs to = {p, what, percent_escape_form_byte};
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 8, what);
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) {
    vm_burn(L, 1);
    add_value(L, &to, name_of(L, what));
  }
}

static int compare_names(const void *a, const void *b) {
  const struct str *x = a, *y = b;
  const size_t n = x->n < y->n ? x->n : y->n;
  const int order = n > 0 ? memcmp(x->p, y->p, n) : 0;
  return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

/* Pushes a userdata with the names of the table at idx, sorted; they last as long as the table has them. */
static struct str *push_names(lua_State *L, int idx, const char *what, size_t *n) {
  size_t count = 0;
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) count++;
  struct str *names = lua_newuserdatauv(L, (count + 1) * sizeof *names, 0);
  *n = 0;
  for (lua_pushnil(L); vm_next(L, idx) && *n < count; lua_pop(L, 1)) {
    vm_burn(L, 1);
    names[(*n)++] = name_of(L, what);
  }
  qsort(names, *n, sizeof *names, compare_names);
  return names;
}

void parts_add_query(lua_State *L, int idx, struct parts *p, const char *what) {
  const struct pairs to = {p, what, percent_escape_byte};
  size_t n;
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 8, what);
  const struct str *names = push_names(L, idx, what, &n);
  for (size_t i = 0; i < n; i++) {
    lua_pushlstring(L, names[i].p, names[i].n);
    lua_rawget(L, idx);
    add_value(L, &to, names[i]);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}
