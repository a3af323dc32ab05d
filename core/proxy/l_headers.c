/* l_headers.c: see l_headers.h. Owned by the worker's thread.
 *
 * What frames a message or belongs to one hop is jeton's: a script that sets it is told so, with its line (spec/README.md, 49). A request's header may be a
 * secret, which stays one; a response's may not, since its bytes would go to the client. */
#include "proxy/l_headers.h"

#include <lauxlib.h>

#include "lua/arg.h"
#include "lua/l_secret.h"
#include "lua/pins.h"
#include "lua/type.h"
#include "lua/vm.h"
#include "net/url.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/l_try.h"
#include "proxy/steps.h"
#include "proxy/try.h"

static const char HEADERS_TYPE[] = "jeton.headers";

struct l_headers {
  struct exchange_handle handle;
  bool of_response;
};

static struct headers *list_of(lua_State *L, struct exchange *ex, const struct l_headers *h) {
  return h->of_response ? &ex->response.headers : &l_try_request(L, ex)->headers;
}

static struct exchange *exchange_of(lua_State *L, const struct l_headers *h) {
  return exchange_handle_check(L, &h->handle, h->of_response ? "response" : "request");
}

void l_headers_push(lua_State *L, struct exchange *ex, bool of_response) {
  struct l_headers *h = lua_newuserdatauv(L, sizeof *h, 0);
  h->handle.exchange = ex;
  h->handle.serial = ex->place.serial;
  h->of_response = of_response;
  type_set(L, HEADERS_TYPE);
}

static struct str check_name(lua_State *L, int idx) {
  struct str name;
  if (lua_type(L, idx) != LUA_TSTRING)
    luaL_error(L, "headers: expected a header's name, got %s", arg_push_noun(L, idx));
  name.p = lua_tolstring(L, idx, &name.n);
  return name;
}

struct str l_headers_check_name(lua_State *L, int idx, bool of_response, enum header_id *known) {
  struct str name = check_name(L, idx);
  if (!header_name_valid(name)) luaL_error(L, "'%s' is not a header name (RFC 9110 section 5.1)", name.p);
  const enum header_id id = header_id(name);
  if (header_traits[id] & HEADER_OURS)
    luaL_error(L, "header '%s' is set by jeton itself: it frames the message or belongs to one hop", name.p);
  if (of_response && id == H_HOST) luaL_error(L, "a response has no header 'host'");
  *known = id;
  return name;
}

static void refuse_value(lua_State *L, int idx, struct str name) {
  if (l_secret_test(L, idx) != NULL)
    luaL_error(L, "a secret cannot go into a response: its bytes would reach the client");
  luaL_error(L, "header '%s': expected a string or a number, or nil for none, got %s", name.p, arg_push_noun(L, idx));
}

void l_headers_check_plain(lua_State *L, int idx, struct str name) {
  struct str value;
  if (!lua_isstring(L, idx)) refuse_value(L, idx, name);
  value.p = lua_tolstring(L, idx, &value.n);
  if (!header_value_valid(value))
    luaL_error(L, "a header value may not hold CR, LF, NUL or other control bytes (RFC 9110 section 5.5)");
}

static void push_value(lua_State *L, const struct header *h) {
  if (h->secret != NULL)
    l_secret_push(L, secret_ref(h->secret));
  else
    lua_pushlstring(L, h->value.p, h->value.n);
}

static int l_index(lua_State *L) {
  const struct l_headers *self = lua_touserdata(L, 1);
  struct exchange *ex = exchange_of(L, self);
  struct str name = check_name(L, 2);
  const struct header *h = headers_find(list_of(L, ex, self), name);
  if (h != NULL) {
    push_value(L, h);
    return 1;
  }
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1)); /* methods */
  return 1;
}

/* What goes out in place of the server's own name; of this try or of the request. */
static struct str *host_of(lua_State *L, struct exchange *ex) { return l_try_runs(L, ex) ? &ex->try->host : &ex->host; }

static void set_host(lua_State *L, struct exchange *ex) {
  struct str host = exchange_dup(L, ex, 3);
  if (!host_valid(host)) luaL_error(L, "header 'host': expected a host name with an optional port");
  *host_of(L, ex) = host;
}

