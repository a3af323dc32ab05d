/* l_channel.c: see l_channel.h. Owned by the VM's thread; the channel behind a handle is the process's.
 *
 * A VM keeps a handle for each name that it has named, until its end: a channel lives as long as a VM that named it, not as long as a variable.
 * Since the candidate of a reload names its channels before the old policy's VMs go, those that both name live on. A closed channel is forgotten,
 * since its name is free for a new one; a VM that sees many of them drops their handles when their number has doubled.
 *
 * Unlike a store (l_named.h) a channel may be named by a hook, too: a task that is asked answers into a channel that the question names, and which
 * is closed then. */
#include "lua/l_channel.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "http/services.h"
#include "lua/arg.h"
#include "lua/channel_op.h"
#include "lua/l_named.h"
#include "lua/lib.h"
#include "lua/message.h"
#include "lua/vm.h"

#define CHANNEL "jeton.channel"
#define ALL "jeton.channel.all"
#define NAMED "jeton.channel.named" /* in the registry: handles by name, and at COUNT and SWEEP_AT two integers */

enum { COUNT = 1, SWEEP_AT = 2, SWEEP_MIN = 64, WHAT_MAX = 96 };

struct handle {
  struct channel *channel; /* a reference; NULL while it is made, and once it is collected */
};

struct channel *l_channel_test(lua_State *L, int idx) {
  struct handle *h = luaL_testudata(L, idx, CHANNEL);
  return h != NULL ? h->channel : NULL;
}

static struct channel *check(lua_State *L) {
  struct handle *h = arg_self(L, CHANNEL);
  if (h->channel == NULL) luaL_error(L, "channel: this handle is gone");
  return h->channel;
}

/* "channel jobs", what errors begin with. */
static const char *what_of(const struct channel *ch, char text[WHAT_MAX]) {
  (void)snprintf(text, WHAT_MAX, "channel %s", channel_name(ch));
  return text;
}

static void check_running(lua_State *L, const struct channel *ch, const char *does) {
  if (!vm_loading(vm_of(L))) return;
  luaL_error(
      L,
      "channel %s: %s: the policy's file only declares: do it in a hook, in on_start, or in one of tasks = { name "
      "= function() … end }",
      channel_name(ch), does);
}

/* --- send and receive --- */

static int64_t timeout_of(lua_State *L, int idx, const char *what) {
  return lua_isnoneornil(L, idx) ? CHANNEL_OP_FOREVER : arg_duration_ms(L, idx, what, "timeout");
}

static int push_sent(lua_State *L, void *arg) {
  const struct channel_outcome *o = arg;
  if (o->arm == NULL) return channel_op_push_timeout(L);
  channel_op_check_sent(L, o->arm);
  lua_pushboolean(L, 1);
  return 1;
}

static int push_received(lua_State *L, void *arg) {
  const struct channel_outcome *o = arg;
  return o->arm != NULL ? channel_op_push_received(L, o->arm) : channel_op_push_timeout(L);
}

/* The message for the value at 2: 0, or as message_make. */
static int make_arm(lua_State *L, struct channel *ch, const char *what, struct channel_arm *arm) {
  size_t size = message_measure(L, 2, what);
  *arm = (struct channel_arm){.channel = ch, .sends = true};
  return message_make(L, 2, size, channel_owner(ch), &arm->item);
}

static int l_send(lua_State *L) { /* ch:send(value, timeout) */
  struct channel *ch = check(L);
  char what[WHAT_MAX];
  struct await begun;
  struct channel_arm arm;
  lua_settop(L, 3);
  int64_t ms = timeout_of(L, 3, what_of(ch, what));
  channel_op_begin(L, &begun);
  int rc = make_arm(L, ch, what, &arm);
  if (rc != 0) return message_failure(L, rc, what);
  int fired = channel_op(L, &begun, &arm, 1, NULL, ms, push_sent);
  return push_sent(L, &(struct channel_outcome){fired, fired >= 0 ? &arm : NULL});
}

static int l_recv(lua_State *L) { /* ch:recv(timeout) */
  struct channel_arm arm = {.channel = check(L)};
  char what[WHAT_MAX];
  struct await begun;
  int64_t ms = timeout_of(L, 2, what_of(arm.channel, what));
  channel_op_begin(L, &begun);
  int fired = channel_op(L, &begun, &arm, 1, NULL, ms, push_received);
  return push_received(L, &(struct channel_outcome){fired, fired >= 0 ? &arm : NULL});
}

