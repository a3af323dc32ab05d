/* binding.c: takes a policy's functions from the table that its text returns in one VM, and makes the table of tokens that scripts see.
 *
 * Lua functions cannot be shared between VMs, so they are no part of the policy's snapshot: each VM runs the kept text again and keeps references to the
 * functions that it finds. Which functions there must be is known from the snapshot. The text is the same everywhere, so a function that is missing here
 * depended on something else (a random choice, a file read at the top level). That is an error, and reported.
 *
 * The table of tokens is made in a second step, since slots are found only when the keeper has prepared. Scripts get an empty table in front of the one with
 * the handles (put_behind_glass); the alternative, a plain table, let a handle be overwritten. Owned by the VM's thread. */
#include "policy/binding.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "lua/l_secret.h"
#include "lua/l_token.h"
#include "lua/library.h"
#include "lua/sandbox.h"
#include "policy/modules.h"
#include "policy/schema.h"
#include "token/terms.h"

struct init_call {
  struct binding *b;
  const struct policy *p;
};

/* --- functions --- */

/* The function at key of the table, as a reference; LUA_NOREF when the policy has none. */
static int take(lua_State *L, int table, const char *key, bool wanted, const char *what) {
  if (!wanted) return LUA_NOREF;
  lua_pushstring(L, key);
  lua_rawget(L, table);
  if (!lua_isfunction(L, -1))
    luaL_error(L, "%s%s was a function when the policy was checked, and is none in this thread", what, key);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Pushes the table at key. */
static int push_table(lua_State *L, int table, const char *key, const char *what) {
  lua_pushstring(L, key);
  lua_rawget(L, table);
  if (!lua_istable(L, -1))
    luaL_error(L, "%s%s was a table when the policy was checked, and is none in this thread", what, key);
  return lua_gettop(L);
}

/* The secret in the place of the token's table, or in that, as a reference. */
static int take_secret(lua_State *L, int tokens, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, tokens);
  if (lua_istable(L, -1)) {
    lua_pushliteral(L, "secret");
    lua_rawget(L, -2);
    lua_remove(L, -2);
  }
  if (l_secret_test(L, -1) == NULL)
    luaL_error(L, "tokens.%s was made of a secret when the policy was checked, and is not in this thread", name);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

static void take_tokens(lua_State *L, int table, struct binding *b, const struct policy *p) {
  if (p->ntokens == 0) return;
  int tokens = push_table(L, table, "tokens", "");
  for (size_t i = 0; i < p->ntokens; i++) {
    const struct token_conf *t = &p->tokens[i];
    const bool in_table = t->has_fetch && !t->from_secret;
    if (t->from_secret) b->fetch[i] = take_secret(L, tokens, t->name);
    if (!in_table && !t->has_reject_on && !t->releases) continue;
    int token = push_table(L, tokens, t->name, "tokens.");
    if (in_table) b->fetch[i] = take(L, token, "fetch", true, "a token's ");
    b->reject_on[i] = take(L, token, "reject_on", t->has_reject_on, "a token's ");
    b->release[i] = take(L, token, "release", t->releases, "a token's ");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void take_tasks(lua_State *L, int table, struct binding *b, const struct policy *p) {
  if (p->ntasks == 0) return;
  int tasks = push_table(L, table, "tasks", "");
  for (size_t i = 0; i < p->ntasks; i++) b->tasks[i] = take(L, tasks, p->tasks[i], true, "tasks.");
  lua_pop(L, 1);
}

static int l_init(lua_State *L) {
  const struct init_call *c = lua_touserdata(L, 1);
  const struct policy *p = c->p;
  struct binding *b = c->b;
  modules_open(L, (struct policy *)(uintptr_t)p, NULL); /* of a policy that is shared it changes the references alone */
  if (source_push(L, &p->sources[0]) != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
  modules_login(L, p);
  int table = lua_gettop(L);
  if (!lua_istable(L, table)) return luaL_error(L, "%s: returned no table in this thread", p->sources[0].chunk);
  for (unsigned i = 0; i < HOOK_COUNT; i++) b->hooks[i] = take(L, table, hook_name(i), p->hooks[i], "");
  take_tokens(L, table, b, p);
  take_tasks(L, table, b, p);
  return 0;
}

static int *new_references(size_t n) {
  int *references = must_malloc((n + 1) * sizeof *references);
  for (size_t i = 0; i < n; i++) references[i] = LUA_NOREF;
  return references;
}

int binding_init(struct binding *b, struct vm *vm, const struct policy *p, const char **message) {
  *b = (struct binding){.tokens = LUA_NOREF,
                        .fetch = new_references(p->ntokens),
                        .reject_on = new_references(p->ntokens),
                        .release = new_references(p->ntokens),
                        .tasks = new_references(p->ntasks)};
  for (unsigned i = 0; i < HOOK_COUNT; i++) b->hooks[i] = LUA_NOREF;
  struct init_call c = {b, p};
  vm_limit(vm, p->limits.memory, p->limits.script_time_us);
  vm_set_loading(vm, true);
  int status = vm_call(vm, l_init, &c, message);
  vm_set_loading(vm, false);
  if (status != 0) binding_fini(b);
  return status;
}

/* The references themselves go with the VM, which may live on after its policy was replaced. */
void binding_fini(struct binding *b) {
  free(b->fetch);
  free(b->reject_on);
  free(b->release);
  free(b->tasks);
  b->fetch = b->reject_on = b->release = b->tasks = NULL;
}

/* --- the table of tokens --- */

struct tokens_call {
  struct binding *b;
  const struct policy *p;
  const struct token_set *tokens;
};

static struct str nearest(const struct policy *p, struct str name) {
  struct str best = {NULL, 0};
  for (size_t i = 0; i < p->ntokens; i++) {
    struct str names[2] = {str_of(p->tokens[i].name), best};
    struct str near = schema_nearest(name, names, best.p != NULL ? 2 : 1);
    if (near.p != NULL) best = near;
  }
  return best;
}

/* tokens.unknown */
static int l_tokens_index(lua_State *L) {
  const struct policy *p = lua_touserdata(L, lua_upvalueindex(1));
  if (lua_type(L, 2) != LUA_TSTRING)
    return luaL_error(L, "tokens: expected the name of a token, got a %s", luaL_typename(L, 2));
  struct str name;
  name.p = lua_tolstring(L, 2, &name.n);
  struct str near = nearest(p, name);
  lua_pushlstring(L, name.p, name.n < SHOWN_MAX ? name.n : SHOWN_MAX);
  if (near.p == NULL) return luaL_error(L, "tokens: the policy has no token named '%s'", lua_tostring(L, -1));
  return luaL_error(L, "tokens: the policy has no token named '%s' (did you mean '%s'?)", lua_tostring(L, -1), near.p);
}

static int l_tokens_newindex(lua_State *L) {
  return luaL_error(L, "tokens cannot be assigned: a token gets its value by tokens.NAME:set(value, …)");
}

static int l_next(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  return lua_next(L, 1) != 0 ? 2 : 0;
}

/* pairs(tokens): over a copy, so that the table of handles itself stays out of reach. Upvalue 1: that table. */
static int l_tokens_pairs(lua_State *L) {
  lua_pushcfunction(L, l_next);
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, lua_upvalueindex(1)) != 0;) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  return 2;
}

/* Makes the table of handles on the top answer for names that it has not. */
static void guard_names(lua_State *L, const struct policy *p) {
  lua_createtable(L, 0, 1);
  lua_pushlightuserdata(L, (void *)(uintptr_t)p); /* kept by the VM's `require` */
  lua_pushcclosure(L, l_tokens_index, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
}

/* Replaces the table of handles on the top by what scripts get: an empty table in front of it, since __newindex is asked for new keys alone. A handle
 * that could be assigned would be one forgotten `:set` away from a text that every request of this worker carries long after it has expired. */
static void put_behind_glass(lua_State *L) {
  lua_createtable(L, 0, 0);
  lua_createtable(L, 0, 6);
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, SANDBOX_FROZEN);
  lua_pushliteral(L, "jeton.tokens");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pushcfunction(L, l_tokens_newindex);
  lua_setfield(L, -2, "__newindex");
  lua_pushvalue(L, -3);
  lua_pushcclosure(L, l_tokens_pairs, 1);
  lua_setfield(L, -2, "__pairs");
  lua_pushvalue(L, -3);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  lua_remove(L, -2);
}

/* jeton.tokens, for tasks and on_start, which get no argument. The table is on top. */
static void set_in_library(lua_State *L) {
  lua_pushvalue(L, -1);
  library_set(L, "tokens");
}

static int l_tokens(lua_State *L) {
  const struct tokens_call *c = lua_touserdata(L, 1);
  lua_createtable(L, 0, (int)c->p->ntokens);
  for (size_t i = 0; i < c->p->ntokens; i++) {
    const struct token_conf *t = &c->p->tokens[i];
    struct token_terms terms = {.audience = t->audience,
                                .missing = t->missing,
                                .reveal = t->reveal,
                                .wait_ms = t->wait_ms,
                                .max_waiters = c->p->limits.waiters};
    lua_pushstring(L, t->name);
    if (t->family) {
      l_family_push(L, t->name, &terms, c->tokens->families[i]);
    } else {
      l_token_push(L, &terms, c->tokens->slots[i]);
    }
    lua_rawset(L, -3);
  }
  guard_names(L, c->p);
  put_behind_glass(L);
  set_in_library(L);
  c->b->tokens = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int binding_tokens(struct binding *b, struct vm *vm, const struct policy *p, const struct token_set *tokens) {
  struct tokens_call c = {b, p, tokens};
  const char *message = NULL;
  return vm_call(vm, l_tokens, &c, &message);
}
