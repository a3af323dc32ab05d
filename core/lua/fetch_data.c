/* fetch_data.c: see fetch_data.h.
 *
 * Read in a worker's VM, pushed in the keeper's, and kept by the slot in between, so nothing in it belongs to a thread: a secret that is read from somewhere goes with
 * the bytes that it has now (token/secret_carry.c), and a token raises, or what was computed of one, since the fetch has jeton.tokens itself. It never changes: other data make another slot. Bounded
 * by FETCH_DATA_MAX for each place of a family. */
#include "lua/fetch_data.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/secmem.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/l_secret.h"
#include "lua/vm.h"
#include "net/tls_crypto.h"
#include "token/secret.h"

enum value_kind { VALUE_FALSE, VALUE_TRUE, VALUE_INTEGER, VALUE_NUMBER, VALUE_TEXT, VALUE_SECRET };

struct pair {
  struct str name; /* malloc'd, as is a text */
  enum value_kind kind;
  union {
    lua_Integer integer;
    lua_Number number;
    struct str text;
    struct secret *secret;
  } of;
};

struct fetch_data {
  struct slot_data head;
  unsigned n;
  size_t size; /* bytes of names, texts and secrets */
  struct pair v[FETCH_DATA_PAIRS];
};

static void drop_text(struct str s) {
  if (s.p == NULL) return;
  secmem_wipe((char *)(uintptr_t)s.p, s.n);
  must_free(s.p);
}

static void free_data(struct slot_data *head) {
  struct fetch_data *d = CONTAINER_OF(head, struct fetch_data, head);
  for (unsigned i = 0; i < d->n; i++) {
    drop_text(d->v[i].name);
    if (d->v[i].kind == VALUE_TEXT) drop_text(d->v[i].of.text);
    if (d->v[i].kind == VALUE_SECRET) secret_unref(d->v[i].of.secret);
  }
  free(d);
}

/* --- reading --- */

struct reading {
  lua_State *L;
  const char *family;
  struct fetch_data *data;
  struct buf *bytes; /* sensitive: the pair that is digested */
  uint8_t sums[FETCH_DATA_PAIRS][FAMILY_DIGEST];
};

static void unmake(void *p) {
  struct fetch_data **held = p;
  if (*held != NULL) slot_data_unref(&(*held)->head);
  free(held);
}

/* A token is renewed, and each renewal would be other data: another slot, another fetch, and a secret that ends within the slot's life. So is what was computed of one. */
static void read_secret(struct reading *r, struct pair *p, int value) {
  struct secret *secret = l_secret_test(r->L, value);
  const char *name = p->name.p;
  if (secret == NULL)
    luaL_error(r->L, "tokens.%s:of: data.%s: expected a string, a number, a boolean or a secret, got %s", r->family,
               name, arg_push_noun(r->L, value));
  if (secret_is_of_token(secret))
    luaL_error(
        r->L,
        "tokens.%s:of: data.%s: a token, or computed of one, which is renewed, and data are not: let the fetch take "
        "it from jeton.tokens, and compute there",
        r->family, name);
  struct secret_context any = {.any_target = true};
  int rc = secret_carry(secret, &p->of.secret);
  if (rc == 0) {
    p->kind = VALUE_SECRET;
    rc = secret_expand(p->of.secret, &any, r->bytes);
  }
  if (rc != 0) luaL_error(r->L, "tokens.%s:of: data.%s: %s", r->family, name, err_text(rc));
  r->data->size += secret_size(p->of.secret);
}

static void read_value(struct reading *r, struct pair *p, int value) {
  lua_State *L = r->L;
  switch (lua_type(L, value)) {
    case LUA_TBOOLEAN: p->kind = lua_toboolean(L, value) ? VALUE_TRUE : VALUE_FALSE; break;
    case LUA_TNUMBER:
      p->kind = lua_isinteger(L, value) ? VALUE_INTEGER : VALUE_NUMBER;
      if (p->kind == VALUE_INTEGER)
        p->of.integer = lua_tointeger(L, value);
      else
        p->of.number = lua_tonumber(L, value);
      buf_add(r->bytes, &p->of, sizeof p->of.integer);
      break;
    case LUA_TSTRING: {
      struct str text;
      text.p = lua_tolstring(L, value, &text.n);
      p->of.text = (struct str){must_dup(text), text.n};
      p->kind = VALUE_TEXT;
      r->data->size += text.n;
      buf_adds(r->bytes, text);
      break;
    }
    default: read_secret(r, p, value);
  }
}

