/* l_try.c: see l_try.h. Owned by the worker's thread.
 *
 * Whether on_send runs is not a question of the exchange's step: a task that a hook has spawned may run meanwhile, and is not it. The task with the try's pins is.
 *
 * req.target is a userdata, so that what is assigned to it is refused, and not lost. */
#include "proxy/l_try.h"

#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "lua/arg.h"
#include "lua/l_secret.h"
#include "lua/task.h"
#include "lua/type.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/placed.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"

static const char TARGET_TYPE[] = "jeton.target";

bool l_try_runs(lua_State *L, const struct exchange *ex) { return ex->try != NULL && task_pins(L) == &ex->try->pins; }

struct request *l_try_request(lua_State *L, struct exchange *ex) {
  return l_try_runs(L, ex) ? &ex->try->request : &ex->request;
}

int l_try_push(lua_State *L, void *arg) {
  static const char no_wait[] =
      "in on_send nothing but req:body() may be awaited: get the rest in on_request and keep it in req.ctx, or make it "
      "a token, which is fetched ahead";
  struct exchange *ex = arg;
  const struct try *t = ex->try;
  task_pin(L, &ex->try->pins, no_wait);
  int n = l_exchange_push_request(L, ex);
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, t->number);
  lua_setfield(L, -2, "number");
  lua_pushstring(L, try_reason_name(t->reason));
  lua_setfield(L, -2, "reason");
  if (ex->retries > 0) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ex->retries);
    lua_setfield(L, -2, "detail");
  }
  return n + 1;
}

/* --- req:retry --- */

/* The hook itself, and no task that one has spawned. */
bool l_try_may_retry(lua_State *L, const struct exchange *ex) {
  return ex->step == STEP_RESPONSE_HOOK && ex->task != NULL && task_running(L) == ex->task;
}

void l_try_changed(lua_State *L, struct exchange *ex) {
  if (ex->again == AGAIN_NOT && l_try_may_retry(L, ex)) ex->again = AGAIN_CHANGED;
}

/* What is said by it later wins, as with req:respond. */
static int accept_retry(lua_State *L, struct exchange *ex) {
  lua_settop(L, 2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &ex->retries); /* detail, kept as req.ctx is */
  ex->has_detail = true;
  ex->again = AGAIN_ASKED;
  ex->reply.source = REPLY_UPSTREAM;
  lua_pushboolean(L, true);
  return 1;
}

static int refuse_retry(lua_State *L, struct exchange *ex, int code, const char *why) {
  ex->again = AGAIN_NOT; /* what was changed for it stands, and does nothing */
  return arg_failure(L, code, "the request cannot be sent again: %s", why);
}

int l_try_retry(lua_State *L, struct exchange *ex) {
  if (!l_try_may_retry(L, ex))
    return luaL_error(
        L, "req:retry works in on_response only, which can tell by the reply whether to send the request again");
  if (ex->down->exchange != ex) return refuse_retry(L, ex, ERR_CLOSED, "the client has left");
  if (ex->call.phase == CALL_TUNNEL)
    return refuse_retry(L, ex, ERR_CLOSED, "the upstream has switched protocols (101), and a tunnel follows");
  if (ex->retries >= ex->runtime->policy->limits.retries)
    return refuse_retry(L, ex, ERR_LIMIT, "limits.retries is reached");
  if (!request_body_repeatable(&ex->body))
    return refuse_retry(L, ex, ERR_LIMIT, "its body has gone, and was over limits.replay_buffer");
  return accept_retry(L, ex);
}

void l_try_forget(struct exchange *ex) {
  if (!ex->has_detail) return;
  lua_State *L = vm_state(ex->runtime->vm);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &ex->retries);
}

/* --- req.target --- */

enum target_field { T_SCHEME, T_HOST, T_PORT, T_AUTHORITY, T_PATH, T_QUERY, T_COUNT };
static const char *const target_fields[T_COUNT] = {"scheme", "host", "port", "authority", "path", "query"};

static struct exchange *check_target(lua_State *L) {
  return exchange_handle_check(L, type_check(L, TARGET_TYPE), "target");
}

static void push_str(lua_State *L, struct str s) { lua_pushlstring(L, s.p != NULL ? s.p : "", s.n); }

static struct str sent_path(struct exchange *ex) {
  struct str path = request_path(ex);
  return path.n > 0 ? path : STR("/");
}

static void push_target_field(lua_State *L, struct exchange *ex, enum target_field f) {
  const struct url *u = ex->url;
  struct str query = try_request(ex)->query;
  struct secret *placed = f == T_QUERY ? placed_query(placed_of_try(ex)) : NULL;
  switch (f) {
    case T_SCHEME: lua_pushstring(L, u->tls ? "https" : "http"); break;
    case T_HOST: push_str(L, u->host); break;
    case T_PORT: lua_pushinteger(L, u->port); break;
    case T_AUTHORITY: push_str(L, request_host(ex)); break;
    case T_PATH: push_str(L, sent_path(ex)); break;
    case T_QUERY:
      if (placed != NULL)
        l_secret_push(L, secret_ref(placed)); /* to be signed: it cannot be read */
      else if (query.p == NULL)
        lua_pushnil(L);
      else
        push_str(L, query);
      break;
    case T_COUNT: lua_pushnil(L); break;
  }
}

static int l_target_index(lua_State *L) {
  struct exchange *ex = check_target(L);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_tolstring(L, 2, NULL);
  for (unsigned i = 0; i < T_COUNT; i++) {
    if (strcmp(key, target_fields[i]) != 0) continue;
    push_target_field(L, ex, (enum target_field)i);
    return 1;
  }
  return luaL_error(L, "req.target has no field '%s': it has scheme, host, port, authority, path and query", key);
}

static int l_target_newindex(lua_State *L) {
  const char *key = luaL_tolstring(L, 2, NULL);
  return luaL_error(
      L,
      "req.target.%s cannot be set: it shows what will be sent. req.upstream chooses the server and req.path "
      "the path, in on_request; req.query and req.headers.host may be set in on_send, too",
      key);
}

static int l_target_tostring(lua_State *L) {
  struct exchange *ex = check_target(L);
  lua_pushfstring(L, "%s://", ex->url->tls ? "https" : "http");
  push_str(L, request_host(ex));
  push_str(L, sent_path(ex));
  lua_concat(L, 3);
  return 1;
}

void l_try_push_target(lua_State *L, struct exchange *ex) {
  if (ex->url == NULL || ex->upstream == NULL)
    luaL_error(L, "req.target: the route is not known yet: it is in on_send, and in on_response");
  struct exchange_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  h->exchange = ex;
  h->serial = ex->place.serial;
  type_set(L, TARGET_TYPE);
}

static const luaL_Reg target_metamethods[] = {
    {"__index", l_target_index}, {"__newindex", l_target_newindex}, {"__tostring", l_target_tostring}, {NULL, NULL}};

void l_try_open(lua_State *L) {
  type_new(L, TARGET_TYPE);
  luaL_setfuncs(L, target_metamethods, 0);
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}