static int l_try_send(lua_State *L) {
  struct channel *ch = check(L);
  char what[WHAT_MAX];
  struct channel_arm arm;
  check_running(L, ch, "try_send");
  lua_settop(L, 2);
  int rc = make_arm(L, ch, what_of(ch, what), &arm);
  if (rc != 0) return message_failure(L, rc, what);
  int fired = channel_try(&arm, 1, NULL);
  channel_op_drop_items(&arm, 1);
  if (fired < 0) return arg_failure(L, UV_EAGAIN, "full");
  channel_op_check_sent(L, &arm);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_try_recv(lua_State *L) {
  struct channel_arm arm = {.channel = check(L)};
  check_running(L, arm.channel, "try_recv");
  if (channel_try(&arm, 1, NULL) < 0) return arg_failure(L, UV_EAGAIN, "empty");
  return channel_op_push_received(L, &arm);
}

static int l_close(lua_State *L) {
  struct channel *ch = check(L);
  check_running(L, ch, "close");
  if (!channel_close(ch)) return luaL_error(L, "channel %s: close: it is closed already", channel_name(ch));
  return 0;
}

/* --- cases of a select --- */

static int push_case(lua_State *L, bool sends, int function) {
  (void)check(L);
  if (!lua_isnoneornil(L, function)) luaL_checktype(L, function, LUA_TFUNCTION);
  lua_settop(L, 3);
  struct channel_case *c = lua_newuserdatauv(L, sizeof *c, CASE_UVALUES);
  c->sends = sends;
  if (luaL_newmetatable(L, CHANNEL_CASE)) {
    lua_pushliteral(L, "case");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, CASE_CHANNEL);
  lua_pushvalue(L, function);
  lua_setiuservalue(L, -2, CASE_FUNCTION);
  lua_pushvalue(L, 2);
  if (sends) lua_setiuservalue(L, 4, CASE_VALUE);
  lua_settop(L, 4);
  return 1;
}

static int l_on_recv(lua_State *L) { return push_case(L, false, 2); }

static int l_on_send(lua_State *L) {
  char what[WHAT_MAX];
  (void)message_measure(L, 2, what_of(check(L), what)); /* here, where the line is the one to mend */
  return push_case(L, true, 3);
}

/* --- the handle --- */

static int l_length(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)channel_length(check(L)));
  return 1;
}

static int l_tostring(lua_State *L) {
  struct channel *ch = check(L);
  lua_pushfstring(L, "channel<%s %d/%d%s>", channel_name(ch), (int)channel_length(ch), (int)channel_capacity(ch),
                  channel_closed(ch) ? " closed" : "");
  return 1;
}

static int l_index(lua_State *L) { /* upvalue 1: methods */
  struct channel *ch = check(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "name") == 0)
    lua_pushstring(L, channel_name(ch));
  else if (strcmp(key, "capacity") == 0)
    lua_pushinteger(L, channel_capacity(ch));
  else if (strcmp(key, "closed") == 0)
    lua_pushboolean(L, channel_closed(ch));
  else if (key[0] != '_')
    return luaL_error(L,
                      "channel %s has no '%s': it has name, capacity, closed, :send(value, timeout), :recv(timeout), "
                      ":try_send(value), :try_recv(), :close(), :on_recv(f) and :on_send(value, f)",
                      channel_name(ch), key);
  return 1;
}

static int l_collect(lua_State *L) {
  struct handle *h = luaL_checkudata(L, 1, CHANNEL);
  struct channel *ch = h->channel;
  h->channel = NULL;
  if (ch != NULL) channel_unref(ch);
  return 0;
}

static const luaL_Reg methods[] = {
    {"send", l_send},   {"recv", l_recv},       {"try_send", l_try_send}, {"try_recv", l_try_recv},
    {"close", l_close}, {"on_recv", l_on_recv}, {"on_send", l_on_send},   {NULL, NULL},
};
static const luaL_Reg metamethods[] = {
    {"__gc", l_collect}, {"__len", l_length}, {"__tostring", l_tostring}, {NULL, NULL}};

static struct handle *push_handle(lua_State *L) {
  struct handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  h->channel = NULL;
  if (luaL_newmetatable(L, CHANNEL)) {
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "channel");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  return h;
}

/* --- naming --- */

