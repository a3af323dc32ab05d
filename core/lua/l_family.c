/* l_family.c: see l_token.h: tokens.NAME[key] and tokens.NAME:of(key, data) of a family. Owned by the VM's thread; the family belongs to the process.
 *
 * A family keeps the handles of its keys in a weak table, so that their readers stay warm while scripts use them. It must not keep them strongly: a handle
 * holds its slot in use, and the family would never drop one. The family itself is asked each time, since that marks the slot as used and shows when it has been
 * dropped and made anew.
 *
 * A key that is a secret, or longer than a slot keeps, stands as its SHA-256, which is what the fetch sees: the same in every process, so that it may name a file. In
 * logs and status stands a mark of this process alone. A plain key that looks like such a hash is hashed as well: otherwise whoever learned the hash of a secret, from a
 * file's name say, could ask for its token without having it. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "lua/arg.h"
#include "lua/fetch_data.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/l_token.h"
#include "lua/pins.h"
#include "lua/vm.h"
#include "net/tls_crypto.h"
#include "token/family.h"
#include "token/secret.h"
#include "token/terms.h"

struct family_handle { /* user value 1: handles, weak, by key, or by key and digest */
  struct l_secret_family head;
  struct token_terms terms;
  struct token_family *family; /* a reference */
};

enum { HASHED_SIZE = sizeof "sha256:" + 64, SHOWN_SIZE = FAMILY_KEY_MAX + 2 * FAMILY_MARK_SIZE + 4 };

struct wanted {
  struct family_place place; /* key and shown point into the stack, or here */
  char hashed[HASHED_SIZE];
  char shown[SHOWN_SIZE];
};

static struct family_handle *check(lua_State *L) { return luaL_checkudata(L, 1, L_FAMILY); }

/* --- its keys --- */

static void hash_key(const struct family_handle *h, struct wanted *w, struct str bytes) {
  uint8_t sum[CRYPTO_DIGEST_MAX];
  char mark[FAMILY_MARK_SIZE];
  (void)crypto_hash(crypto_digest_find("sha256"), bytes, sum);
  memcpy(w->hashed, "sha256:", sizeof "sha256:");
  hex_write(sum, 32, w->hashed + sizeof "sha256:" - 1);
  w->hashed[HASHED_SIZE - 1] = '\0';
  w->place.key = str_of(w->hashed);
  family_mark(h->family, w->place.key, mark);
  (void)snprintf(w->shown, sizeof w->shown, "#%s", mark);
  w->place.shown = str_of(w->shown);
}

/* Raises for what is no key. */
static void read_secret_key(lua_State *L, const struct family_handle *h, struct secret *secret, struct wanted *w) {
  struct buf *bytes = guard_buf(L);
  struct secret_context any = {.any_target = true};
  int rc = pins_expand(L, secret, &any, bytes); /* whose token it becomes is part of what a run says */
  if (rc != 0) pins_raise(L);
  if (rc != 0) luaL_error(L, "tokens.%s: the key, a secret: %s", h->head.name, err_text(rc));
  if (bytes->n == 0) luaL_error(L, "tokens.%s: an empty key", h->head.name);
  hash_key(h, w, buf_str(bytes));
  guard_close(L, -1);
  lua_pop(L, 1);
}

static void read_key(lua_State *L, const struct family_handle *h, int idx, struct wanted *w) {
  w->place = (struct family_place){0};
  struct secret *secret = lua_type(L, idx) == LUA_TUSERDATA ? l_secret_test(L, idx) : NULL;
  if (secret != NULL) {
    read_secret_key(L, h, secret, w);
    return;
  }
  if (lua_type(L, idx) != LUA_TSTRING)
    luaL_error(L, "tokens.%s: a family's key is a string or a secret, got %s: write tokens.%s[tostring(key)]",
               h->head.name, arg_push_noun(L, idx), h->head.name);
  struct str key;
  key.p = lua_tolstring(L, idx, &key.n);
  if (key.n == 0) luaL_error(L, "tokens.%s: an empty key", h->head.name);
  w->place.key = w->place.shown = key;
  if (key.n > FAMILY_KEY_MAX || str_starts(key, STR("sha256:"))) hash_key(h, w, key);
}

/* Its digest makes another place of the same key, and is seen in the name by a mark. */
static void add_data(lua_State *L, const struct family_handle *h, int idx, struct wanted *w) {
  char mark[FAMILY_MARK_SIZE], shown[SHOWN_SIZE];
  w->place.data = fetch_data_read(L, idx, h->head.name, w->place.digest);
  family_mark(h->family, (struct str){(const char *)w->place.digest, FAMILY_DIGEST}, mark);
  (void)snprintf(shown, sizeof shown, "%.*s#%s", STR_FMT(w->place.shown), mark);
  memcpy(w->shown, shown, sizeof shown);
  w->place.shown = str_of(w->shown);
}

