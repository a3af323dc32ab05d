/* l_placed.c: see l_placed.h, and placed.h for what becomes of it. The worker's thread.
 *
 *   req:set_query(name, value)    req:set_cookie(name, value)    req:set_json(value)    req:set_form { name = value, … }    req:set_body(text)
 *
 * A value is text, or an opaque secret, which stays one; nil takes away what the client sent under that name. Text in the query becomes the request's own, as an
 * assignment to req.query would make it. A body is written as JSON or a form by the functions that jeton.http has for it. */
#include "proxy/l_placed.h"

#include <stdlib.h>
#include <string.h>

#include "base/chars.h"
#include "base/percent.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/l_json.h"
#include "lua/l_secret.h"
#include "lua/parts.h"
#include "lua/pins.h"
#include "lua/vm.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/l_try.h"
#include "proxy/placed.h"

enum { COPIED_A_STEP = 16 /* bytes of a body, charged to the time budget */ };

static struct exchange *check_time(lua_State *L, const char *what) {
  struct exchange *ex = exchange_check_request(L);
  if (ex->step > STEP_REQUEST_HOOK && !l_try_runs(L, ex))
    luaL_error(L, "%s works in on_request, and for one try in on_send: the request has been sent", what);
  return ex;
}

static struct exchange *check_body_time(lua_State *L, const char *what) {
  struct exchange *ex = exchange_check_request(L);
  if (ex->step > STEP_REQUEST_HOOK)
    luaL_error(L, "%s works in on_request only: %s", what,
               l_try_runs(L, ex) ? "every try sends the same body" : "the request has been sent");
  return ex;
}

static struct placed_in where(lua_State *L, struct exchange *ex) {
  return l_try_runs(L, ex) ? placed_of_try(ex) : placed_of_request(ex);
}

/* The secret of the value at 3, NULL: it is none. In on_send its tokens have to be there; *without: they need not, and the request goes without it. */
static struct secret *check_secret(lua_State *L, bool *without) {
  struct secret *s = l_secret_test(L, 3);
  *without = s != NULL && !pins_check(L, s);
  return *without ? NULL : s;
}

static struct str check_name(lua_State *L, const char *what) {
  struct str name = arg_string(L, 2, what, "name");
  if (name.n == 0) luaL_error(L, "%s: name: an empty string", what);
  return name;
}

/* The text of the value at 3: a string, number or boolean. */
static struct str check_text(lua_State *L, const char *what, struct str name) {
  struct str s;
  int type = lua_type(L, 3);
  if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
    arg_wrong(L, what, name.p, "a string, number, boolean or secret, or nil for none", 3);
  s.p = luaL_tolstring(L, 3, &s.n);
  l_secret_check_text(L, s);
  return s;
}

static void too_much(lua_State *L, const char *what) {
  luaL_error(L, "%s: with all secrets in it that is more than %d parts or %d bytes", what, SECRET_PARTS_MAX,
             SECRET_BYTES_MAX);
}

/* --- the query --- */

static void add_escaped(luaL_Buffer *b, struct str s) {
  char piece[PERCENT_MAX];
  for (size_t i = 0; i < s.n; i++) luaL_addlstring(b, piece, percent_escape_byte((unsigned char)s.p[i], piece));
}

static void set_text(lua_State *L, struct exchange *ex, struct str *query, struct str name, struct str text) {
  luaL_Buffer b;
  vm_burn(L, (name.n + text.n) / 4);
  luaL_buffinit(L, &b);
  if (query->n > 0) {
    luaL_addlstring(&b, query->p, query->n);
    luaL_addchar(&b, '&');
  }
  add_escaped(&b, name);
  luaL_addchar(&b, '=');
  add_escaped(&b, text);
  luaL_pushresult(&b);
  *query = exchange_dup(L, ex, -1);
}

static int l_set_query(lua_State *L) {
  static const char what[] = "req:set_query(name, value)";
  struct exchange *ex = check_time(L, what);
  lua_settop(L, 3);
  struct str name = check_name(L, what);
  bool without;
  struct secret *s = check_secret(L, &without);
  if (ex->request.is_connect || ex->request.path.n == 0 || ex->request.path.p[0] != '/')
    return luaL_error(L, "%s: the target of this request has no query: %s", what, ex->request.method.p);
  struct str text = s == NULL && !without && !lua_isnil(L, 3) ? check_text(L, what, name) : (struct str){0};
  struct placed_in in = where(L, ex);
  struct str *query = &in.request->query;
  exchange_charge(L, ex, query->n + 2 * name.n);
  vm_burn(L, query->n / 4);
  if (!placed_query_set(in, name, s)) too_much(L, what);
  if (s != NULL || without) return 0;
  *query = query_without(in.arena, *query, name);
  if (text.p != NULL) set_text(L, ex, query, name, text);
  return 0;
}