/* Drops the handles of closed channels from the table at `named`; the number of those that stay. */
static lua_Integer sweep(lua_State *L, int named) {
  lua_Integer kept = 0;
  for (lua_pushnil(L); vm_next(L, named); lua_pop(L, 1)) {
    struct channel *ch = l_channel_test(L, -1);
    if (ch == NULL) continue;
    kept++;
    if (!channel_closed(ch)) continue;
    kept--;
    lua_pushvalue(L, -2);
    lua_pushnil(L);
    lua_rawset(L, named);
  }
  return kept;
}

static lua_Integer integer_at(lua_State *L, int named, lua_Integer i) {
  lua_rawgeti(L, named, i);
  lua_Integer n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return n;
}

static void set_integer(lua_State *L, int named, lua_Integer i, lua_Integer n) {
  lua_pushinteger(L, n);
  lua_rawseti(L, named, i);
}

/* The handle is on top, its name at 1. */
static void keep(lua_State *L, int named) {
  lua_Integer count = integer_at(L, named, COUNT), sweep_at = integer_at(L, named, SWEEP_AT);
  if (count >= (sweep_at > 0 ? sweep_at : SWEEP_MIN)) {
    count = sweep(L, named);
    set_integer(L, named, SWEEP_AT, count * 2 > SWEEP_MIN ? count * 2 : SWEEP_MIN);
  }
  set_integer(L, named, COUNT, count + 1);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, -2);
  lua_rawset(L, named);
}

static int l_collect_all(lua_State *L) {
  struct named **all = lua_touserdata(L, 1);
  if (*all != NULL) named_unref(*all);
  *all = NULL;
  return 0;
}

/* This VM's hold on what all channels have in common: older than its first handle, so at the VM's end it is collected after the last one. */
static struct channels *all_of(lua_State *L) {
  if (lua_getfield(L, LUA_REGISTRYINDEX, ALL) == LUA_TNIL) {
    struct named **all = lua_newuserdatauv(L, sizeof(struct named *), 0);
    *all = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_collect_all);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, ALL);
    *all = named_get(vm_services(vm_of(L))->names, &channels_kind, STR("all"), NULL);
    lua_remove(L, -2);
  }
  struct channels *all = channels_of(*(struct named **)lua_touserdata(L, -1));
  lua_pop(L, 1);
  return all;
}

/* Pushes the handle if this VM has named the channel before; else returns NULL and pushes nothing. */
static struct channel *push_known(lua_State *L, int named) {
  lua_pushvalue(L, 1);
  (void)lua_rawget(L, named);
  struct channel *ch = l_channel_test(L, -1);
  if (ch != NULL && !channel_closed(ch)) return ch;
  lua_pop(L, 1);
  return NULL;
}

static void refuse_capacity(lua_State *L, unsigned wanted, unsigned has) {
  luaL_error(
      L,
      "jeton.channel: '%s' has capacity %d, named with %d here: write jeton.channel(\"%s\", %d), or take another "
      "name (a channel keeps its capacity as long as a policy names it)",
      lua_tostring(L, 1), (int)has, (int)wanted, lua_tostring(L, 1), (int)has);
}

/* Pushes the handle of the channel, made or found. */
static void join(lua_State *L, struct str name, unsigned capacity) {
  unsigned has;
  struct channels *all = all_of(L);
  struct handle *h = push_handle(L);
  int rc = channel_join(vm_services(vm_of(L))->names, all, name, capacity, &h->channel, &has);
  if (rc == UV_EEXIST) refuse_capacity(L, capacity, has);
  if (rc != 0) luaL_error(L, "jeton.channel: there are %d open channels, which is the limit", (int)CHANNELS_MAX);
}

int l_channel(lua_State *L) {
  struct str name = l_named_name(L, CHANNEL);
  bool given = !lua_isnoneornil(L, 2);
  lua_Integer capacity = given && lua_isinteger(L, 2) ? lua_tointeger(L, 2) : given ? -1 : 0;
  if (capacity < 0 || capacity > CHANNEL_CAPACITY_MAX)
    return luaL_error(L, "jeton.channel: capacity: expected 0 (a rendezvous) to %d messages",
                      (int)CHANNEL_CAPACITY_MAX);
  lua_settop(L, 1);
  (void)luaL_getsubtable(L, LUA_REGISTRYINDEX, NAMED);
  struct channel *known = push_known(L, 2);
  if (known != NULL) {
    if (given && channel_capacity(known) != (unsigned)capacity)
      refuse_capacity(L, (unsigned)capacity, channel_capacity(known));
    return 1;
  }
  join(L, name, (unsigned)capacity);
  keep(L, 2);
  return 1;
}
