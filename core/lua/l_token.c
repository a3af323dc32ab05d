/* l_token.c: see l_token.h. Owned by the VM's thread; the slot behind it belongs to the process.
 *
 * A handle is a reference to a slot and the terms of its use; it holds no token. Its facts (state, expires_in) are read from the slot at each access, and its
 * bytes are looked up when a request is written (token/secret_expand.c), so a handle that a script has kept is never out of date.
 *
 * The hot path is `"Bearer " .. tokens.api`: the handle keeps the userdata of its last join, and since secrets are immutable the same one serves every
 * request with that prefix. */
#include "lua/l_token.h"

#include <assert.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/l_token_await.h"
#include "lua/pins.h"
#include "lua/type.h"
#include "lua/vm.h"
#include "token/saves.h"
#include "token/secret.h"
#include "token/slot.h"
#include "token/terms.h"

enum { PREFIX_MAX = 32 };

struct token_handle { /* user value 1: the secret that prefix .. value made, or nil */
  struct l_secret_holder value;
  struct slot *slot; /* a reference, as is the next */
  struct audience *audience;
  uint8_t prefix_n;
  char prefix[PREFIX_MAX];
  enum token_missing missing;
  bool reveal;
  unsigned max_waiters;
  int64_t wait_ms;
};

static struct token_handle *check(lua_State *L) { return type_check(L, L_TOKEN); }

/* --- joining --- */

/* The common `"Bearer " .. tokens.api`: pushes the joined secret and returns true when that very prefix was joined before. */
static bool join_known(lua_State *L) {
  struct token_handle *h = type_test(L, 2, L_TOKEN);
  if (h == NULL || lua_type(L, 1) != LUA_TSTRING) return false;
  struct str prefix;
  prefix.p = lua_tolstring(L, 1, &prefix.n);
  if (prefix.n > PREFIX_MAX) return false;
  if (str_eq(prefix, (struct str){h->prefix, h->prefix_n}) && lua_getiuservalue(L, 2, 1) == LUA_TUSERDATA) return true;
  l_secret_push(L, secret_join_text(h->value.secret, prefix, true));
  memcpy(h->prefix, prefix.p, prefix.n);
  h->prefix_n = (uint8_t)prefix.n;
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 2, 1);
  return true;
}

/* A token that is joined from the right is asked here: what is on its left is text, or has a metamethod of its own. */
static int l_concat(lua_State *L) { return join_known(L) ? 1 : l_secret_concat(L); }

/* --- facts --- */

static void facts_of(const struct token_handle *h, struct slot_facts *f) { slot_facts(h->slot, clock_boot_ms(), f); }

static void push_state(lua_State *L, const struct slot_facts *f) { lua_pushstring(L, slot_state_name(f->state)); }
static void push_valid(lua_State *L, const struct slot_facts *f) { lua_pushboolean(L, f->valid); }
static void push_generation(lua_State *L, const struct slot_facts *f) {
  lua_pushinteger(L, (lua_Integer)f->generation);
}
static void push_expires_in(lua_State *L, const struct slot_facts *f) {
  if (f->lasts)
    lua_pushnumber(L, (lua_Number)HUGE_VAL);
  else
    lua_pushnumber(L, f->valid && f->expires_in_ms > 0 ? (lua_Number)f->expires_in_ms / 1000 : 0);
}
static void push_saving(lua_State *L, const struct slot_facts *f) { lua_pushboolean(L, f->saving); }
static void push_last_error(lua_State *L, const struct slot_facts *f) {
  if (f->last_error[0] != '\0')
    lua_pushstring(L, f->last_error);
  else
    lua_pushnil(L);
}

static const struct fact {
  const char *name;
  void (*push)(lua_State *L, const struct slot_facts *f);
} facts[] = {
    {"valid", push_valid}, {"expires_in", push_expires_in}, {"generation", push_generation},
    {"state", push_state}, {"last_error", push_last_error}, {"saving", push_saving},
};

static int l_index(lua_State *L) { /* upvalue 1: methods */
  struct token_handle *h = check(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  if (lua_type(L, 2) != LUA_TSTRING) return l_secret_refuse(L);
  const char *key = lua_tostring(L, 2);
  if (strcmp(key, "name") == 0) {
    lua_pushstring(L, slot_name(h->slot));
    return 1;
  }
  uint64_t pinned = strcmp(key, "generation") == 0 ? pins_generation(L, h->value.secret, h->slot) : 0;
  if (pinned > 0) {
    lua_pushinteger(L, (lua_Integer)pinned);
    return 1;
  }
  for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
    if (strcmp(key, facts[i].name) != 0) continue;
    struct slot_facts f;
    facts_of(h, &f);
    facts[i].push(L, &f);
    return 1;
  }
  if (key[0] == '_') return 0;
  return luaL_error(L,
                    "token %s has no '%s': it has valid, expires_in, generation, state, name, last_error, saving, "
                    ":field(name), :set(value, options), "
                    ":refresh(), :wait(timeout), :unsaved(why) and :reveal(); its bytes cannot be read by a script",
                    slot_name(h->slot), key);
}