/* --- cookies --- */

static bool fits_a_cookie(struct str s) {
  for (size_t i = 0; i < s.n; i++)
    if (!char_in_cookie(s.p[i])) return false;
  return true;
}

static int l_set_cookie(lua_State *L) {
  static const char what[] = "req:set_cookie(name, value)";
  struct exchange *ex = check_time(L, what);
  lua_settop(L, 3);
  struct str name = check_name(L, what);
  bool without;
  struct secret *s = check_secret(L, &without);
  if (!chars_all(name, CHAR_TOKEN))
    return luaL_error(L, "%s: '%s' is not a cookie's name (RFC 6265 section 4.1.1)", what, name.p);
  struct str text = s == NULL && !without && !lua_isnil(L, 3) ? check_text(L, what, name) : (struct str){0};
  if (!fits_a_cookie(text))
    return luaL_error(L,
                      "%s: %s: a blank, quote, comma, semicolon, backslash or control byte cannot stand in a cookie: "
                      "encode it, as jeton.base64.encode_url does",
                      what, name.p);
  struct placed_in in = where(L, ex);
  const struct header *h = headers_find_id(&in.request->headers, H_COOKIE);
  exchange_charge(L, ex, 2 * name.n + text.n + (h != NULL ? h->value.n : 0));
  if (!without && !placed_cookie_set(in, name, s, text)) too_much(L, what);
  return 0;
}

/* --- the body --- */

static struct parts *push_parts(lua_State *L) {
  struct parts *p = parts_guard(L);
  lua_toclose(L, lua_gettop(L)); /* the collector does not see how much it holds */
  return p;
}

/* The client's fields say of its own body what does not hold for this one. */
static void describe_body(struct exchange *ex, struct str type) {
  struct headers *hs = &ex->request.headers;
  static const struct str of_the_old[] = {
      {"Content-Encoding", 16}, {"Content-Digest", 14}, {"Digest", 6}, {"Content-MD5", 11}};
  for (size_t i = 0; i < sizeof of_the_old / sizeof *of_the_old; i++) headers_remove(hs, of_the_old[i]);
  headers_set(hs, STR("Content-Type"), type);
}

static int set_parts(lua_State *L, struct exchange *ex, struct parts *p, struct str type, const char *what) {
  struct secret *s = parts_secret(p);
  if (p->full) {
    secret_unref(s);
    return luaL_error(L, "%s: more than there is room for within limits.memory", what);
  }
  if (p->has_secret && s == NULL) too_much(L, what);
  if (s != NULL)
    request_body_replace_secret(&ex->body, s);
  else
    request_body_replace(&ex->body, buf_str(&p->text));
  secret_unref(s);
  describe_body(ex, type);
  return 0;
}

static int l_set_json(lua_State *L) {
  static const char what[] = "req:set_json(value)";
  struct exchange *ex = check_body_time(L, what);
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  struct parts *p = push_parts(L);
  const char *wrong = l_json_add(L, 2, p);
  if (wrong != NULL && !p->full) return luaL_error(L, "%s: JSON cannot hold %s", what, wrong);
  return set_parts(L, ex, p, STR("application/json"), what);
}

static int l_set_form(lua_State *L) {
  static const char what[] = "req:set_form";
  struct exchange *ex = check_body_time(L, what);
  lua_settop(L, 2);
  if (!lua_istable(L, 2)) arg_wrong(L, what, "argument", "a table of names and values", 2);
  struct parts *p = push_parts(L);
  parts_add_form(L, 2, p, what);
  return set_parts(L, ex, p, STR("application/x-www-form-urlencoded"), what);
}

static int l_set_body(lua_State *L) {
  struct exchange *ex = check_body_time(L, "req:set_body");
  struct secret *s = l_secret_test(L, 2);
  struct str text = {0};
  if (s == NULL && !lua_isstring(L, 2))
    return luaL_error(L, "req:set_body: body: expected a string or a secret, got %s%s", arg_push_noun(L, 2),
                      lua_istable(L, 2) ? " (req:set_json and req:set_form take one)" : "");
  if (s == NULL) text.p = lua_tolstring(L, 2, &text.n);
  vm_burn(L, text.n / COPIED_A_STEP);
  if (s != NULL)
    request_body_replace_secret(&ex->body, s);
  else
    request_body_replace(&ex->body, text);
  return 0;
}

const luaL_Reg l_placed_methods[] = {{"set_query", l_set_query}, {"set_cookie", l_set_cookie}, {"set_json", l_set_json},
                                     {"set_form", l_set_form},   {"set_body", l_set_body},     {NULL, NULL}};
