/* l_exchange.c: see l_exchange.h. Owned by the worker's thread.
 *
 * The index functions trust their first argument: scripts cannot get hold of them, since the metatables are hidden (__metatable); methods check. What a
 * script sets is copied into the exchange's arena, whose growth is bounded by SCRIPT_ARENA_MAX. */
#include "proxy/l_exchange.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "lua/arg.h"
#include "lua/budget.h"
#include "lua/l_secret.h"
#include "lua/pins.h"
#include "lua/type.h"
#include "lua/vm.h"
#include "net/tls.h"
#include "net/url.h"
#include "proxy/client.h"
#include "proxy/forward.h"
#include "proxy/l_headers.h"
#include "proxy/l_placed.h"
#include "proxy/l_try.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"

enum { COPIED_A_STEP = 16 /* bytes of a body, charged to the time budget */ };
static const char REQUEST_TYPE[] = "jeton.request", RESPONSE_TYPE[] = "jeton.response";

struct exchange *exchange_handle_check(lua_State *L, const struct exchange_handle *h, const char *what) {
  if (h->exchange->place.serial != h->serial)
    luaL_error(L, "this %s is over: keep what you need of it in a local before its exchange ends", what);
  return h->exchange;
}

static void push_handle(lua_State *L, struct exchange *ex, const char *type) {
  struct exchange_handle *h =
      lua_newuserdatauv(L, sizeof *h, 1); /* user value 1: its headers, once they are asked for */
  h->exchange = ex;
  h->serial = ex->place.serial;
  type_set(L, type);
}

static struct exchange *check_self(lua_State *L, const char *type, const char *what) {
  return exchange_handle_check(L, type_check(L, type), what);
}

static void push_str(lua_State *L, struct str s) {
  if (s.p == NULL)
    lua_pushnil(L);
  else
    lua_pushlstring(L, s.p, s.n);
}

struct exchange *exchange_check_request(lua_State *L) {
  return check_self(L, REQUEST_TYPE, "request");
}

void exchange_charge(lua_State *L, const struct exchange *ex, size_t n) {
  enum { SCRIPT_ARENA_MAX = 1024 * 1024 };
  if (ex->arena.used + n > SCRIPT_ARENA_MAX) luaL_error(L, "one exchange may set at most 1 MiB of fields");
}

struct str exchange_dup(lua_State *L, struct exchange *ex, int idx) {
  struct str s;
  s.p = luaL_checklstring(L, idx, &s.n);
  exchange_charge(L, ex, s.n);
  return arena_dup(&ex->arena, s);
}

/* --- bodies: req:body(), res:body() --- */

int body_wait_push(lua_State *L, void *arg) {
  struct body_wait *w = arg;
  struct exchange *ex = w->ex;
  const struct buf *b = w == &ex->body.wait ? &ex->body.bytes : &ex->reply.bytes;
  if (w->error == ERR_LIMIT) return push_failure(L, ERR_LIMIT, "the body is over limits.script_body");
  if (w->error != 0) return push_failure(L, w->error, "the body broke off");
  if (w == &ex->body.wait && l_try_runs(L, ex)) {
    pins_waited(L);
    try_show_own(ex); /* it goes with its length now */
  }
  if (w == &ex->body.wait && ex->body.secret != NULL)
    l_secret_push(L, secret_ref(ex->body.secret)); /* what a hook has set */
  else
    lua_pushlstring(L, (const char *)b->p, b->n);
  return 1;
}

static void cancel_body_wait(struct await *a) { CONTAINER_OF(a, struct body_wait, await)->waiting = false; }

/* The bytes may be at hand already, but an await may only end from the loop, where the reading begins. */
static int wait_for_body(lua_State *L, struct exchange *ex, struct body_wait *w) {
  if (w->waiting) return luaL_error(L, "this body is awaited already");
  w->ex = ex;
  w->error = 0;
  await_begin_pinned(L, &w->await, cancel_body_wait);
  if (l_try_runs(L, ex)) ex->try->suspended = true;
  w->waiting = true;
  later_post(&ex->worker->later, &ex->nudge);
  return await_yield(L, &w->await);
}

static bool over_script_limit(const struct exchange *ex, enum http_framing framing, uint64_t length) {
  return framing == FRAMING_LENGTH && length > ex->runtime->policy->limits.script_body;
}