static int l_tostring(lua_State *L) {
  struct token_handle *h = check(L);
  struct slot_facts f;
  facts_of(h, &f);
  if (f.lasts)
    lua_pushfstring(L, "token<%s generation %I, does not end>", slot_name(h->slot), (LUAI_UACINT)f.generation);
  else if (f.valid)
    lua_pushfstring(L, "token<%s generation %I, expires in %I s>", slot_name(h->slot), (LUAI_UACINT)f.generation,
                    (LUAI_UACINT)(f.expires_in_ms / 1000));
  else
    lua_pushfstring(L, "token<%s %s, not valid>", slot_name(h->slot), slot_state_name(f.state));
  return 1;
}

/* --- methods --- */

static struct secret *make(lua_State *L, struct slot *slot, struct str field, struct audience *a,
                           enum token_missing missing, bool reveal) {
  struct secret *s = (reveal ? secret_token_open : secret_token)(slot, field, a, (int)missing);
  secret_at_home(s, &vm_services(vm_of(L))->mailbox);
  return s;
}

static int l_field(lua_State *L) {
  struct token_handle *h = check(L);
  struct str name = arg_string(L, 2, "token:field", "name");
  l_secret_push(L, make(L, h->slot, name, h->audience, h->missing, h->reveal));
  return 1;
}

static int l_set(lua_State *L) {
  struct token_handle *h = check(L);
  return token_set(L, h->slot, h->audience);
}

static int l_refresh(lua_State *L) {
  struct token_handle *h = check(L);
  return token_refresh(L, h->slot, h->max_waiters);
}

static int l_wait(lua_State *L) {
  struct token_handle *h = check(L);
  int64_t ms = lua_isnoneornil(L, 2) ? h->wait_ms : arg_duration_ms(L, 2, "token:wait", "timeout");
  return token_wait(L, h->slot, ms, h->max_waiters);
}

/* Reads { path, value, before } at 3. Strings stay on the stack, and the bytes of secrets in `hold`. */
static void read_save(lua_State *L, struct saves_of *of, struct buf *hold) {
  static const char what[] = "token:unsaved";
  static const char *const known[] = {"path", "value", "before", NULL};
  struct {
    size_t at, n;
  } spans[1 + SAVES_BEFORE_MAX];
  arg_options(L, 3, what, "{ path = path, value = refresh_token, before = { … } }", known);
  luaL_checkstack(L, 8 + SAVES_BEFORE_MAX, what);
  lua_getfield(L, 3, "path");
  of->path = arg_string(L, -1, what, "path");
  lua_getfield(L, 3, "value");
  int from = lua_gettop(L);
  if (lua_getfield(L, 3, "before") == LUA_TTABLE) {
    lua_Unsigned n = lua_rawlen(L, -1);
    if (n > SAVES_BEFORE_MAX) luaL_error(L, "%s: before: more than %d", what, SAVES_BEFORE_MAX);
    int list = lua_gettop(L);
    for (lua_Unsigned i = 1; i <= n; i++) lua_rawgeti(L, list, (lua_Integer)i);
    lua_remove(L, list);
    of->nbefore = (unsigned)n;
  } else if (!lua_isnil(L, -1)) {
    arg_wrong(L, what, "before", "a list of strings or secrets", -1);
  }
  for (unsigned i = 0; i <= of->nbefore; i++) {
    spans[i].at = hold->n;
    const char *key = i == 0 ? "value" : "before";
    struct secret_context compared = {.any_target = true};
    struct secret *secret = i == 0 ? NULL : l_secret_test(L, from + (int)i);
    int rc = secret != NULL ? secret_expand(secret, &compared, hold)
                            : l_secret_bytes(L, from + (int)i, SECRET_TO_FILE, of->path, hold, what, key);
    if (rc != 0) luaL_error(L, "%s: %s: %s", what, key, err_text(rc));
    spans[i].n = hold->n - spans[i].at;
  }
  for (unsigned i = 0; i <= of->nbefore; i++)
    *(i == 0 ? &of->value : &of->before[i - 1]) = (struct str){(const char *)hold->p + spans[i].at, spans[i].n};
}