static void digest(struct str bytes, uint8_t out[FAMILY_DIGEST]) {
  uint8_t sum[CRYPTO_DIGEST_MAX];
  (void)crypto_hash(crypto_digest_find("sha256"), bytes, sum);
  memcpy(out, sum, FAMILY_DIGEST);
}

/* name, its end, kind, value: no two pairs are alike in it. */
static void read_pair(struct reading *r, int value) {
  lua_State *L = r->L;
  struct fetch_data *d = r->data;
  struct str name;
  if (lua_type(L, value - 1) != LUA_TSTRING)
    luaL_error(L, "tokens.%s:of: data: a key that is a %s: expected names, as in { subject = … }", r->family,
               luaL_typename(L, value - 1));
  name.p = lua_tolstring(L, value - 1, &name.n);
  if (d->n == FETCH_DATA_PAIRS) luaL_error(L, "tokens.%s:of: data: more than %d values", r->family, FETCH_DATA_PAIRS);
  struct pair *p = &d->v[d->n++];
  p->name = (struct str){must_dup(name), name.n};
  d->size += name.n;
  buf_addf(r->bytes, "%zu:", name.n);
  buf_adds(r->bytes, name);
  size_t kind = r->bytes->n;
  buf_add(r->bytes, "?", 1);
  read_value(r, p, value);
  r->bytes->p[kind] = (uint8_t)('0' + (int)p->kind);
  if (d->size > FETCH_DATA_MAX)
    luaL_error(L, "tokens.%s:of: data of more than %d KiB", r->family, FETCH_DATA_MAX / 1024);
  digest(buf_str(r->bytes), r->sums[d->n - 1]);
  secmem_wipe(r->bytes->p, r->bytes->n);
  r->bytes->n = 0;
}

static int compare(const void *a, const void *b) { return memcmp(a, b, FAMILY_DIGEST); }

struct slot_data *fetch_data_read(lua_State *L, int idx, const char *family, uint8_t out[FAMILY_DIGEST]) {
  if (!lua_istable(L, idx))
    luaL_error(L, "tokens.%s:of: data: expected a table such as { subject = secret }, got %s", family,
               arg_push_noun(L, idx));
  luaL_checkstack(L, 8, "data");
  struct fetch_data **held = guard_new(L, sizeof *held, unmake);
  struct reading r = {.L = L, .family = family, .bytes = guard_buf(L)};
  int guard = lua_gettop(L);
  r.data = *held = must_calloc(1, sizeof **held);
  atomic_init(&r.data->head.refs, 1);
  r.data->head.free = free_data;
  for (lua_pushnil(L); vm_next(L, idx); lua_pop(L, 1)) read_pair(&r, lua_gettop(L));
  vm_burn(L, r.data->size);
  qsort(r.sums, r.data->n, sizeof r.sums[0], compare); /* the order of a table's pairs means nothing */
  digest((struct str){(const char *)r.sums, r.data->n * sizeof r.sums[0]}, out);
  guard_close(L, guard);
  lua_settop(L, guard - 1);
  return &r.data->head;
}

/* --- pushing --- */

static void push_value(lua_State *L, const struct pair *p) {
  switch (p->kind) {
    case VALUE_FALSE: lua_pushboolean(L, 0); break;
    case VALUE_TRUE: lua_pushboolean(L, 1); break;
    case VALUE_INTEGER: lua_pushinteger(L, p->of.integer); break;
    case VALUE_NUMBER: lua_pushnumber(L, p->of.number); break;
    case VALUE_TEXT: lua_pushlstring(L, p->of.text.p, p->of.text.n); break;
    case VALUE_SECRET: l_secret_push(L, secret_ref(p->of.secret)); break;
  }
}

void fetch_data_push(lua_State *L, const struct slot_data *data) {
  const struct fetch_data *d = CONTAINER_OF(data, const struct fetch_data, head);
  luaL_checkstack(L, 6, "data");
  lua_createtable(L, 0, (int)d->n);
  for (unsigned i = 0; i < d->n; i++) {
    lua_pushlstring(L, d->v[i].name.p, d->v[i].name.n);
    push_value(L, &d->v[i]);
    lua_rawset(L, -3);
  }
}
