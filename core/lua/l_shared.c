/* l_shared.c: see lib.h. Owned by the VM's thread; the store behind a handle is every thread's (base/shared.h).
 *
 * Nothing of Lua runs while the store holds a lock: values are copied in and out, keys are gathered in a buffer first. What Lua may raise of (pushing a
 * string) therefore never leaves a lock behind. */
#include "lua/lib.h"

#include <lauxlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/shared.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/l_named.h"
#include "lua/l_secret.h"

#define WHAT "jeton.shared"

enum { STORES_MOST = 256, ROOM = 1024, KEYS_USUAL = 1000, KEYS_MOST = 10000 };
static const uint64_t MAX_USUAL = 1 << 20;

struct handle {
  struct l_named named;
  uint64_t max, version;
};
static const struct l_named_type TYPE;

/* The store, with this policy's settings in force: the first use after a reload brings them. */
static struct shared *store(lua_State *L) {
  const struct handle *h = l_named_check(L, 1, &TYPE);
  struct shared *s = shared_of(h->named.object);
  shared_configure(s, h->version, h->max);
  return s;
}

/* --- arguments and results --- */

static struct str check_key(lua_State *L) {
  struct str key = arg_string(L, 2, WHAT, "key");
  if (key.n == 0 || key.n > SHARED_KEY_MAX)
    luaL_error(L, WHAT ": key: 1 to %d bytes, got %I", SHARED_KEY_MAX, (lua_Integer)key.n);
  return key;
}

static void refuse_value(lua_State *L, int idx, const char *name) {
  if (l_secret_test(L, idx) != NULL)
    luaL_error(L,
               WHAT
               ": %s: a secret is not kept here, where its bytes would be plain: tokens.NAME:set(value, …) shares "
               "one with all workers",
               name);
  if (lua_istable(L, idx))
    luaL_error(L, WHAT ": %s: a table is not shared: keep jeton.json.encode(…) of it, or a key for each field", name);
  if (lua_isnoneornil(L, idx)) luaL_error(L, WHAT ": %s: nil is no value: write store:delete(key)", name);
  arg_wrong(L, WHAT, name, "a boolean, a number or a string", idx);
}

static void check_value(lua_State *L, int idx, const char *name, struct shared_value *v) {
  switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN: *v = (struct shared_value){.type = SHARED_BOOLEAN, .as.boolean = lua_toboolean(L, idx)}; return;
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx))
        *v = (struct shared_value){.type = SHARED_INTEGER, .as.integer = lua_tointeger(L, idx)};
      else
        *v = (struct shared_value){.type = SHARED_NUMBER, .as.number = lua_tonumber(L, idx)};
      return;
    case LUA_TSTRING:
      *v = (struct shared_value){.type = SHARED_STRING};
      v->as.string.p = lua_tolstring(L, idx, &v->as.string.n);
      return;
    default: refuse_value(L, idx, name);
  }
}

/* When a value written now ends. */
static int64_t check_until(lua_State *L, int idx, int64_t now) {
  if (lua_isnoneornil(L, idx)) return SHARED_FOR_EVER;
  int64_t ms = arg_duration_ms(L, idx, WHAT, "ttl");
  if (ms == 0) luaL_error(L, WHAT ": ttl: expected more than 0; without one a value has no end");
  return now + ms;
}

static void push_value(lua_State *L, const struct shared_value *v) {
  switch (v->type) {
    case SHARED_BOOLEAN: lua_pushboolean(L, v->as.boolean); return;
    case SHARED_INTEGER: lua_pushinteger(L, v->as.integer); return;
    case SHARED_NUMBER: lua_pushnumber(L, v->as.number); return;
    case SHARED_STRING: lua_pushlstring(L, v->as.string.p, v->as.string.n); return;
  }
}

/* true, false when it was refused, or nil, message, code. */
static int push_outcome(lua_State *L, enum shared_outcome outcome) {
  if (outcome == SHARED_TOO_LARGE) return arg_failure(L, ERR_LIMIT, WHAT ": the value is larger than the whole store");
  lua_pushboolean(L, outcome == SHARED_DONE);
  return 1;
}

/* --- methods --- */

static int l_get(lua_State *L) {
  struct shared *s = store(L);
  struct str key = check_key(L);
  char small[ROOM], *room = small;
  size_t size = sizeof small;
  struct shared_value v;
  for (;;) { /* it may have grown when it is asked for again */
    if (!shared_get(s, key, clock_boot_ms(), &v, room, size)) {
      lua_pushnil(L);
      return 1;
    }
    if (v.type != SHARED_STRING || v.as.string.n <= size) break;
    size = v.as.string.n;
    room = lua_newuserdatauv(L, size, 0);
  }
  push_value(L, &v);
  return 1;
}

typedef enum shared_outcome (*write_fn)(struct shared *s, struct str key, const struct shared_value *v, int64_t until,
                                        int64_t now);

static int write_value(lua_State *L, write_fn write) {
  struct shared *s = store(L);
  struct str key = check_key(L);
  struct shared_value v;
  check_value(L, 3, "value", &v);
  int64_t now = clock_boot_ms();
  return push_outcome(L, write(s, key, &v, check_until(L, 4, now), now));
}

