/* l_url.c: jeton.url, over base/percent.h, net/reference.h and net/url.h.
 *
 *   escape(text, keep)         -> each byte but letters, digits, "-._~" and those in `keep` as %XX; of a secret a secret
 *   unescape(text, { form = }) -> bytes, or nil, message, code
 *   query(table)               -> "a=1&b=2"; query(text) -> { name = value }, { { name, value }, … }
 *   parse(text)                -> the parts of an absolute URL, or nil, message, code
 *   join(base, reference)      -> where a link or Location leads, or nil, message, code
 *
 * What parse and join give is text for other servers as well, with schemes that jeton does not speak: so they are no wider in what they take for a host than
 * jeton's own URLs are, but know any scheme, userinfo and fragments. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/buf.h"
#include "base/chars.h"
#include "base/err.h"
#include "base/percent.h"
#include "lua/arg.h"
#include "lua/compute.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/parts.h"
#include "lua/vm.h"
#include "net/reference.h"
#include "net/url.h"

/* A text, where a secret is a mistake that is worth a word. */
static struct str text_at(lua_State *L, int idx, const char *what, const char *key) {
  if (l_secret_test(L, idx) != NULL)
    luaL_error(L, "%s: %s: a secret: URLs show in logs and messages; put it into a header or the body", what, key);
  return arg_string(L, idx, what, key);
}

static void set_text(lua_State *L, const char *key, struct str s) {
  if (s.p == NULL) return;
  lua_pushlstring(L, s.p, s.n);
  lua_setfield(L, -2, key);
}

/* --- percent-encoding --- */

/* The reserved characters of RFC 3986 section 2.2 that are to stay. */
static void read_keep(lua_State *L, int idx, bool keep[256]) {
  static const char what[] = "jeton.url.escape";
  memset(keep, 0, 256 * sizeof *keep);
  if (lua_isnoneornil(L, idx)) return;
  struct str s = arg_string(L, idx, what, "keep");
  for (size_t i = 0; i < s.n; i++) {
    if (s.p[i] == '\0' || strchr(":/?#[]@!$&'()*+,;=", s.p[i]) == NULL)
      luaL_error(L, "%s: keep: expected some of :/?#[]@!$&'()*+,;= (letters, digits and -._~ always stay)", what);
    keep[(unsigned char)s.p[i]] = true;
  }
}

/* What is to stay is seldom said of a secret, and is no part of its tree of encodings: it is encoded now. */
static int escape_keeping(lua_State *L, const bool keep[256]) {
  struct compute c = {.what = "url"};
  const struct operand *o = compute_operand(L, 1, &c);
  struct buf out;
  char piece[PERCENT_MAX];
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  buf_init(&out);
  out.sensitive = true;
  for (size_t i = 0; i < o->bytes.n; i++) {
    unsigned char b = (unsigned char)o->bytes.p[i];
    if (keep[b])
      buf_add(&out, &o->bytes.p[i], 1);
    else
      buf_add(&out, piece, percent_escape_byte(b, piece));
  }
  struct secret *s = compute_secret(L, &c, out.p, out.n);
  buf_fini(&out);
  compute_end(&c);
  l_secret_push(L, s);
  return 1;
}

static int l_escape(lua_State *L) {
  bool keep[256];
  char piece[PERCENT_MAX];
  struct secret *secret = l_secret_test(L, 1);
  read_keep(L, 2, keep);
  if (secret != NULL && !lua_isnoneornil(L, 2)) return escape_keeping(L, keep);
  if (secret != NULL) {
    l_secret_push(L, secret_encode(secret, SECRET_URL));
    return 1;
  }
  struct str s = arg_string(L, 1, "jeton.url.escape", "text");
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];
    if (keep[c])
      luaL_addchar(&b, s.p[i]);
    else
      luaL_addlstring(&b, piece, percent_escape_byte(c, piece));
  }
  luaL_pushresult(&b);
  return 1;
}

static const char BAD_PERCENT[] = "a \"%\" without two hexadecimal digits behind it (one that is meant is written %25)";

static int l_unescape(lua_State *L) {
  static const char what[] = "jeton.url.unescape";
  static const char *const known[] = {"form", NULL};
  struct str s = text_at(L, 1, what, "text");
  arg_options(L, 2, what, "{ form = true }", known);
  const bool form = arg_field_bool(L, 2, what, "form", false);
  luaL_Buffer b;
  size_t n;
  const bool fine = percent_unescape(s, form, luaL_buffinitsize(L, &b, s.n + 1), &n);
  luaL_pushresultsize(&b, fine ? n : 0);
  return fine ? 1 : arg_failure(L, UV_EINVAL, "%s", BAD_PERCENT);
}

/* --- queries --- */

static int query_of_table(lua_State *L) {
  struct parts *p = parts_guard(L);
  const int guard = lua_gettop(L);
  lua_toclose(L, guard);
  parts_add_query(L, 1, p, "jeton.url.query");
  if (p->has_secret)
    luaL_error(
        L,
        "jeton.url.query: a secret: URLs show in logs and messages; req:set_query(name, secret) and jeton.http's "
        "query = { … } take it");
  if (p->full) return arg_failure(L, ERR_LIMIT, "jeton.url.query: no room within limits.memory");
  lua_pushlstring(L, (const char *)p->text.p, p->text.n);
  return 1;
}

/* Pushes the text, decoded. False: it cannot be. */
static bool push_decoded(lua_State *L, struct str s) {
  luaL_Buffer b;
  size_t n;
  const bool fine = percent_unescape(s, true, luaL_buffinitsize(L, &b, s.n + 1), &n);
  luaL_pushresultsize(&b, fine ? n : 0);
  return fine;
}