static int l_request_body(lua_State *L) {
  struct exchange *ex = check_self(L, REQUEST_TYPE, "request");
  struct request_body *b = &ex->body;
  struct body_wait *w = &b->wait;
  bool ours = b->place == BODY_REPLACED;
  w->ex = ex;
  w->error = 0;
  if (b->place == BODY_GONE)
    return push_failure(L, ERR_CLOSED, "the body has gone to the upstream: call req:body() in on_request");
  if (b->place >= BODY_DROPPED || (ex->failure.status != 0 && !b->complete && !ours)) {
    bool left = ex->down->exchange != ex;
    return push_failure(L, ERR_CLOSED,
                        left ? "the client has left, or has its reply"
                             : "the body is not read any more: call req:body() in on_request");
  }
  if (!ours && (over_script_limit(ex, ex->request.framing, ex->request.content_length) ||
                b->bytes.n > ex->runtime->policy->limits.script_body))
    w->error = ERR_LIMIT;
  if (ours || b->complete || w->error != 0) return body_wait_push(L, w);
  if (b->place == BODY_KEPT)
    return push_failure(L, ERR_CLOSED, "the body is on its way to the upstream: call req:body() in on_request");
  if (ex->down->exchange != ex) /* a closing variable, or on_log, with a handle that a script has kept */
    return push_failure(L, ERR_CLOSED, "the client has left, or has its reply");
  b->place = BODY_GATHERED;
  request_body_continue(ex);
  return wait_for_body(L, ex, w);
}

static int l_response_body(lua_State *L) {
  struct exchange *ex = check_self(L, RESPONSE_TYPE, "response");
  struct reply_body *b = &ex->reply;
  struct body_wait *w = &b->wait;
  w->ex = ex;
  w->error = 0;
  if (ex->call.phase == CALL_TUNNEL) { /* it has none */
    lua_pushliteral(L, "");
    return 1;
  }
  if (b->source != REPLY_UPSTREAM || b->flow == REPLY_ENDED) return body_wait_push(L, w);
  l_exchange_refuse_in_judge(L, ex, "res:body");
  if (ex->step != STEP_RESPONSE_HOOK)
    return push_failure(L, ERR_CLOSED, "the body has gone to the client: call res:body() in on_response");
  if (over_script_limit(ex, ex->response.framing, ex->response.content_length)) w->error = ERR_LIMIT;
  if (b->bytes.n > 0) w->error = ERR_LIMIT; /* an earlier call gave up */
  if (b->broke != 0) w->error = b->broke;
  if (w->error != 0) return body_wait_push(L, w);
  b->flow = REPLY_IS_GATHERED;
  return wait_for_body(L, ex, w);
}

/* Behind a 101 the connection is the other protocol's: there is no reply that a script could put in its place. */
static void refuse_in_tunnel(lua_State *L, const struct exchange *ex, const char *what) {
  if (ex->call.phase == CALL_TUNNEL)
    luaL_error(L,
               "%s: the upstream has switched protocols (101), and a tunnel follows: of its head only the fields can "
               "be changed; to refuse an "
               "upgrade, call req:respond in on_request",
               what);
}

void l_exchange_refuse_in_judge(lua_State *L, const struct exchange *ex, const char *what) {
  if (ex->step == STEP_JUDGE)
    luaL_error(L, "%s: reject_on decides by status and headers, and changes nothing: the rest is for on_response",
               what);
}

static struct str check_body(lua_State *L, int idx, const char *what) {
  struct str s;
  if (l_secret_test(L, idx) != NULL)
    luaL_error(L, "%s: a secret cannot go into a response: its bytes would reach the client", what);
  if (!lua_isstring(L, idx)) luaL_error(L, "%s: body: expected a string, got %s", what, arg_push_noun(L, idx));
  s.p = lua_tolstring(L, idx, &s.n);
  return s;
}

static int l_response_set_body(lua_State *L) {
  struct exchange *ex = check_self(L, RESPONSE_TYPE, "response");
  struct str body = check_body(L, 2, "res:set_body");
  refuse_in_tunnel(L, ex, "res:set_body");
  l_exchange_refuse_in_judge(L, ex, "res:set_body");
  if (ex->replied) return luaL_error(L, "the response has been sent");
  vm_burn(L, body.n / COPIED_A_STEP);
  if (ex->reply.source == REPLY_UPSTREAM) ex->reply.source = REPLY_REPLACED;
  buf_reset(&ex->reply.bytes);
  buf_adds(&ex->reply.bytes, body);
  return 0;
}