static int l_set(lua_State *L) { return write_value(L, shared_set); }
static int l_add(lua_State *L) { return write_value(L, shared_add); }

static int l_incr(lua_State *L) {
  struct shared *s = store(L);
  struct str key = check_key(L);
  struct shared_value v = {.type = SHARED_INTEGER, .as.integer = 1};
  if (!lua_isnoneornil(L, 3)) {
    if (lua_type(L, 3) != LUA_TNUMBER) arg_wrong(L, WHAT, "by", "a number", 3);
    check_value(L, 3, "by", &v);
  }
  int64_t now = clock_boot_ms();
  enum shared_outcome outcome = shared_incr(s, key, &v, check_until(L, 4, now), now);
  if (outcome == SHARED_NO_NUMBER) return luaL_error(L, WHAT ": incr: the value there is not a number");
  if (outcome != SHARED_DONE) return push_outcome(L, outcome);
  push_value(L, &v);
  return 1;
}

static int l_cas(lua_State *L) {
  struct shared *s = store(L);
  struct str key = check_key(L);
  struct shared_value from, to, *old = NULL, *new = NULL;
  if (lua_isnone(L, 4))
    luaL_error(L, WHAT ": cas: expected the old value and the new one: store:cas(key, old, new), nil for none");
  if (!lua_isnil(L, 3)) check_value(L, 3, "old", old = &from);
  if (!lua_isnil(L, 4)) check_value(L, 4, "new", new = &to);
  int64_t now = clock_boot_ms();
  return push_outcome(L, shared_cas(s, key, old, new, check_until(L, 5, now), now));
}

static int l_delete(lua_State *L) {
  struct shared *s = store(L);
  return push_outcome(L, shared_delete(s, check_key(L), clock_boot_ms()));
}

/* Under the store's lock: no Lua. A byte for the length, since keys have at most SHARED_KEY_MAX, less one. */
static void gather_key(void *arg, struct str key) {
  struct buf *b = arg;
  unsigned char n = (unsigned char)(key.n - 1);
  buf_add(b, &n, 1);
  buf_adds(b, key);
}

static int l_keys(lua_State *L) {
  struct shared *s = store(L);
  lua_Integer limit = lua_isnoneornil(L, 2) ? KEYS_USUAL : lua_isinteger(L, 2) ? lua_tointeger(L, 2) : 0;
  if (limit < 1 || limit > KEYS_MOST) return luaL_error(L, WHAT ": keys: limit: expected 1 to %d", KEYS_MOST);
  struct buf *b = guard_buf(L);
  int guard = lua_gettop(L);
  shared_keys(s, clock_boot_ms(), (unsigned)limit, gather_key, b);
  lua_newtable(L);
  lua_Integer n = 0;
  for (size_t at = 0; at < b->n;) {
    size_t length = (size_t)b->p[at] + 1;
    lua_pushlstring(L, (const char *)b->p + at + 1, length);
    lua_rawseti(L, -2, ++n);
    at += 1 + length;
  }
  guard_close(L, guard);
  return 1;
}

static int l_stats(lua_State *L) {
  struct shared_facts f;
  shared_facts(store(L), &f);
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, (lua_Integer)f.entries);
  lua_setfield(L, -2, "entries");
  lua_pushinteger(L, (lua_Integer)f.bytes);
  lua_setfield(L, -2, "bytes");
  lua_pushinteger(L, (lua_Integer)f.max);
  lua_setfield(L, -2, "max");
  lua_pushinteger(L, (lua_Integer)f.evictions);
  lua_setfield(L, -2, "evictions");
  return 1;
}

static const luaL_Reg METHODS[] = {{"get", l_get},   {"set", l_set},     {"add", l_add},
                                   {"incr", l_incr}, {"cas", l_cas},     {"delete", l_delete},
                                   {"keys", l_keys}, {"stats", l_stats}, {NULL, NULL}};
static const struct l_named_type TYPE = {.kind = &shared_kind,
                                         .metatable = WHAT,
                                         .shown = "shared",
                                         .size = sizeof(struct handle),
                                         .most = STORES_MOST,
                                         .methods = METHODS};

/* --- jeton.shared --- */

static uint64_t check_max(lua_State *L) {
  static const char *const known[] = {"max", NULL};
  if (lua_isnoneornil(L, 2)) return MAX_USUAL;
  arg_options(L, 2, WHAT, "{ max = \"4m\" }", known);
  uint64_t max = arg_field_size(L, 2, WHAT, "max", MAX_USUAL);
  if (max < SHARED_BYTES_MIN || max > SHARED_BYTES_MAX) luaL_error(L, WHAT ": max: from \"4k\" to \"16g\"");
  return max;
}

int l_shared(lua_State *L) {
  struct str name = l_named_name(L, WHAT);
  bool told = !lua_isnoneornil(L, 2);
  uint64_t max = check_max(L);
  struct handle *h = l_named_find(L, &TYPE, name);
  if (h != NULL) {
    if (told && max != h->max) return luaL_error(L, WHAT ": '%s' is named twice with another max", lua_tostring(L, 1));
    return 1;
  }
  h = l_named_new(L, &TYPE, name, &max);
  h->max = max;
  h->version = shared_version(shared_of(h->named.object));
  return 1;
}
