/* l_token_await.c: see l_token_await.h. Owned by the VM's thread; the slot is the process's.
 *
 * A wait is a slot_waiter and a deadline on the thread's wheel. The event that ends it frees it: the slot, the deadline or the task's end. */
#include "lua/l_token_await.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/wheel.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/l_fetch.h"
#include "lua/vm.h"
#include "token/keeper.h"
#include "token/slot.h"

enum {
  REFRESH_LIMIT_MS = 10 * 60 * 1000
}; /* the fetch has a limit of its own; this one is for a keeper that is gone */

/* The options are the script's own words, so what is wrong with them raises. The value and the numbers are often what a peer has sent: those fail. */
static void check_set(lua_State *L, const char *name) {
  static const char *const known[] = {"expires_in", "expires_at", "fields", NULL};
  if (!lua_istable(L, 3))
    luaL_error(L,
               "tokens.%s:set(value, options): options: expected a table, { expires_in = seconds } or { expires_at = … "
               "}, got %s",
               name, arg_push_noun(L, 3));
  arg_known(L, 3, "token:set", known);
}

static void unmake_bond(void *p) {
  token_bond_fini(p);
  free(p);
}

int token_set(lua_State *L, struct slot *slot, struct audience *audience) {
  lua_settop(L, 3);
  check_set(L, slot_name(slot));
  struct token_bond *bond = guard_new(L, sizeof *bond, unmake_bond);
  bond->audience = audience != NULL ? audience_ref(audience) : NULL;
  struct buf *hold = guard_buf(L);
  struct fetch_result result;
  const char *wrong = l_fetch_options(L, 2, 3, &result, hold, bond);
  result.bond = *bond;
  if (wrong == NULL) wrong = slot_set(slot, &result);
  if (wrong != NULL) return arg_failure(L, UV_EINVAL, "token %s: %s", slot_name(slot), wrong);
  guard_close(L, 5);
  guard_close(L, 4);
  lua_pushboolean(L, true);
  return 1;
}

struct waiting {
  struct await await;
  struct slot_waiter waiter;
  struct timeout deadline;
  struct slot *slot; /* a reference */
  int status;
  bool begun;
};

static void unmake(void *p) {
  struct waiting *w = p;
  slot_wait_cancel(&w->waiter);
  if (w->deadline.wheel != NULL) timeout_fini(&w->deadline);
  if (w->slot != NULL) slot_unref(w->slot);
  free(w);
}

static int push_outcome(lua_State *L, void *arg) {
  const struct waiting *w = arg;
  if (w->status == 0) {
    lua_pushboolean(L, true);
    return 1;
  }
  struct slot_facts facts;
  slot_facts(w->slot, clock_boot_ms(), &facts);
  bool failing =
      w->status == ERR_TOKEN_MISSING && facts.consecutive_failures > 0; /* else the text is of another time */
  const char *why = failing && facts.last_error[0] != '\0' ? facts.last_error : err_text(w->status);
  if (w->status == UV_ENOTSUP) why = "it has no fetch, so what refreshes it is :set(value, options)";
  return arg_failure(L, w->status, "token %s: %s", slot_name(w->slot), why);
}

static void finish(struct waiting *w, int status) {
  if (!w->begun) return;
  w->status = status;
  slot_wait_cancel(&w->waiter);
  timeout_clear(&w->deadline);
  await_finish(&w->await, push_outcome, w);
  unmake(w);
}

static void on_done(struct slot_waiter *waiter, int status) {
  finish(CONTAINER_OF(waiter, struct waiting, waiter), status);
}
static void on_deadline(struct timeout *t) { finish(CONTAINER_OF(t, struct waiting, deadline), ERR_TOKEN_MISSING); }
static void on_cancel(struct await *a) { unmake(CONTAINER_OF(a, struct waiting, await)); }

/* Pushes the guard of a new wait. */
static struct waiting *waiting_new(lua_State *L, struct slot *slot) {
  struct waiting *w = guard_new(L, sizeof *w, unmake);
  w->slot = slot_ref(slot);
  w->waiter.done = on_done;
  timeout_init(&w->deadline, &vm_services(vm_of(L))->wheel, on_deadline);
  return w;
}

/* rc: what slot_wait or slot_refresh_wait said. The guard is on top. */
static int await_slot(lua_State *L, struct waiting *w, int rc, int64_t ms) {
  if (rc != 0) {
    w->status = rc > 0 ? 0 : rc;
    return push_outcome(L, w);
  }
  await_begin(L, &w->await, on_cancel);
  guard_release(L, -1);
  w->begun = true;
  timeout_set(&w->deadline, (uint64_t)(ms > 0 ? ms : 1));
  return await_yield(L, &w->await);
}

int token_refresh(lua_State *L, struct slot *slot, unsigned max_waiters) {
  struct waiting *w = waiting_new(L, slot);
  return await_slot(L, w, slot_refresh_wait(slot, &w->waiter, &vm_services(vm_of(L))->mailbox, max_waiters),
                    REFRESH_LIMIT_MS);
}

int token_wait(lua_State *L, struct slot *slot, int64_t ms, unsigned max_waiters) {
  struct waiting *w = waiting_new(L, slot);
  return await_slot(L, w, slot_wait(slot, &w->waiter, &vm_services(vm_of(L))->mailbox, max_waiters), ms);
}