/* --- req:respond --- */

static void add_response_field(lua_State *L, struct exchange *ex, int name, int value) {
  enum header_id id;
  l_headers_check_plain(L, value, l_headers_check_name(L, name, true, &id));
  vm_burn(L, 1);
  headers_add(&ex->response.headers, exchange_dup(L, ex, name), exchange_dup(L, ex, value));
}

static void add_response_fields(lua_State *L, struct exchange *ex) {
  lua_pushnil(L);
  while (vm_next(L, 3)) {
    int top = lua_gettop(L);
    if (lua_type(L, top - 1) != LUA_TSTRING)
      luaL_error(L, "req:respond: headers: expected { [\"name\"] = value, … }, got %s in place of a name",
                 arg_push_noun(L, top - 1));
    if (lua_istable(L, top)) {
      for (lua_Integer i = 1; lua_rawgeti(L, top, i) != LUA_TNIL; i++) {
        add_response_field(L, ex, top - 1, top + 1);
        lua_settop(L, top);
      }
    } else {
      add_response_field(L, ex, top - 1, top);
    }
    lua_settop(L, top - 1);
  }
}

static int check_status(lua_State *L, int idx, const char *what) {
  int is_integer;
  lua_Integer status = lua_tointegerx(L, idx, &is_integer);
  if (!is_integer) luaL_error(L, "%s: expected a status from 200 to 599, got %s", what, arg_push_noun(L, idx));
  if (status < 200 || status > 599)
    luaL_error(L, "%s: expected a status from 200 to 599, got %I", what, (LUAI_UACINT)status);
  return (int)status;
}

/* req:respond(status [, headers [, body]]) */
static int l_request_respond(lua_State *L) {
  struct exchange *ex = check_self(L, REQUEST_TYPE, "request");
  int status = check_status(L, 2, "req:respond(status, headers, body)");
  struct str body = {"", 0};
  if (!lua_isnoneornil(L, 3) && !lua_istable(L, 3))
    return luaL_error(L,
                      "req:respond(status, headers, body): headers: expected a table or nil, got %s; a body stands "
                      "third: req:respond(%d, nil, body)",
                      arg_push_noun(L, 3), status);
  if (!lua_isnoneornil(L, 4)) body = check_body(L, 4, "req:respond(status, headers, body)");
  if (ex->step != STEP_REQUEST_HOOK && ex->step != STEP_SEND_HOOK && ex->step != STEP_RESPONSE_HOOK &&
      ex->step != STEP_ERROR)
    return luaL_error(L, "req:respond works while a hook runs only");
  refuse_in_tunnel(L, ex, "req:respond");
  lua_settop(L, 4);
  vm_burn(L, body.n / COPIED_A_STEP);
  reply_local(ex, status, body);
  ex->again = AGAIN_NOT;
  if (lua_istable(L, 3)) add_response_fields(L, ex);
  if (body.n > 0 && headers_find(&ex->response.headers, STR("content-type")) == NULL)
    headers_add(&ex->response.headers, STR("Content-Type"), STR("text/plain; charset=utf-8"));
  return 0;
}

/* req:retry([detail]) */
static int l_request_retry(lua_State *L) { return l_try_retry(L, check_self(L, REQUEST_TYPE, "request")); }

/* --- fields of a request --- */

enum request_field {
  R_METHOD = 1,
  R_PATH,
  R_QUERY,
  R_URL,
  R_HEADERS,
  R_CLIENT,
  R_ID,
  R_UPSTREAM,
  R_CTX,
  R_HOST,
  R_VERSION,
  R_SCHEME,
  R_TARGET
};
static const struct {
  const char *name;
  enum request_field field;
} request_fields[] = {
    {"method", R_METHOD},   {"path", R_PATH},     {"query", R_QUERY},       {"url", R_URL}, {"headers", R_HEADERS},
    {"client", R_CLIENT},   {"id", R_ID},         {"upstream", R_UPSTREAM}, {"ctx", R_CTX}, {"host", R_HOST},
    {"version", R_VERSION}, {"scheme", R_SCHEME}, {"target", R_TARGET},
};

