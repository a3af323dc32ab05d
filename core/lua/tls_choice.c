/* tls_choice.c: see tls_choice.h. Owned by the VM's thread; a finished choice may be read by the thread pool.
 *
 * A table is read anew at each call, since a script may build it anew. What it says is written into one text, and that is the key under which
 * the VM keeps the tls_client that was made of it: equal settings cost one reading of their files, and one pool of connections, however many tables say
 * them. Keeping the client by the table's address was the other way; a table in a function's call is another one each time.
 *
 * The cache is bounded by forgetting all of it (TLS_CHOICES_MAX): an order of use would be kept for scripts that make settings of what requests
 * say, and these would miss all the same. Connections hold the client that they began with. */
#include "lua/tls_choice.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/must.h"
#include "lua/arg.h"

#define CLIENT "jeton.tls"
static const char what[] = "jeton.http: tls";

void tls_choice_fini(struct tls_choice *c) {
  struct tls_client_settings *s = &c->settings;
  must_free(s->ca);
  must_free(s->cert);
  must_free(s->key);
  must_free(s->server_name);
  must_free(s->insecure);
  for (size_t i = 0; i < s->npins; i++) free(c->pins[i]);
  free(c->key);
  memset(c, 0, sizeof *c);
}

static const char *read_text(lua_State *L, int idx, const char *key) {
  const char *text = arg_field_string(L, idx, what, key);
  const char *kept = text != NULL ? must_strdup(text) : NULL;
  lua_pop(L, 1);
  return kept;
}

static enum tls_version read_version(lua_State *L, int idx, const char *key, enum tls_version otherwise) {
  const char *text = arg_field_string(L, idx, what, key);
  enum tls_version v = otherwise;
  if (text != NULL && strcmp(text, "1.3") == 0)
    v = TLS_1_3;
  else if (text != NULL && strcmp(text, "1.2") == 0)
    v = TLS_1_2;
  else if (text != NULL)
    luaL_error(L, "%s: %s: expected \"1.2\" or \"1.3\"", what, key);
  lua_pop(L, 1);
  return v;
}

static void read_versions(lua_State *L, int idx, struct tls_client_settings *s) {
  s->min_version = read_version(L, idx, "min_version", TLS_1_2);
  s->max_version = read_version(L, idx, "max_version", TLS_1_3);
  if (s->max_version < s->min_version)
    luaL_error(L, "%s: max_version: expected \"1.3\" beside min_version = \"1.3\", got \"1.2\"", what);
}

