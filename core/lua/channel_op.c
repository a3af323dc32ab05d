/* channel_op.c: see channel_op.h. Owned by the VM's thread; the channels are the process's.
 *
 * An operation that can be done at once uses arms on the C stack. Only one that waits has an op on the heap. Three events end and free it: its counterpart (by
 * mail), the deadline, and the end of the task. Invariant: an item that an op has received is pushed to the script, or goes back to its channel; one that it
 * has not sent is freed. So a client that leaves, a spent budget and a reload lose nothing.
 *
 * A script that always finds something to do never waits, and would run until its budget ends it. So when its run has lasted long, the outcome comes by a mail to
 * the own thread instead. */
#include "lua/channel_op.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/wheel.h"
#include "http/services.h"
#include "lua/arg.h"
#include "lua/message.h"
#include "lua/vm.h"

struct channel_op {
  struct vm *vm; /* a reference: its hold on the channels is ours, and its task may be the last other one */
  struct await await;
  struct channel_wait wait;
  struct timeout deadline;
  task_push_fn push;
  struct channel_arm arms[];
};

/* --- outcomes --- */

static int l_push_item(lua_State *L) {
  message_push(L, lua_touserdata(L, 1));
  return 1;
}

int channel_op_push_received(lua_State *L, struct channel_arm *arm) {
  struct channel_item *item = arm->item;
  arm->item = NULL;
  if (item == NULL) return arg_failure(L, ERR_CLOSED, "closed");
  lua_pushcfunction(L, l_push_item);
  lua_pushlightuserdata(L, item);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    channel_return(arm->channel, item);
    (void)lua_error(L);
  }
  return 1;
}

void channel_op_check_sent(lua_State *L, const struct channel_arm *arm) {
  if (arm->taken) return;
  (void)luaL_error(L, "channel %s: a send on a closed channel: only who knows that nobody sends any more may close it",
                   channel_name(arm->channel));
}

int channel_op_push_timeout(lua_State *L) { return arg_failure(L, UV_ETIMEDOUT, "timeout"); }

/* --- waiting --- */

void channel_op_drop_items(struct channel_arm *arms, unsigned n) {
  for (unsigned i = 0; i < n; i++) {
    if (!arms[i].sends || arms[i].item == NULL) continue;
    arms[i].item->free(arms[i].item);
    arms[i].item = NULL;
  }
}

static void op_free(struct channel_op *op) {
  channel_op_drop_items(op->arms, op->wait.n);
  for (unsigned i = 0; i < op->wait.n; i++) {
    if (op->arms[i].item != NULL) channel_return(op->arms[i].channel, op->arms[i].item);
    channel_unref(op->arms[i].channel);
  }
  timeout_fini(&op->deadline);
  struct vm *vm = op->vm;
  free(op);
  vm_unref(vm);
}

static void finish(struct channel_op *op, bool fired) {
  struct channel_outcome outcome = {UV_ETIMEDOUT, NULL};
  if (fired) outcome = (struct channel_outcome){(int)op->wait.fired, &op->arms[op->wait.fired]};
  timeout_clear(&op->deadline);
  await_finish(&op->await, op->push, &outcome);
  op_free(op);
}

static void on_fired(struct channel_wait *w) { finish(CONTAINER_OF(w, struct channel_op, wait), true); }

static void on_deadline(struct timeout *t) {
  struct channel_op *op = CONTAINER_OF(t, struct channel_op, deadline);
  finish(op, channel_stop(&op->wait));
}

static void on_cancel(struct await *a) {
  struct channel_op *op = CONTAINER_OF(a, struct channel_op, await);
  (void)channel_stop(&op->wait);
  op_free(op);
}

static struct channel_op *op_new(lua_State *L, const struct await *begun, const struct channel_arm *arms, unsigned n,
                                 task_push_fn push) {
  struct services *services = vm_services(vm_of(L));
  struct channel_op *op = must_calloc(1, sizeof *op + n * sizeof *arms);
  op->vm = vm_ref(vm_of(L));
  op->await = *begun;
  op->push = push;
  op->wait.home = &services->mailbox;
  op->wait.arms = op->arms;
  op->wait.n = n;
  op->wait.done = on_fired;
  memcpy(op->arms, arms, n * sizeof *arms);
  for (unsigned i = 0; i < n; i++) (void)channel_ref(arms[i].channel);
  timeout_init(&op->deadline, &services->wheel, on_deadline);
  return op;
}

/* An arm fired between channel_try and channel_wait: gives the arms back to the caller, which still has them on the stack. */
static void take_back(struct channel_op *op, struct channel_arm *arms) {
  unsigned n = op->wait.n;
  memcpy(arms, op->arms, n * sizeof *arms);
  for (unsigned i = 0; i < n; i++) op->arms[i].item = NULL;
  op_free(op);
}

void channel_op_begin(lua_State *L, struct await *begun) { await_begin(L, begun, on_cancel); }

int channel_op(lua_State *L, const struct await *begun, struct channel_arm *arms, unsigned n, struct rng *rng,
               int64_t ms, task_push_fn push) {
  int fired = channel_try(arms, n, rng);
  bool defer = fired >= 0 && vm_long_run(vm_of(L));
  if ((fired >= 0 && !defer) || (fired < 0 && ms == 0)) {
    channel_op_drop_items(arms, n);
    return fired;
  }
  struct channel_op *op = op_new(L, begun, arms, n, push);
  if (defer) {
    channel_defer(&op->wait, (unsigned)fired);
  } else if ((fired = channel_wait(&op->wait, rng)) >= 0) {
    take_back(op, arms);
    channel_op_drop_items(arms, n);
    return fired;
  } else if (ms > 0) {
    uv_update_time(&vm_services(vm_of(L))->loop); /* the script may have computed for a while: count from now */
    timeout_set(&op->deadline, (uint64_t)ms);
  }
  return await_yield(L, &op->await);
}