static void push_ctx(lua_State *L,
                     struct exchange *ex) { /* kept in the registry under the exchange's address until it ends */
  if (ex->has_ctx) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, ex);
    return;
  }
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, ex);
  ex->has_ctx = true;
}

static void set_str_field(lua_State *L, const char *name, struct str s) {
  lua_pushlstring(L, s.p != NULL ? s.p : "", s.n);
  lua_setfield(L, -2, name);
}

static void push_client(lua_State *L, const struct exchange *ex) {
  struct tls_peer peer;
  lua_createtable(L, 0, 2);
  lua_pushstring(L, client_address(ex->down->conn).p);
  lua_setfield(L, -2, "address");
  if (!client_tls(ex->down->conn, &peer)) return;
  lua_createtable(L, 0, 6);
  set_str_field(L, "subject", peer.subject);
  set_str_field(L, "san", peer.san);
  set_str_field(L, "fingerprint", peer.fingerprint);
  set_str_field(L, "version", peer.version);
  set_str_field(L, "sni", peer.sni);
  lua_pushboolean(L, peer.verified);
  lua_setfield(L, -2, "verified");
  lua_setfield(L, -2, "tls");
}

static void push_id(lua_State *L, const struct exchange *ex) {
  char id[20];
  snprintf(id, sizeof id, "%016llx", (unsigned long long)ex->id);
  lua_pushstring(L, id);
}

static const char *scheme(const struct exchange *ex) {
  bool tls = ex->forward != NULL ? forward_url(ex->forward)->tls : client_has_tls(ex->down->conn);
  return tls ? "https" : "http";
}

static void push_url(lua_State *L, const struct exchange *ex) {
  const struct request *r = &ex->request;
  if (r->is_connect) {
    push_str(L, r->authority);
    return;
  }
  lua_pushfstring(L, "%s://", scheme(ex));
  lua_pushlstring(L, r->authority.p != NULL ? r->authority.p : "", r->authority.n);
  lua_pushlstring(L, r->path.p, r->path.n);
  if (r->query.p == NULL) {
    lua_concat(L, 3);
    return;
  }
  lua_pushliteral(L, "?");
  lua_pushlstring(L, r->query.p, r->query.n);
  lua_concat(L, 5);
}

static void push_upstream(lua_State *L, const struct exchange *ex) {
  bool forwards = ex->forward != NULL && ex->upstream_name.p == NULL;
  push_str(L, forwards || ex->upstream_name.p != NULL ? ex->upstream_name : STR("default"));
}

/* The headers of the handle at index 1. */
static void push_headers(lua_State *L, struct exchange *ex, bool of_response) {
  if (lua_getiuservalue(L, 1, 1) == LUA_TUSERDATA) return;
  lua_pop(L, 1);
  l_headers_push(L, ex, of_response);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, 1);
}

static void push_request_field(lua_State *L, struct exchange *ex, enum request_field f) {
  const struct request *r = l_try_request(L, ex);
  switch (f) {
    case R_METHOD: push_str(L, r->method); break;
    case R_PATH: push_str(L, r->path); break;
    case R_QUERY: push_str(L, r->query); break;
    case R_URL: push_url(L, ex); break;
    case R_HEADERS: push_headers(L, ex, false); break;
    case R_CLIENT: push_client(L, ex); break;
    case R_ID: push_id(L, ex); break;
    case R_UPSTREAM: push_upstream(L, ex); break;
    case R_CTX: push_ctx(L, ex); break;
    case R_HOST: push_str(L, r->authority); break;
    case R_VERSION: push_str(L, http_version_text(r->version)); break;
    case R_SCHEME: lua_pushstring(L, scheme(ex)); break;
    case R_TARGET: l_try_push_target(L, ex); break;
  }
}

/* Of the other one: the arguments of a hook were taken for one another. */
static const char ORDER[] =
    "(hooks are on_request(req, tokens), on_send(req, tokens, try), on_response(res, req, tokens), on_error(req, err))";