static void read_pins(lua_State *L, int idx, struct tls_choice *c) {
  if (lua_getfield(L, idx, "pins") != LUA_TNIL) {
    if (!lua_istable(L, -1)) arg_wrong(L, what, "pins", "a list of \"sha256/…\"", -1);
    lua_Integer n = luaL_len(L, -1);
    if (n > TLS_PINS_MAX) luaL_error(L, "%s: pins: more than %d", what, TLS_PINS_MAX);
    c->settings.pins = (const char *const *)c->pins;
    for (lua_Integer i = 1; i <= n; i++) {
      (void)lua_geti(L, -1, i);
      c->pins[c->settings.npins++] = must_strdup(arg_string(L, -1, what, "pins").p);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

/* As in a policy's upstream: no verification only when both keys say so, so that it is never a slip. */
static const char *read_insecure(lua_State *L, int idx) {
  bool verify = arg_field_bool(L, idx, what, "verify", true);
  const char *name = arg_field_string(L, idx, what, "insecure");
  if (!verify && name == NULL)
    luaL_error(
        L, "%s: verify: expected an insecure = \"NAME\" beside verify = false, to say on purpose what is not verified",
        what);
  if (verify && name != NULL) luaL_error(L, "%s: insecure: only has a meaning beside verify = false", what);
  const char *kept = name != NULL ? must_strdup(name) : NULL;
  lua_pop(L, 1);
  return kept;
}

/* With its length, or none: what one says never reads as two. */
static void add_key(struct buf *b, const char *text) {
  if (text != NULL) buf_addf(b, "%zu:%s", strlen(text), text);
  buf_add(b, "\n", 1);
}

static void make_key(struct tls_choice *c) {
  const struct tls_client_settings *s = &c->settings;
  struct buf b;
  buf_init(&b);
  buf_addf(&b, "%d %d %d\n", s->insecure != NULL, (int)s->min_version, (int)s->max_version);
  add_key(&b, s->insecure);
  add_key(&b, s->ca);
  add_key(&b, s->cert);
  add_key(&b, s->key);
  add_key(&b, s->server_name);
  for (size_t i = 0; i < s->npins; i++) add_key(&b, c->pins[i]);
  c->key = must_strdup(buf_z(&b));
  buf_fini(&b);
}

void tls_choice_read(lua_State *L, int idx, struct tls_choice *c) {
  static const char *const known[] = {"ca",       "cert",        "key",         "server_name", "verify",
                                      "insecure", "min_version", "max_version", "pins",        NULL};
  idx = lua_absindex(L, idx);
  c->settings.min_version = TLS_1_2;
  c->settings.max_version = TLS_1_3;
  if (!lua_isnil(L, idx)) {
    if (!lua_istable(L, idx)) arg_wrong(L, "jeton.http", "tls", "a table", idx);
    arg_known(L, idx, what, known);
    c->own = true;
    c->settings.ca = read_text(L, idx, "ca");
    c->settings.cert = read_text(L, idx, "cert");
    c->settings.key = read_text(L, idx, "key");
    c->settings.server_name = read_text(L, idx, "server_name");
    read_versions(L, idx, &c->settings);
    c->settings.insecure = read_insecure(L, idx);
    read_pins(L, idx, c);
    if (c->settings.insecure != NULL && c->settings.ca != NULL)
      luaL_error(L, "%s: ca: has no use beside verify = false: nobody is asked who signed", what);
    if ((c->settings.cert == NULL) != (c->settings.key == NULL))
      luaL_error(L, "%s: cert and key: expected both or none", what);
  }
  make_key(c);
}

/* --- the cache: registry[CLIENT ".cache"][key] = userdata --- */

static int l_collect(lua_State *L) {
  struct tls_client **p = luaL_checkudata(L, 1, CLIENT);
  if (*p != NULL) tls_client_unref(*p);
  *p = NULL;
  return 0;
}

struct tls_client *tls_choice_known(lua_State *L, const struct tls_choice *c) {
  (void)luaL_getsubtable(L, LUA_REGISTRYINDEX, CLIENT ".cache");
  lua_getfield(L, -1, c->key);
  struct tls_client **p = luaL_testudata(L, -1, CLIENT);
  struct tls_client *client = p != NULL ? tls_client_ref(*p) : NULL;
  lua_pop(L, 2);
  return client;
}

/* Empties the cache on top of the stack at once: the collector sees eight bytes where there are thousands. Connections hold what they use. */
static void forget_all(lua_State *L) {
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    struct tls_client **p = luaL_testudata(L, -1, CLIENT);
    if (p != NULL && *p != NULL) tls_client_unref(*p);
    if (p != NULL) *p = NULL;
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_pushnil(L);
    lua_rawset(L, -4);
  }
}

/* Pushes the cache with room for one more. Slot 1 counts. */
static void push_cache(lua_State *L) {
  (void)luaL_getsubtable(L, LUA_REGISTRYINDEX, CLIENT ".cache");
  (void)lua_rawgeti(L, -1, 1);
  lua_Integer n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  if (n >= TLS_CHOICES_MAX) {
    forget_all(L);
    n = 0;
  }
  lua_pushinteger(L, n + 1);
  lua_rawseti(L, -2, 1);
}

void tls_choice_keep(lua_State *L, const struct tls_choice *c, struct tls_client *client) {
  push_cache(L);
  struct tls_client **p = lua_newuserdatauv(L, sizeof(struct tls_client *), 0);
  *p = NULL;
  if (luaL_newmetatable(L, CLIENT)) {
    lua_pushcfunction(L, l_collect);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  *p = tls_client_ref(client);
  lua_setfield(L, -2, c->key);
  lua_pop(L, 1);
}
