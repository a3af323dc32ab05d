/* http_response.c: a response as the script sees it: { status, headers, body } with :json(). Owned by the VM's thread.
 *
 * It is a plain table; only :json() and the message for a misspelt key come from a metatable, which scripts cannot reach. The headers are a userdata over a flat list { name, value, … } with lower-cased names, in the order in which they came, never changed. A
 * lookup ignores case and walks the list: a response has a dozen fields, and most are never asked for. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "lua/arg.h"
#include "lua/http_op.h"
#include "lua/l_json.h"

#define HEADERS "jeton.http.headers"
#define RESPONSE "jeton.http.response"

/* --- headers --- */

/* Pushes the lower-cased name. */
static void push_lower(lua_State *L, struct str name) {
  luaL_Buffer b;
  char *to = luaL_buffinitsize(L, &b, name.n);
  for (size_t i = 0; i < name.n; i++) to[i] = char_lower(name.p[i]);
  luaL_pushresultsize(&b, name.n);
}

/* The headers at 1, the name at 2. Leaves the list at 3 and the lower-cased name at 4. */
static lua_Integer open_list(lua_State *L) {
  (void)arg_self(L, HEADERS);
  if (lua_type(L, 2) != LUA_TSTRING) luaL_error(L, "headers: expected a header's name, got %s", arg_push_noun(L, 2));
  struct str name = arg_string(L, 2, "headers", "name");
  lua_settop(L, 2);
  lua_getiuservalue(L, 1, 1);
  push_lower(L, name);
  return (lua_Integer)lua_rawlen(L, 3);
}

static int l_all(lua_State *L) {
  lua_Integer n = open_list(L), found = 0;
  lua_newtable(L);
  for (lua_Integer i = 1; i < n; i += 2) {
    lua_rawgeti(L, 3, i);
    if (lua_rawequal(L, -1, 4)) {
      lua_rawgeti(L, 3, i + 1);
      lua_rawseti(L, 5, ++found);
    }
    lua_pop(L, 1);
  }
  return 1;
}

static int l_index(lua_State *L) {
  lua_Integer n = open_list(L);
  lua_pushliteral(L, "all");
  if (lua_rawequal(L, 4, -1)) {
    lua_pushcfunction(L, l_all);
    return 1;
  }
  for (lua_Integer i = 1; i < n; i += 2) {
    lua_rawgeti(L, 3, i);
    if (lua_rawequal(L, -1, 4)) {
      lua_rawgeti(L, 3, i + 1);
      return 1;
    }
    lua_pop(L, 1);
  }
  return 0;
}

static int l_next(lua_State *L) { /* upvalues: the list, the place */
  lua_Integer at = lua_tointeger(L, lua_upvalueindex(2));
  lua_pushinteger(L, at + 2);
  lua_replace(L, lua_upvalueindex(2));
  lua_rawgeti(L, lua_upvalueindex(1), at);
  lua_rawgeti(L, lua_upvalueindex(1), at + 1);
  return 2;
}

static int l_pairs(lua_State *L) {
  luaL_checkudata(L, 1, HEADERS);
  lua_getiuservalue(L, 1, 1);
  lua_pushinteger(L, 1);
  lua_pushcclosure(L, l_next, 2);
  return 1;
}

static int l_readonly(lua_State *L) { return luaL_error(L, "the headers of a response are read only"); }

static const luaL_Reg headers_metamethods[] = {
    {"__index", l_index}, {"__pairs", l_pairs}, {"__newindex", l_readonly}, {NULL, NULL}};

/* Pushes empty ones, and their list, of which end_headers is told. */
static void begin_headers(lua_State *L, unsigned n) {
  (void)lua_newuserdatauv(L, 0, 1);
  if (luaL_newmetatable(L, HEADERS)) {
    luaL_setfuncs(L, headers_metamethods, 0);
    lua_pushliteral(L, "headers");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  lua_createtable(L, (int)(2 * n), 0);
}

static void add_header(lua_State *L, struct str name, struct str value) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  push_lower(L, name);
  lua_rawseti(L, -2, n + 1);
  lua_pushlstring(L, value.n > 0 ? value.p : "", value.n);
  lua_rawseti(L, -2, n + 2);
}

static void end_headers(lua_State *L) { lua_setiuservalue(L, -2, 1); }

static void push_headers(lua_State *L, const struct headers *h) {
  begin_headers(L, h->n);
  for (unsigned i = 0; i < h->n; i++)
    if (h->v[i].name.p != NULL) add_header(L, h->v[i].name, h->v[i].value);
  end_headers(L);
}

void http_headers_push(lua_State *L, const struct str *fields, unsigned n) {
  begin_headers(L, n);
  for (unsigned i = 0; i < n; i++) add_header(L, fields[2 * i], fields[2 * i + 1]);
  end_headers(L);
}

/* --- the response --- */