static int l_unsaved(lua_State *L) {
  struct token_handle *h = check(L);
  struct saves *saves = vm_services(vm_of(L))->saves;
  lua_settop(L, 3);
  struct str why = lua_isnil(L, 2) ? (struct str){NULL, 0} : arg_string(L, 2, "token:unsaved", "why");
  if (!lua_isnil(L, 3) && (why.p == NULL || saves == NULL))
    return luaL_error(L, "token:unsaved: %s",
                      why.p == NULL ? "what is to be saved, and no reason why it is not"
                                    : "a value can be saved in a fetch or a task only, not in a hook");
  struct saves_of of = {.slot = h->slot};
  if (!lua_isnil(L, 3)) {
    struct buf *hold = guard_buf(L);
    int guard = lua_gettop(L);
    read_save(L, &of, hold);
    saves_add(saves, &of);
    guard_close(L, guard);
  } else if (why.p == NULL && saves != NULL) {
    saves_drop(saves, h->slot);
  }
  slot_note_unsaved(h->slot, why.p);
  return 0;
}

static int l_reveal(lua_State *L) {
  struct token_handle *h = check(L);
  const char *name = slot_name(h->slot);
  if (!h->reveal)
    return luaL_error(L, "token %s may not be revealed: the policy has to say reveal = true for it", name);
  struct buf *b = guard_buf(L);
  struct secret_context script = {.place = SECRET_TO_SCRIPT};
  int rc = pins_expand(L, h->value.secret, &script, b);
  if (rc != 0) guard_close(L, -1);
  if (rc == ERR_TOKEN_AUDIENCE)
    return luaL_error(
        L, "token %s may not be revealed: its value is made of another token whose policy does not say reveal = true",
        name);
  pins_raise(L);
  if (rc != 0) return arg_failure(L, rc, "token %s: %s", name, err_text(rc));
  lua_pushlstring(L, (const char *)b->p, b->n);
  guard_close(L, -2);
  return 1;
}

static int l_collect(lua_State *L) {
  struct token_handle *h = check(L);
  secret_unref(h->value.secret);
  audience_unref(h->audience);
  if (h->slot != NULL) slot_unref(h->slot);
  h->value.secret = NULL;
  h->audience = NULL;
  h->slot = NULL;
  return 0;
}

/* tokens.api.value = text */
static int l_assigned(lua_State *L) {
  const char *name = slot_name(check(L)->slot);
  return luaL_error(
      L,
      "token %s has nothing that can be assigned: it gets its value by tokens.%s:set(value, { expires_in = seconds })",
      name, name);
}

/* tokens.tenant:refresh(): of a family, which has the token of a key "refresh". */
static int l_called(lua_State *L) {
  struct token_handle *h = check(L);
  return luaL_error(L, "token %s is not a function (of a family: tokens.NAME[key]:refresh())", slot_name(h->slot));
}

static const luaL_Reg methods[] = {
    {"field", l_field},     {"set", l_set},       {"refresh", l_refresh}, {"wait", l_wait},
    {"unsaved", l_unsaved}, {"reveal", l_reveal}, {NULL, NULL},
};
static const luaL_Reg metamethods[] = {
    {"__gc", l_collect},        {"__tostring", l_tostring}, {"__concat", l_concat},
    {"__len", l_secret_refuse}, {"__lt", l_secret_refuse},  {"__le", l_secret_refuse},
    {"__newindex", l_assigned}, {"__call", l_called},       {NULL, NULL},
};

static void set_metatable(lua_State *L) {
  if (type_new(L, L_TOKEN)) {
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "token");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
}

static struct token_handle *push_empty(lua_State *L) {
  struct token_handle *h = lua_newuserdatauv(L, sizeof *h, 1);
  memset(h, 0, sizeof *h);
  set_metatable(L);
  return h;
}

static void fill(lua_State *L, struct token_handle *h, const struct token_terms *t, struct slot *slot) {
  h->slot = slot_ref(slot);
  h->audience = t->audience != NULL ? audience_ref(t->audience) : NULL;
  h->value.secret = make(L, slot, (struct str){0}, t->audience, t->missing, t->reveal);
  h->missing = t->missing;
  h->reveal = t->reveal;
  h->wait_ms = t->wait_ms;
  h->max_waiters = t->max_waiters;
}

void l_token_push(lua_State *L, const struct token_terms *terms, struct slot *slot) {
  fill(L, push_empty(L), terms, slot);
}

struct slot *l_token_slot(lua_State *L, int idx) {
  const struct token_handle *h = type_test(L, idx, L_TOKEN);
  return h != NULL ? h->slot : NULL;
}