/* The pair "name=value" (or a name alone, whose value is empty) into the tables at 2 and 3. */
static bool add_decoded(lua_State *L, struct str pair, lua_Integer at) {
  const char *mark = memchr(pair.p, '=', pair.n);
  size_t n = mark != NULL ? (size_t)(mark - pair.p) : pair.n;
  struct str name = {pair.p, n}, value = mark != NULL ? (struct str){mark + 1, pair.n - n - 1} : STR("");
  lua_createtable(L, 2, 0);
  if (!push_decoded(L, name)) return false;
  lua_rawseti(L, 4, 1);
  if (!push_decoded(L, value)) return false;
  lua_rawseti(L, 4, 2);
  lua_rawgeti(L, 4, 1);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, 2) == LUA_TNIL) { /* the first of several */
    lua_pop(L, 1);
    lua_rawgeti(L, 4, 2);
    lua_rawset(L, 2);
  } else {
    lua_pop(L, 2);
  }
  lua_rawseti(L, 3, at);
  return true;
}

static int query_of_text(lua_State *L) {
  struct str s = text_at(L, 1, "jeton.url.query", "query");
  lua_settop(L, 1);
  lua_newtable(L);
  lua_newtable(L);
  for (lua_Integer count = 0; s.n > 0;) {
    const char *mark = memchr(s.p, '&', s.n);
    struct str pair = {s.p, mark != NULL ? (size_t)(mark - s.p) : s.n};
    s = mark != NULL ? (struct str){mark + 1, s.n - pair.n - 1} : (struct str){s.p + s.n, 0};
    vm_burn(L, 4);
    if (pair.n > 0 && !add_decoded(L, pair, ++count)) return arg_failure(L, UV_EINVAL, "%s", BAD_PERCENT);
  }
  return 2;
}

static int l_query(lua_State *L) {
  if (lua_istable(L, 1)) return query_of_table(L);
  if (lua_type(L, 1) != LUA_TSTRING && l_secret_test(L, 1) == NULL)
    arg_wrong(L, "jeton.url.query", "query", "a table to write, or a text to read", 1);
  return query_of_text(L);
}

/* --- parts --- */

static uint16_t usual_port(struct str scheme) {
  if (str_ieq(scheme, STR("http")) || str_ieq(scheme, STR("ws"))) return 80;
  return str_ieq(scheme, STR("https")) || str_ieq(scheme, STR("wss")) ? 443 : 0;
}

/* Splits "user@host:port". NULL, or what is wrong. */
static const char *read_authority(const struct reference *r, struct str *userinfo, struct str *host, uint16_t *port) {
  struct str s = r->authority;
  *userinfo = (struct str){0};
  if (r->scheme.p == NULL || s.p == NULL) return "expected an absolute URL, such as \"https://api.example.com/x\"";
  for (size_t i = s.n; i > 0; i--) {
    if (s.p[i - 1] != '@') continue;
    *userinfo = (struct str){s.p, i - 1};
    s = (struct str){s.p + i, s.n - i};
    break;
  }
  if (userinfo->p != NULL && memchr(userinfo->p, '@', userinfo->n) != NULL)
    return "the URL has two \"@\" before its host";
  if (s.n == 0) return "the URL has no host";
  return host_split(s, host, port) ? NULL : "the URL has no valid host and port";
}

static void push_lower(lua_State *L, struct str s) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (size_t i = 0; i < s.n; i++) luaL_addchar(&b, char_lower(s.p[i]));
  luaL_pushresult(&b);
}

static const char *check_bytes(struct str s) {
  return chars_all(s, CHAR_TARGET) ? NULL : "a byte that has to be percent-encoded (jeton.url.escape does that)";
}

static int l_parse(lua_State *L) {
  struct reference r;
  struct str userinfo, host;
  uint16_t port;
  struct str s = text_at(L, 1, "jeton.url.parse", "url");
  reference_split(s, &r);
  const char *wrong = check_bytes(s);
  if (wrong == NULL) wrong = read_authority(&r, &userinfo, &host, &port);
  if (wrong != NULL) return arg_failure(L, UV_EINVAL, "%s", wrong);
  lua_createtable(L, 0, 7);
  push_lower(L, r.scheme);
  lua_setfield(L, -2, "scheme");
  push_lower(L, host);
  lua_setfield(L, -2, "host");
  if (port == 0) port = usual_port(r.scheme);
  if (port != 0) {
    lua_pushinteger(L, port);
    lua_setfield(L, -2, "port");
  }
  set_text(L, "userinfo", userinfo);
  set_text(L, "path", r.path);
  set_text(L, "query", r.query);
  set_text(L, "fragment", r.fragment);
  return 1;
}

static int l_join(lua_State *L) {
  static const char what[] = "jeton.url.join";
  struct reference r;
  struct str userinfo, host;
  uint16_t port;
  struct str base = text_at(L, 1, what, "base"), to = text_at(L, 2, what, "reference");
  reference_split(base, &r);
  const char *wrong = check_bytes(base);
  if (wrong == NULL) wrong = check_bytes(to);
  if (wrong == NULL) wrong = read_authority(&r, &userinfo, &host, &port);
  if (wrong != NULL) return arg_failure(L, UV_EINVAL, "%s", wrong);
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, base.n + to.n + REFERENCE_MORE);
  luaL_pushresultsize(&b, reference_join(base, to, out));
  return 1;
}

static const luaL_Reg functions[] = {
    {"escape", l_escape}, {"unescape", l_unescape}, {"query", l_query},
    {"parse", l_parse},   {"join", l_join},         {NULL, NULL},
};

int l_url_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