/* The first field of that name of the response at 1, or nil. What a script has put in the place of the headers is not looked into. */
static void push_field(lua_State *L, const char *name) {
  lua_pushliteral(L, "headers");
  lua_rawget(L, 1);
  if (luaL_testudata(L, -1, HEADERS) == NULL) {
    lua_pushnil(L);
    return;
  }
  lua_getfield(L, -1, name);
}

enum { SHOWN_MAX = 60 };

/* A field's value as a message shows it: what stands before its parameters, without bytes that could be mistaken for the message's own. */
static void push_shown(lua_State *L, const char *what, struct str value) {
  char text[SHOWN_MAX + 1];
  size_t n = 0;
  while (n < value.n && n < SHOWN_MAX && value.p[n] != ';') {
    text[n] = value.p[n] > ' ' && value.p[n] <= '~' ? value.p[n] : '?';
    n++;
  }
  text[n] = '\0';
  lua_pushfstring(L, "%s %s", what, text);
}

static bool push_field_shown(lua_State *L, const char *what, const char *name) {
  push_field(L, name);
  if (lua_type(L, -1) != LUA_TSTRING) return false;
  struct str value;
  value.p = lua_tolstring(L, -1, &value.n);
  push_shown(L, what, value);
  return true;
}

/* By its mark, or by the zero byte of an ASCII character at its beginning. */
static bool is_utf16(struct str body) {
  if (body.n < 2) return false;
  return memcmp(body.p, "\xff\xfe", 2) == 0 || memcmp(body.p, "\xfe\xff", 2) == 0 ||
         (body.p[0] == '\0') != (body.p[1] == '\0');
}

/* What the body is, as far as it can be told, since "at character 1" says nothing. */
static void push_nature(lua_State *L, struct str body) {
  if (body.n == 0)
    lua_pushliteral(L, "it is empty");
  else if (is_utf16(body))
    lua_pushliteral(L, "it is UTF-16, and JSON is UTF-8 (RFC 8259 section 8.1)");
  else if (push_field_shown(L, "its Content-Encoding is", "content-encoding"))
    return;
  else if (body.n > 2 && memcmp(body.p, "\x1f\x8b", 2) == 0)
    lua_pushliteral(L, "it is compressed with gzip, and no Content-Encoding says so");
  else if (!push_field_shown(L, "its Content-Type is", "content-type"))
    lua_pushliteral(L, "it has no Content-Type");
}

static int l_json(lua_State *L) {
  struct str body;
  if (!lua_istable(L, 1)) arg_not_self(L, "jeton.response");
  lua_settop(L, 1);
  lua_pushliteral(L, "body");
  if (lua_rawget(L, 1) != LUA_TSTRING) arg_not_self(L, "jeton.response");
  body.p = lua_tolstring(L, 2, &body.n);
  int n = l_json_decode_at(L, 2);
  if (n != 3) return n;
  int message = lua_gettop(L) - 1; /* between nil and its code */
  push_nature(L, body);
  lua_pushfstring(L, "%s (%s)", lua_tostring(L, message), lua_tostring(L, -1));
  lua_replace(L, message);
  lua_settop(L, message + 1);
  return 3;
}

static int l_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "status");
  lua_getfield(L, 1, "body");
  lua_pushfstring(L, "response<%d, %I bytes>", (int)lua_tointeger(L, -2), (LUAI_UACINT)lua_rawlen(L, -1));
  return 1;
}

static int l_response_index(lua_State *L) { /* for keys that are not in the table itself */
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "json") == 0) {
    lua_pushcfunction(L, l_json);
    return 1;
  }
  return luaL_error(L, "a response has no '%s': it has status, headers, body and :json()", luaL_tolstring(L, 2, NULL));
}

/* Out of scripts' reach, since all responses of a VM share it: a __gc in it would run outside of every budget. */
static void set_metatable(lua_State *L) {
  if (luaL_newmetatable(L, RESPONSE)) {
    lua_pushcfunction(L, l_response_index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "response");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

int http_response_push(lua_State *L, struct http_op *op) {
  luaL_checkstack(L, 10, "a response");
  if (op->client_is_new) tls_choice_keep(L, &op->tls, op->client);
  if (op->error != 0) {
    char where[320];
    http_op_where(op, where, sizeof where);
    return arg_failure(L, op->error, "%s: %s", where, op->reason[0] != '\0' ? op->reason : err_text(op->error));
  }
  const struct response *r = &op->call.response;
  lua_createtable(L, 0, 3);
  set_metatable(L);
  lua_pushinteger(L, r->status);
  lua_setfield(L, -2, "status");
  push_headers(L, &r->headers);
  lua_setfield(L, -2, "headers");
  lua_pushlstring(L, op->reply.n > 0 ? (const char *)op->reply.p : "", op->reply.n);
  lua_setfield(L, -2, "body");
  return 1;
}
