/* compute.c: see compute.h. The VM's thread.
 *
 * Invariant: between the moment a secret's bytes are in a buffer and the moment they are wiped no Lua function that can raise is called.
 *
 * What a policy computes while its file loads may be what a token is fetched with, and a reload compares that by its description (policy/made_of.c). So there it is described by what
 * went in; later by its function's name alone, which costs nothing. */
#include "lua/compute.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/secmem.h"
#include "lua/arg.h"
#include "lua/l_secret.h"
#include "lua/pins.h"
#include "lua/vm.h"

enum { SECRET_STEPS = 1024 /* of a secret's bytes, whose number is not known before they are there: at most 1 MiB */ };

static struct operand *next(struct compute *c) { return &c->v[c->n++]; }

struct operand *compute_text(lua_State *L, int idx, struct compute *c) {
  luaL_checktype(L, idx, LUA_TSTRING);
  struct operand *o = next(c);
  o->bytes.p = lua_tolstring(L, idx, &o->bytes.n);
  return o;
}

struct operand *compute_operand(lua_State *L, int idx, struct compute *c) {
  struct secret *s = l_secret_test(L, idx);
  if (s == NULL && lua_type(L, idx) != LUA_TSTRING) luaL_typeerror(L, idx, "string or secret");
  if (s == NULL) return compute_text(L, idx, c);
  l_secret_note(L, s);
  vm_burn(L, secret_size(s) < 4096 ? SECRET_STEPS / 16 : SECRET_STEPS);
  struct operand *o = next(c);
  o->secret = s;
  return o;
}

static int expand_all(lua_State *L, struct compute *c, struct secret_context *any) {
  int rc = 0;
  for (unsigned i = 0; i < c->n && rc == 0; i++) {
    struct operand *o = &c->v[i];
    if (o->secret == NULL) continue;
    rc = pins_expand(L, o->secret, any, &o->expanded);
    o->bytes = buf_str(&o->expanded);
  }
  return rc;
}

/* A publish between two of them lets the second one fail: they are taken anew, once. */
int compute_begin(lua_State *L, struct compute *c) {
  int rc = 0;
  for (unsigned i = 0; i < c->n; i++) {
    buf_init(&c->v[i].expanded);
    c->v[i].expanded.sensitive = true;
  }
  for (int try = 0; try < 2; try++) {
    struct secret_context any = {.any_target = true, .taint = &c->from};
    rc = expand_all(L, c, &any);
    if (rc != ERR_TOKEN_EXPIRED) break;
    for (unsigned i = 0; i < c->n; i++) buf_reset(&c->v[i].expanded);
    secret_taint_fini(&c->from);
  }
  return rc;
}

static void end_bytes(struct compute *c) {
  for (unsigned i = 0; i < c->n; i++) buf_fini(&c->v[i].expanded);
}

void compute_end(struct compute *c) {
  end_bytes(c);
  secret_taint_fini(&c->from);
}

/* Of any length, and without the text of strings, which may be meant to be secret: what is not shown is told apart by a digest. */
static void describe(const struct compute *c, char *label, size_t size) {
  static const struct hash_key key = {{5, 6}};
  enum { SHOWN = 100 };
  struct buf all, shown;
  buf_init(&all);
  buf_init(&shown);
  all.sensitive = true;
  for (unsigned i = 0; i < c->n; i++) {
    const struct operand *o = &c->v[i];
    if (o->secret == NULL) {
      buf_addf(&all, "%zu:", o->bytes.n);
      buf_adds(&all, o->bytes);
    } else {
      secret_describe(o->secret, &all);
      secret_describe(o->secret, &shown);
    }
  }
  int n = shown.n < SHOWN ? (int)shown.n : SHOWN;
  (void)snprintf(label, size, "%s(%.*s) %016llx", c->what, n, (const char *)shown.p,
                 (unsigned long long)siphash(&key, buf_str(&all), 2, 4));
  buf_fini(&all);
  buf_fini(&shown);
}

struct secret *compute_secret(lua_State *L, struct compute *c, const void *bytes, size_t n) {
  char label[160];
  const bool loading = vm_loading(vm_of(L));
  if (loading) describe(c, label, sizeof label);
  return secret_computed((struct str){bytes, n}, loading ? label : c->what, &c->from);
}

int compute_push(lua_State *L, struct compute *c, void *bytes, size_t n) {
  const bool opaque = compute_is_opaque(c);
  struct secret *made = opaque ? compute_secret(L, c, bytes, n) : NULL;
  if (opaque) secmem_wipe(bytes, n);
  compute_end(c);
  if (opaque)
    l_secret_push(L, made);
  else
    lua_pushlstring(L, bytes, n);
  return 1;
}

int compute_fail(lua_State *L, struct compute *c, int code) {
  compute_end(c);
  return pins_failure(L, code);
}