/* No request goes without one. */
static void forget_host(lua_State *L, struct exchange *ex, struct headers *list) {
  *host_of(L, ex) = (struct str){NULL, 0};
  if (l_try_runs(L, ex)) headers_set(list, STR("Host"), request_host(ex));
}

static void check_time(lua_State *L, const struct exchange *ex, bool of_response) {
  if (of_response) l_exchange_refuse_in_judge(L, ex, "res.headers");
  if (of_response && ex->replied) luaL_error(L, "the response has been sent");
  if (!of_response && ex->step > STEP_REQUEST_HOOK && !l_try_runs(L, ex) && !l_try_may_retry(L, ex))
    luaL_error(L,
               "a request's headers can be changed in on_request, for one try in on_send, and in on_response before "
               "req:retry()");
}

static int l_newindex(lua_State *L) {
  const struct l_headers *self = lua_touserdata(L, 1);
  struct exchange *ex = exchange_of(L, self);
  struct headers *list = list_of(L, ex, self);
  enum header_id id;
  struct str name = l_headers_check_name(L, 2, self->of_response, &id);
  check_time(L, ex, self->of_response);
  const bool is_host = !self->of_response && id == H_HOST;
  if (!self->of_response) l_try_changed(L, ex);
  if (lua_isnil(L, 3)) {
    headers_remove(list, name);
    if (is_host) forget_host(L, ex, list);
    return 0;
  }
  if (!self->of_response && !is_host && (header_traits[id] & HEADER_NOT_IN_REQUEST) != 0)
    luaL_error(L,
               "header '%s' is for a proxy, and goes to no upstream: a parent proxy's credentials stand in proxy = …",
               name.p);
  if (!self->of_response) headers_remove_twins(list, name, false);
  struct secret *s = self->of_response ? NULL : l_secret_test(L, 3);
  if (s != NULL) {
    if (is_host)
      luaL_error(L,
                 "header 'host': a secret cannot stand there: it says for which site the request is, and shows in "
                 "logs; put the secret into another header");
    if (pins_check(L, s))
      headers_set_secret(list, exchange_dup(L, ex, 2), s);
    else
      headers_remove(list, name);
    return 0;
  }
  l_headers_check_plain(L, 3, name);
  struct str value = exchange_dup(L, ex, 3);
  if (!self->of_response) l_secret_check_text(L, value);
  headers_set(list, exchange_dup(L, ex, 2), value);
  if (is_host) set_host(L, ex);
  return 0;
}

static int l_all(lua_State *L) {
  const struct l_headers *self = type_check(L, HEADERS_TYPE);
  const struct headers *list = list_of(L, exchange_of(L, self), self);
  struct str name = check_name(L, 2);
  lua_newtable(L);
  lua_Integer found = 0;
  for (unsigned i = 0; i < list->n; i++) {
    if (list->v[i].name.p == NULL || !str_ieq(list->v[i].name, name)) continue;
    push_value(L, &list->v[i]);
    lua_rawseti(L, -2, ++found);
  }
  return 1;
}

/* Upvalue 1: the headers, upvalue 2: the index of the next field. */
static int l_next(lua_State *L) {
  const struct l_headers *self = lua_touserdata(L, lua_upvalueindex(1));
  const struct headers *list = list_of(L, exchange_of(L, self), self);
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
  while (i < (lua_Integer)list->n && list->v[i].name.p == NULL) i++;
  lua_pushinteger(L, i + 1);
  lua_replace(L, lua_upvalueindex(2));
  if (i >= (lua_Integer)list->n) return 0;
  lua_pushlstring(L, list->v[i].name.p, list->v[i].name.n);
  push_value(L, &list->v[i]);
  return 2;
}

static int l_pairs(lua_State *L) {
  type_check(L, HEADERS_TYPE);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, l_next, 2);
  return 1;
}

static const luaL_Reg methods[] = {{"all", l_all}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__newindex", l_newindex}, {"__pairs", l_pairs}, {NULL, NULL}};

int l_headers_open(lua_State *L) {
  type_new(L, HEADERS_TYPE);
  luaL_setfuncs(L, metamethods, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_pushcclosure(L, l_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  return 0;
}