/* known: the index of the table of what a request has. */
static int refuse_field(lua_State *L, int known) {
  const char *near = NULL;
  if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "status") == 0)
    return luaL_error(L, "a request has no field 'status'; responses and errors have one %s", ORDER);
  if (lua_type(L, 2) == LUA_TSTRING) {
    struct str key;
    key.p = lua_tolstring(L, 2, &key.n);
    near = arg_nearest(L, known, key);
  }
  const char *key = luaL_tolstring(L, 2, NULL);
  if (near != NULL)
    return luaL_error(L, "a request has no field '%s' (did you mean '%s'?); for a table of your own use req.ctx", key,
                      near);
  return luaL_error(L, "a request has no field '%s'; for a table of your own use req.ctx", key);
}

/* Upvalue 1: name -> field number or method. */
static int l_request_index(lua_State *L) {
  struct exchange *ex = exchange_handle_check(L, lua_touserdata(L, 1), "request");
  lua_pushvalue(L, 2);
  int type = lua_rawget(L, lua_upvalueindex(1));
  if (type == LUA_TFUNCTION) return 1;
  if (type != LUA_TNUMBER) return refuse_field(L, lua_upvalueindex(1));
  push_request_field(L, ex, (enum request_field)lua_tointeger(L, -1));
  return 1;
}

static bool target_chars(struct str s, const char *refused) { /* RFC 3986: nothing that ends or splits the target */
  for (size_t i = 0; i < s.n; i++)
    if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f || strchr(refused, s.p[i]) != NULL) return false;
  return true;
}

static void check_text(lua_State *L, const char *field) { /* what is assigned, at 3 */
  if (l_secret_test(L, 3) != NULL)
    luaL_error(L, "req.%s: a secret: URLs show in logs and messages; put it into a header%s", field,
               strcmp(field, "query") == 0 ? ", or call req:set_query(name, secret)" : "");
  if (!lua_isstring(L, 3)) luaL_error(L, "req.%s: expected a string, got %s", field, arg_push_noun(L, 3));
}

static void set_path(lua_State *L, struct exchange *ex) {
  check_text(L, "path");
  struct str s = exchange_dup(L, ex, 3);
  if (s.n == 0 || s.p[0] != '/' || !target_chars(s, "?#"))
    luaL_error(L, "req.path: expected a path that begins with '/', percent-encoded, without '?' or '#'");
  ex->request.path = s;
}

static void set_query(lua_State *L, struct exchange *ex) {
  struct request *r = l_try_request(L, ex);
  if (lua_isnil(L, 3)) {
    r->query = (struct str){0};
    return;
  }
  check_text(L, "query");
  struct str s = exchange_dup(L, ex, 3);
  if (!target_chars(s, "#")) luaL_error(L, "req.query: expected a percent-encoded query without '#'");
  r->query = s;
}

static void set_upstream(lua_State *L, struct exchange *ex) {
  check_text(L, "upstream");
  struct str s = exchange_dup(L, ex, 3);
  if (ex->request.is_connect) luaL_error(L, "req.upstream: CONNECT goes to its target, and to no upstream");
  if (runtime_upstream(ex->runtime, s) == NULL) luaL_error(L, "req.upstream: the policy has no upstream '%s'", s.p);
  ex->upstream_name = s;
  l_try_changed(L, ex);
}

static const char *assigned_name(lua_State *L) {
  return lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_tolstring(L, 2, NULL);
}

/* Of a field that has its time. */
static void refuse_late(lua_State *L, const struct exchange *ex, const char *name) {
  if (ex->step <= STEP_REQUEST_HOOK || strcmp(name, "ctx") == 0) return;
  if (l_try_may_retry(L, ex) && strcmp(name, "upstream") == 0) return;
  if (!l_try_runs(L, ex))
    luaL_error(L,
               "req.%s: a request can be changed in on_request, what one try sends of it in on_send, and headers and "
               "upstream in on_response before req:retry()",
               name);
  if (strcmp(name, "upstream") == 0)
    luaL_error(L, "req.upstream: the upstream of this try is chosen: choose it in on_request");
  if (strcmp(name, "path") == 0) luaL_error(L, "req.path: the route of this try is chosen: set the path in on_request");
}

