/* charge.c: see charge.h. */
#include "lua/charge.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/must.h"
#include "lua/vm_internal.h"

struct account {
  atomic_uint refs;
  atomic_uint_least64_t used, max; /* relaxed: each is a number of its own, nothing else is published by them */
};

struct account *account_new(uint64_t max) {
  struct account *a = must_calloc(1, sizeof *a);
  atomic_init(&a->refs, 1);
  atomic_init(&a->used, 0);
  atomic_init(&a->max, max);
  return a;
}

void account_limit(struct account *a, uint64_t max) { atomic_store_explicit(&a->max, max, memory_order_relaxed); }

static struct account *account_ref(struct account *a) {
  atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
  return a;
}

void account_unref(struct account *a) {
  if (atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1) free(a);
}

bool account_take(struct account *a, size_t n) {
  const uint64_t max = atomic_load_explicit(&a->max, memory_order_relaxed);
  const uint64_t before = atomic_fetch_add_explicit(&a->used, n, memory_order_relaxed);
  if (max == 0 || (before <= max && n <= max - before)) return true;
  account_give(a, n);
  return false;
}

void account_give(struct account *a, size_t n) { (void)atomic_fetch_sub_explicit(&a->used, n, memory_order_relaxed); }

/* --- charges --- */

bool charge_begin(lua_State *L, struct charge *c, size_t n) {
  struct vm *vm = vm_at(L);
  /* secrets that are garbage may hold the room */
  if (!account_take(vm->outside, n) && !(vm_collect_rarely(vm) && account_take(vm->outside, n))) return false;
  if (c->account == NULL) c->account = account_ref(vm->outside);
  c->n += n;
  return true;
}

void charge_must(lua_State *L, struct charge *c, size_t n) {
  if (charge_begin(L, c, n)) return;
  struct vm *vm = vm_at(L);
  vm->refused = true;
  lua_place(L, vm->refused_at);
  lua_pushliteral(L, "not enough memory"); /* as luaL_Buffer says it: vm_failure knows it */
  (void)lua_error(L);
}

bool charge_more(struct charge *c, size_t n) {
  if (!account_take(c->account, n)) return false;
  c->n += n;
  return true;
}

size_t charge_room(const struct charge *c) {
  const uint64_t max = atomic_load_explicit(&c->account->max, memory_order_relaxed);
  const uint64_t used = atomic_load_explicit(&c->account->used, memory_order_relaxed);
  return max == 0 ? SIZE_MAX : used < max ? (size_t)(max - used) : 0;
}

void charge_keep(struct charge *c, size_t n) {
  if (c->account == NULL || c->n <= n) return;
  account_give(c->account, c->n - n);
  c->n = n;
}

void charge_end(struct charge *c) {
  if (c->account == NULL) return;
  account_give(c->account, c->n);
  account_unref(c->account);
  *c = (struct charge){0};
}
