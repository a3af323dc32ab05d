/* l_select.c: see lib.h. Owned by the VM's thread.
 *
 *   jeton.select { ch:on_recv(f), ch:on_send(value, f), timeout = duration, default = f }   jeton.select.seed(integer)
 *
 * Which of several cases that can go on is taken is drawn from a generator of the VM's: splitmix64, whose state is the seed. With k of them, in the order in
 * which they are written, its next output modulo k is the case's place among them; with one nothing is drawn. So a VM's choices follow from its seed and
 * from what was ready, which is what a model needs to repeat them.
 *
 * The stack while it waits: the options, the default, and two places for each case: the case, so that it lives and its function can be found
 * whatever happens to the table meanwhile, and its value. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#include "lua/arg.h"
#include "lua/channel_op.h"
#include "lua/l_channel.h"
#include "lua/message.h"

#define SELECT "jeton.select"

enum { SELF = 1, OPTIONS, DEFAULT, CASES /* the first case's place; its value is behind it */ };

static int place_of(unsigned i) { return CASES + 2 * (int)i; }

/* --- what was chosen --- */

static int after_handler(lua_State *L, int status, lua_KContext base) {
  (void)status;
  return lua_gettop(L) - (int)base;
}

/* The function at the top but n, with the n values above it, which may wait; or these values, when it is nil. */
static int call_handler(lua_State *L, int n) {
  int base = lua_gettop(L) - n - 1;
  if (lua_isnil(L, base + 1)) return n;
  lua_callk(L, n, LUA_MULTRET, base, after_handler);
  return after_handler(L, LUA_OK, base);
}

static int push_chosen(lua_State *L, void *arg) {
  const struct channel_outcome *o = arg;
  if (o->arm == NULL) return channel_op_push_timeout(L);
  int n = 0;
  (void)lua_getiuservalue(L, place_of((unsigned)o->fired), CASE_FUNCTION);
  if (!o->arm->sends) {
    n = channel_op_push_received(L, o->arm);
    return call_handler(L, n);
  }
  channel_op_check_sent(L, o->arm);
  if (!lua_isnil(L, -1)) return call_handler(L, 0);
  lua_pushboolean(L, 1);
  return 1;
}

/* --- the cases --- */

static unsigned count_cases(lua_State *L) {
  size_t n = lua_rawlen(L, OPTIONS);
  if (n == 0) luaL_error(L, "jeton.select: nothing to select from: give it ch:on_recv(f) or ch:on_send(value, f)");
  if (n > CHANNEL_OP_ARMS_MAX)
    luaL_error(L, "jeton.select: %d cases, of which there may be %d", (int)n, CHANNEL_OP_ARMS_MAX);
  return (unsigned)n;
}

/* Pushes the case and its value; 0 for what receives, else the message's size. */
static size_t push_case(lua_State *L, unsigned i, struct channel_arm *arm) {
  (void)lua_rawgeti(L, OPTIONS, (lua_Integer)i + 1);
  const struct channel_case *c = luaL_testudata(L, -1, CHANNEL_CASE);
  if (c == NULL)
    luaL_error(L, "jeton.select: case %d is %s: expected ch:on_recv(f) or ch:on_send(value, f)", (int)i + 1,
               arg_push_noun(L, -1));
  (void)lua_getiuservalue(L, -1, CASE_CHANNEL);
  *arm = (struct channel_arm){.channel = l_channel_test(L, -1), .sends = c->sends};
  lua_pop(L, 1);
  (void)lua_getiuservalue(L, -1, CASE_VALUE);
  return c->sends ? message_measure(L, -1, "jeton.select") : 0;
}

/* The messages of those that send; does not raise. 0, or as message_make, and none is made. */
static int make_items(lua_State *L, struct channel_arm *arms, const size_t *sizes, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    if (!arms[i].sends) continue;
    int rc = message_make(L, place_of(i) + 1, sizes[i], channel_owner(arms[i].channel), &arms[i].item);
    if (rc == 0) continue;
    arms[i].item = NULL;
    channel_op_drop_items(arms, i);
    return rc;
  }
  return 0;
}

/* --- jeton.select --- */

/* 0: there is a default. Pushes it, or nil. */
static int64_t read_options(lua_State *L) {
  static const char *const known[] = {"timeout", "default", NULL};
  if (!lua_istable(L, OPTIONS))
    luaL_error(L, "jeton.select: expected a table of cases, jeton.select { ch:on_recv(f), timeout = 1 }, got %s",
               arg_push_noun(L, OPTIONS));
  lua_settop(L, OPTIONS);
  arg_known(L, OPTIONS, "jeton.select", known);
  int64_t ms = arg_field_ms(L, OPTIONS, "jeton.select", "timeout", CHANNEL_OP_FOREVER);
  if (lua_getfield(L, OPTIONS, "default") == LUA_TNIL) return ms;
  if (!lua_isfunction(L, DEFAULT)) arg_wrong(L, "jeton.select", "default", "a function", DEFAULT);
  if (ms != CHANNEL_OP_FOREVER)
    luaL_error(L, "jeton.select: timeout and default: one of them, since with a default it never waits");
  return 0;
}

static int l_select(lua_State *L) { /* upvalue 1: the generator */
  struct channel_arm arms[CHANNEL_OP_ARMS_MAX];
  size_t sizes[CHANNEL_OP_ARMS_MAX];
  struct await begun;
  int64_t ms = read_options(L);
  unsigned n = count_cases(L);
  luaL_checkstack(L, 2 * CHANNEL_OP_ARMS_MAX + LUA_MINSTACK, "jeton.select");
  for (unsigned i = 0; i < n; i++) sizes[i] = push_case(L, i, &arms[i]);
  channel_op_begin(L, &begun);
  int rc = make_items(L, arms, sizes, n);
  if (rc != 0) return message_failure(L, rc, "jeton.select");
  int fired = channel_op(L, &begun, arms, n, lua_touserdata(L, lua_upvalueindex(1)), ms, push_chosen);
  if (fired >= 0) return push_chosen(L, &(struct channel_outcome){fired, &arms[fired]});
  if (lua_isnil(L, DEFAULT)) return channel_op_push_timeout(L);
  lua_pushvalue(L, DEFAULT);
  return call_handler(L, 0);
}

static int l_seed(lua_State *L) { /* upvalue 1: the same */
  struct rng *rng = lua_touserdata(L, lua_upvalueindex(1));
  rng->s = (uint64_t)luaL_checkinteger(L, 1);
  return 0;
}

int l_select_open(lua_State *L) {
  lua_createtable(L, 0, 1);
  struct rng *rng = lua_newuserdatauv(L, sizeof *rng, 0);
  rng_seed(rng, 0);
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, l_seed, 1);
  lua_setfield(L, -3, "seed");
  lua_createtable(L, 0, 2);
  lua_insert(L, -2);
  lua_pushcclosure(L, l_select, 1);
  lua_setfield(L, -2, "__call");
  lua_pushliteral(L, SELECT);
  lua_setfield(L, -2, "__name");
  lua_setmetatable(L, -2);
  return 1;
}