static int l_request_newindex(lua_State *L) {
  struct exchange *ex = exchange_handle_check(L, lua_touserdata(L, 1), "request");
  const char *name = assigned_name(L);
  refuse_late(L, ex, name);
  if (strcmp(name, "path") == 0)
    set_path(L, ex);
  else if (strcmp(name, "query") == 0)
    set_query(L, ex);
  else if (strcmp(name, "upstream") == 0)
    set_upstream(L, ex);
  else if (strcmp(name, "status") == 0)
    return luaL_error(L, "req.status cannot be set: req:respond(status, headers, body) answers the client %s", ORDER);
  else
    return luaL_error(L,
                      "req.%s cannot be set; path, query, upstream and the fields of headers can, req:set_body(text), "
                      "set_json and set_form set the body, and req.ctx is a table of your own",
                      name);
  return 0;
}

static int l_request_tostring(lua_State *L) {
  struct exchange *ex = check_self(L, REQUEST_TYPE, "request");
  lua_pushliteral(L, "request<");
  lua_pushlstring(L, ex->request.method.p, ex->request.method.n);
  lua_pushliteral(L, " ");
  lua_pushlstring(L, ex->request.path.p, ex->request.path.n);
  lua_pushliteral(L, ">");
  lua_concat(L, 5);
  return 1;
}

/* --- fields of a response --- */

static int refuse_response_field(lua_State *L, const char *name) {
  for (size_t i = 0; i < sizeof request_fields / sizeof *request_fields; i++)
    if (strcmp(name, request_fields[i].name) == 0)
      return luaL_error(L, "a response has no field '%s'; a request has one %s", name, ORDER);
  return luaL_error(
      L,
      "a response has no field '%s': it has status, version, headers, :body() and :set_body(text); req:respond "
      "answers in its place",
      luaL_tolstring(L, 2, NULL));
}

static int l_response_index(lua_State *L) {
  struct exchange *ex = exchange_handle_check(L, lua_touserdata(L, 1), "response");
  const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(name, "status") == 0) {
    lua_pushinteger(L, ex->response.status);
  } else if (strcmp(name, "headers") == 0) {
    push_headers(L, ex, true);
  } else if (strcmp(name, "version") == 0) {
    push_str(L, http_version_text(ex->response.version));
  } else {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNIL) return refuse_response_field(L, name);
  }
  return 1;
}

static int l_response_newindex(lua_State *L) {
  struct exchange *ex = exchange_handle_check(L, lua_touserdata(L, 1), "response");
  const char *name = assigned_name(L);
  if (strcmp(name, "status") != 0)
    return luaL_error(
        L, "res.%s cannot be set; status and the fields of headers can, and res:set_body(text) sets the body", name);
  int status = check_status(L, 3, "res.status");
  l_exchange_refuse_in_judge(L, ex, "res.status");
  refuse_in_tunnel(L, ex, "res.status");
  if (ex->replied) return luaL_error(L, "the response has been sent");
  ex->response.status = status;
  ex->response.reason = (struct str){0};
  return 0;
}

/* --- what hooks get --- */

static int push_tokens(lua_State *L, const struct exchange *ex) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, ex->runtime->binding.tokens);
  return 1;
}

int l_exchange_push_request(lua_State *L, void *arg) {
  push_handle(L, arg, REQUEST_TYPE);
  return 1 + push_tokens(L, arg);
}

int l_exchange_push_response(lua_State *L, void *arg) {
  push_handle(L, arg, RESPONSE_TYPE);
  push_handle(L, arg, REQUEST_TYPE);
  return 2 + push_tokens(L, arg);
}

void l_exchange_push_reply(lua_State *L, struct exchange *ex) { push_handle(L, ex, RESPONSE_TYPE); }

int l_exchange_push_error(lua_State *L, void *arg) {
  const struct exchange *ex = arg;
  push_handle(L, arg, REQUEST_TYPE);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, ex->failure.status);
  lua_setfield(L, -2, "status");
  lua_pushstring(L, err_name(ex->failure.code));
  lua_setfield(L, -2, "code");
  lua_pushstring(L, ex->failure.reason);
  lua_setfield(L, -2, "message");
  if (ex->failure.retry_after > 0) {
    lua_pushinteger(L, ex->failure.retry_after);
    lua_setfield(L, -2, "retry_after");
  }
  return 2;
}

static void set_int_field(lua_State *L, const char *name, uint64_t v) {
  lua_pushinteger(L, (lua_Integer)v);
  lua_setfield(L, -2, name);
}

