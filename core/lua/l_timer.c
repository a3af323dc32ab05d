/* l_timer.c: see lib.h. Owned by the VM's thread.
 *
 * A uv_timer each, since they need milliseconds and the wheel is coarser. Its memory goes in its close callback, which comes after the VM's end
 * when the VM ends first. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <uv.h>

#include "base/list.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/guard.h"
#include "lua/job.h"
#include "lua/vm.h"

enum { EVERY_MIN_MS = 1 };

/* --- sleep --- */

struct sleep_op {
  struct await await;
  uv_timer_t timer;
};

static void on_sleep_closed(uv_handle_t *h) { free(h->data); }

static int push_nothing(lua_State *L, void *arg) {
  (void)L, (void)arg;
  return 0;
}

static void on_woken(uv_timer_t *t) {
  struct sleep_op *op = t->data;
  uv_close((uv_handle_t *)t, on_sleep_closed);
  await_finish(&op->await, push_nothing, NULL);
}

static void on_sleep_cancel(struct await *a) {
  struct sleep_op *op = CONTAINER_OF(a, struct sleep_op, await);
  uv_close((uv_handle_t *)&op->timer, on_sleep_closed);
}

int l_sleep(lua_State *L) {
  int64_t ms = arg_duration_ms(L, 1, "jeton.sleep", "duration");
  struct sleep_op *op = guard_new(L, sizeof *op, free);
  await_begin(L, &op->await, on_sleep_cancel);
  guard_release(L, -1);
  (void)uv_timer_init(&vm_services(vm_of(L))->loop, &op->timer);
  op->timer.data = op;
  uv_update_time(op->timer.loop); /* the script may have computed for a while: count from now */
  (void)uv_timer_start(&op->timer, on_woken, (uint64_t)ms, 0);
  return await_yield(L, &op->await);
}

/* --- spawn --- */

int l_spawn(lua_State *L) {
  if (!lua_isfunction(L, 1))
    arg_wrong(L, "jeton.spawn", "fn", "a function (jeton.spawn(fn, …) calls it with what follows)", 1);
  job_check_loading(L, "jeton.spawn");
  (void)job_push(L, "spawn", 1, lua_gettop(L) - 1, NULL);
  job_start(L, lua_gettop(L));
  return 1;
}

/* --- every --- */

struct ticker {
  struct job_source source;
  uv_timer_t timer;
};

static void on_tick(uv_timer_t *t) {
  struct ticker *k = t->data;
  (void)job_fire(k->source.job); /* a run that takes longer than the interval misses ticks; they do not pile up */
}

static void on_ticker_closed(uv_handle_t *h) { free(h->data); }

static void ticker_end(struct job_source *s) {
  struct ticker *k = CONTAINER_OF(s, struct ticker, source);
  uv_close((uv_handle_t *)&k->timer, on_ticker_closed);
}

int l_every(lua_State *L) {
  int64_t ms = arg_duration_ms(L, 1, "jeton.every", "interval");
  if (!lua_isfunction(L, 2)) arg_wrong(L, "jeton.every", "fn", "a function", 2);
  job_check_loading(L, "jeton.every");
  if (ms < EVERY_MIN_MS) return luaL_error(L, "jeton.every: interval: expected more than 0");
  lua_settop(L, 2);
  struct ticker *k = guard_new(L, sizeof *k, free);
  k->source.end = ticker_end;
  struct services *services = vm_services(vm_of(L));
  (void)job_push(L, "every", 2, 0, &k->source);
  guard_release(L, 3);
  (void)uv_timer_init(&services->loop, &k->timer);
  k->timer.data = k;
  (void)uv_timer_start(&k->timer, on_tick, (uint64_t)ms, (uint64_t)ms);
  return 1;
}
