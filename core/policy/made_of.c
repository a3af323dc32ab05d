/* made_of.c: see made_of.h. Control's thread.
 *
 * A digest lives as long as the process and stands nowhere, so it is two SipHashes under fixed keys: nobody who could make two policies that collide gains by it. A
 * table's is the sum of its pairs' digests, which needs no order of its keys. Tables are read raw.
 *
 * What a function refers to (upvalues, globals, modules) is not in it: it may be anything, and changes while it runs. The key `version` is for that. */
#include "policy/made_of.h"

#include <lauxlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "policy/lex.h"

enum { DEPTH_MAX = 16 };

struct reading {
  const struct policy *policy;
  lua_State *L;
  struct buf *text; /* sensitive: a stack of what is being digested */
};

static void digest_from(const struct reading *r, size_t at, uint64_t out[2]) {
  static const struct hash_key keys[2] = {{{1, 2}}, {{3, 4}}};
  struct str s = {(const char *)r->text->p + at, r->text->n - at};
  for (int i = 0; i < 2; i++) out[i] = siphash(&keys[i], s, 2, 4);
}

static const struct source *source_of(const struct reading *r, const lua_Debug *ar) {
  const char *chunk = ar->source[0] == '@' || ar->source[0] == '=' ? ar->source + 1 : ar->source;
  for (size_t i = 0; i < r->policy->nsources; i++)
    if (strcmp(r->policy->sources[i].chunk, chunk) == 0) return &r->policy->sources[i];
  return NULL;
}

static bool opens(const struct lex *l) {
  return lex_is(l, "function") || lex_is(l, "if") || lex_is(l, "do") || lex_is(l, "repeat");
}

/* From the keyword `function` to behind its `end`. */
static void skip_function(struct lex *l) {
  unsigned depth = 0;
  for (; l->kind != TOKEN_END; lex_next(l)) {
    if (opens(l)) depth++;
    if ((lex_is(l, "end") || lex_is(l, "until")) && --depth == 0) return;
  }
}

static void add_tokens(const struct reading *r, struct lex l, const struct lex *end) {
  for (; l.kind != TOKEN_END && l.p <= end->p; lex_next(&l)) {
    buf_addf(r->text, "%d:%zu:", (int)l.kind, l.text.n);
    buf_adds(r->text, l.text);
  }
}

/* Lua tells the lines of a function and no more: where several have the same, all of them are taken. */
static void add_function(const struct reading *r, int idx) {
  lua_Debug ar;
  lua_pushvalue(r->L, idx);
  (void)lua_getinfo(r->L, ">S", &ar);
  const struct source *source = source_of(r, &ar);
  if (source == NULL) {
    buf_addf(r->text, "%s:%d", ar.source, ar.linedefined);
    return;
  }
  struct lex lex;
  lex_init(&lex, source->text);
  for (; lex.kind != TOKEN_END && lex.at <= (unsigned)ar.linedefined; lex_next(&lex)) {
    if (lex.at != (unsigned)ar.linedefined || !lex_is(&lex, "function")) continue;
    struct lex end = lex;
    skip_function(&end);
    if (end.at == (unsigned)ar.lastlinedefined) add_tokens(r, lex, &end);
  }
}

static const char *add_value(const struct reading *r, int idx, int depth);

static const char *add_table(const struct reading *r, int idx, int depth) {
  uint64_t sum[2] = {0, 0}, one[2];
  lua_State *L = r->L;
  if (depth >= DEPTH_MAX) return "a table that is nested too deep";
  luaL_checkstack(L, 6, "a table nested too deep");
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    size_t at = r->text->n;
    const char *wrong = add_value(r, lua_gettop(L) - 1, depth + 1);
    if (wrong == NULL) wrong = add_value(r, lua_gettop(L), depth + 1);
    if (wrong != NULL) return wrong;
    digest_from(r, at, one);
    r->text->n = at;
    sum[0] += one[0];
    sum[1] += one[1];
  }
  buf_add(r->text, sum, sizeof sum);
  return NULL;
}

static void add_text(const struct reading *r, int idx) {
  struct str s;
  lua_pushvalue(r->L, idx); /* converting a key itself would confuse lua_next */
  s.p = lua_tolstring(r->L, -1, &s.n);
  buf_addf(r->text, "%zu:", s.n);
  buf_adds(r->text, s);
  lua_pop(r->L, 1);
}

static const char *add_value(const struct reading *r, int idx, int depth) {
  lua_State *L = r->L;
  int type = lua_type(L, idx);
  struct secret *secret = NULL;
  buf_addf(r->text, "%d ", type);
  switch (type) {
    case LUA_TBOOLEAN: buf_addz(r->text, lua_toboolean(L, idx) ? "true" : "false"); return NULL;
    case LUA_TNUMBER:
    case LUA_TSTRING: add_text(r, idx); return NULL;
    case LUA_TTABLE: return add_table(r, idx, depth);
    case LUA_TFUNCTION: add_function(r, idx); return NULL;
    case LUA_TUSERDATA:
      secret = l_secret_test(L, idx);
      if (secret == NULL) return "a userdata";
      secret_describe(secret, r->text);
      return NULL;
    case LUA_TLIGHTUSERDATA: return NULL; /* jeton.json.null */
    default: return luaL_typename(L, idx);
  }
}

const char *made_of_value(const struct policy *p, lua_State *L, int idx, uint64_t digest[2]) {
  int top = lua_gettop(L);
  idx = lua_absindex(L, idx);
  struct reading r = {p, L, guard_buf(L)};
  const char *wrong = add_value(&r, idx, 0);
  if (wrong == NULL) digest_from(&r, 0, digest);
  lua_settop(L, top + 1);
  guard_close(L, -1);
  lua_settop(L, top);
  return wrong;
}