void l_exchange_complete_log(lua_State *L, uint64_t received, uint64_t sent, int64_t started_us) {
  set_int_field(L, "bytes_in", received);
  set_int_field(L, "bytes_out", sent);
  lua_pushnumber(L, (double)((int64_t)(uv_hrtime() / 1000) - started_us) / 1e6);
  lua_setfield(L, -2, "duration");
}

int l_exchange_push_log(lua_State *L, void *arg) {
  struct exchange *ex = arg;
  lua_createtable(L, 0, 16);
  set_str_field(L, "method", ex->request.method);
  set_str_field(L, "path", ex->request.path);
  if (ex->request.query.p != NULL) set_str_field(L, "query", ex->request.query);
  if (ex->request.authority.p != NULL) set_str_field(L, "host", ex->request.authority);
  if (ex->unread.p == NULL) set_str_field(L, "version", http_version_text(ex->request.version));
  set_str_field(L, "client", client_address(ex->down->conn));
  set_str_field(L, "upstream", str_of(exchange_asked(ex)));
  set_int_field(L, "status", (uint64_t)exchange_status(ex));
  l_exchange_complete_log(L, ex->body.seen, ex->down->sent, ex->started_us);
  lua_pushboolean(L, ex->replays > 0);
  lua_setfield(L, -2, "replayed");
  set_int_field(L, "retries", ex->retries);
  lua_pushboolean(L, ex->down->ended == REPLY_CUT);
  lua_setfield(L, -2, "cut");
  lua_pushboolean(L, ex->down->ended == REPLY_ABORTED);
  lua_setfield(L, -2, "aborted");
  push_id(L, ex);
  lua_setfield(L, -2, "id");
  if (ex->failure.status != 0) set_str_field(L, "error", str_of(ex->failure.reason));
  if (ex->failure.grpc != 0) set_int_field(L, "grpc_status", (uint64_t)ex->failure.grpc);
  if (ex->has_ctx) {
    push_ctx(L, ex);
    lua_setfield(L, -2, "ctx");
  }
  return 1;
}

/* --- what hooks return --- */

/* NULL: what functions that wait give (true, or nil and a message), or a handle. */
static const char *misplaced(lua_State *L, int idx) {
  switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN: return lua_toboolean(L, idx) ? NULL : "false";
    case LUA_TNUMBER: return "a number";
    case LUA_TSTRING: return "a string";
    case LUA_TTABLE: return "a table";
    default: return NULL;
  }
}

/* Nobody looks at it, so `return 403` would let through what it was meant to stop. What has been answered is answered. */
const char *l_exchange_wrong_result(lua_State *L, int nresults, struct exchange *ex, enum hook hook) {
  const char *what = nresults > 0 && ex->reply.source != REPLY_LOCAL ? misplaced(L, -nresults) : NULL;
  if (what == NULL) return NULL;
  char place[PLACE_SIZE];
  lua_place_of(L, ex->runtime->binding.hooks[hook], place);
  static const char text[] =
      "%s: %s returned %s, which has no effect: to answer the client call req:respond(status, headers, body)";
  return arena_printf(&ex->arena, text, place, hook_name(hook), what).p;
}

/* --- tables --- */

static const luaL_Reg request_methods[] = {
    {"body", l_request_body}, {"respond", l_request_respond}, {"retry", l_request_retry}, {NULL, NULL}};
static const luaL_Reg response_methods[] = {{"body", l_response_body}, {"set_body", l_response_set_body}, {NULL, NULL}};

static void make_type(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction index,
                      lua_CFunction newindex) {
  type_new(L, type);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  if (index == l_request_index) {
    luaL_setfuncs(L, l_placed_methods, 0);
    for (size_t i = 0; i < sizeof request_fields / sizeof *request_fields; i++) {
      lua_pushinteger(L, request_fields[i].field);
      lua_setfield(L, -2, request_fields[i].name);
    }
  }
  lua_pushcclosure(L, index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, newindex);
  lua_setfield(L, -2, "__newindex");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

int l_exchange_open(lua_State *L) {
  make_type(L, REQUEST_TYPE, request_methods, l_request_index, l_request_newindex);
  lua_pushcfunction(L, l_request_tostring);
  lua_setfield(L, -2, "__tostring");
  make_type(L, RESPONSE_TYPE, response_methods, l_response_index, l_response_newindex);
  lua_pop(L, 2);
  l_headers_open(L);
  l_try_open(L);
  return 0;
}