/* --- its places --- */

/* Handles that are garbage may hold the places: collect them and try once more. */
static struct slot *place(lua_State *L, struct family_handle *h, const struct wanted *w) {
  struct slot *slot = family_place(h->family, &w->place, clock_boot_ms());
  if (slot == NULL && vm_collect_rarely(vm_of(L))) slot = family_place(h->family, &w->place, clock_boot_ms());
  if (slot == NULL)
    luaL_error(L, "tokens.%s: all %d places are taken by tokens in use (see the token's max)", h->head.name,
               (int)family_max(h->family));
  return slot;
}

static void unmake_held(void *p) {
  struct slot **held = p;
  slot_unref(*held);
  free(held);
}

/* By which its handle is kept: the key as it is, or with the digest of its data behind it. A key that looks like that leads to a handle of another slot, which is seen. */
static void push_cache_key(lua_State *L, const struct wanted *w) {
  if (w->place.key.p == w->hashed)
    lua_pushlstring(L, w->place.key.p, w->place.key.n);
  else
    lua_pushvalue(L, 2);
  if (w->place.data == NULL) return;
  lua_pushlstring(L, (const char *)w->place.digest, FAMILY_DIGEST);
  lua_concat(L, 2);
}

/* Pushes the handle of the place. */
static int push_place(lua_State *L, struct family_handle *h, const struct wanted *w) {
  lua_getiuservalue(L, 1, 1);
  int cache = lua_gettop(L);
  push_cache_key(L, w);
  (void)lua_rawget(L, cache);
  struct slot *slot = place(L, h, w);
  bool same = slot == l_token_slot(L, -1);
  if (same) {
    slot_unref(slot);
    return 1;
  }
  slot_unref(slot); /* making the guard may raise; the family keeps a slot that was asked for just now */
  struct slot **held = guard_new(L, sizeof *held, unmake_held);
  int guard = lua_gettop(L);
  *held = place(L, h, w);
  push_cache_key(L, w);
  l_token_push(L, &h->terms, *held);
  guard_close(L, guard);
  lua_pushvalue(L, -1);
  lua_replace(L, guard);
  lua_rawset(L, cache);
  lua_settop(L, guard);
  return 1;
}

/* tokens.NAME:of(key, data) */
static int l_of(lua_State *L) {
  struct family_handle *h = luaL_testudata(L, 1, L_FAMILY);
  if (h == NULL)
    return luaL_error(L, "of: expected a family and a key: write tokens.NAME:of(key, { … }), with a colon, got %s",
                      arg_push_noun(L, 1));
  struct wanted w;
  lua_settop(L, 3);
  read_key(L, h, 2, &w);
  if (lua_isnil(L, 3)) return push_place(L, h, &w);
  add_data(L, h, 3, &w); /* pushes what keeps the data while it is needed */
  return push_place(L, h, &w);
}

static int l_index(lua_State *L) {
  static const struct str OF = {"of", 2};
  struct family_handle *h = check(L);
  struct wanted w;
  lua_settop(L, 2);
  read_key(L, h, 2, &w);
  if (str_eq(w.place.key, OF)) { /* the method: a key of that name is reached by it */
    lua_pushcfunction(L, l_of);
    return 1;
  }
  return push_place(L, h, &w);
}

static int l_tostring(lua_State *L) {
  struct family_handle *h = check(L);
  lua_pushfstring(L, "family<%s of %d tokens>", h->head.name, (int)family_size(h->family));
  return 1;
}

static int l_collect(lua_State *L) {
  struct family_handle *h = check(L);
  if (h->family != NULL) family_unref(h->family);
  h->family = NULL;
  return 0;
}

static const luaL_Reg metamethods[] = {
    {"__gc", l_collect},           {"__tostring", l_tostring},      {"__index", l_index},
    {"__concat", l_secret_concat}, {"__newindex", l_secret_refuse}, {NULL, NULL},
};

void l_family_push(lua_State *L, const char *name, const struct token_terms *terms, struct token_family *f) {
  struct family_handle *h = lua_newuserdatauv(L, sizeof *h, 1);
  *h = (struct family_handle){.head.name = name, .terms = *terms};
  if (luaL_newmetatable(L, L_FAMILY)) {
    luaL_setfuncs(L, metamethods, 0);
    lua_pushliteral(L, "family");
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_setiuservalue(L, -2, 1);
  h->family = family_ref(f);
}
