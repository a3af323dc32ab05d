/* exchange.c: the life of an exchange and its dispatcher. See exchange.h for the invariants.
 *
 * A callback that fires inside a step only notes what comes next (exchange_resume), so the dispatcher never nests and the stack stays flat. An exchange ends in
 * one of two places: in the dispatcher, when a step returns DONE or TUNNELLED, or in exchange_abort, called from the loop. */
#include "proxy/exchange.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/failover.h"
#include "proxy/forward.h"
#include "proxy/l_try.h"
#include "proxy/steps.h"
#include "proxy/try.h"
#include "proxy/worker_state.h"

static const struct {
  const char *name;
  enum verdict (*run)(struct exchange *);
} steps[STEP_COUNT] = {
    [STEP_ADMIT] = {"admit", step_admit},
    [STEP_REQUEST_HOOK] = {"on_request", step_request_hook},
    [STEP_ROUTE] = {"route", step_route},
    [STEP_TOKEN] = {"token", step_token},
    [STEP_SEND_HOOK] = {"on_send", step_send_hook},
    [STEP_SEND] = {"send", step_send},
    [STEP_JUDGE] = {"judge", step_judge},
    [STEP_DISCARD] = {"discard", step_discard},
    [STEP_RESPONSE_HOOK] = {"on_response", step_response_hook},
    [STEP_REPLY] = {"reply", step_reply},
    [STEP_RELAY] = {"relay", step_relay},
    [STEP_TUNNEL] = {"tunnel", step_tunnel},
    [STEP_ERROR] = {"error", step_error},
};

static void check_invariants(const struct exchange *ex) {
  (void)ex;
  assert(ex->down->exchange == ex);
  assert(ex->runtime != NULL);
  assert(ex->task == NULL);        /* a hook that waits stops the dispatcher */
  assert(ex->waiter.slot == NULL); /* so does a token */
  assert(ex->step > STEP_SEND || !call_running(&ex->call) || ex->failure.status != 0);
  assert(!ex->replied || ex->step >= STEP_RELAY); /* one reply only */
}

/* --- end --- */

static void release(struct exchange *ex) {
  ex->place.serial = 0;         /* scripts' handles are stale from here on */
  request_body_fini(&ex->body); /* what a hook spawned may await a body, too, and must not point here any longer */
  body_wait_done(&ex->reply.wait, ERR_CLOSED);
  buf_fini(&ex->reply.bytes);
  if (ex->has_ctx) {
    lua_State *L = vm_state(ex->runtime->vm);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, ex);
  }
  call_fini(&ex->call);
  l_try_forget(ex);
  try_fini(ex);
  later_cancel(&ex->nudge);
  timeout_fini(&ex->token_wait);
  timeout_fini(&ex->body_wait_limit);
  timeout_fini(&ex->deadline);
  arena_reset(&ex->arena);
  struct runtime *r = ex->runtime;
  ex->runtime = NULL;
  ex->down = NULL;
  exchange_pool_give(&ex->worker->exchanges, &ex->place);
  runtime_unref(r);
}

void exchange_cancel_waits(struct exchange *ex) {
  if (ex->task != NULL) task_cancel(ex->task);
  ex->task = NULL;
  slot_wait_cancel(&ex->waiter);
  timeout_clear(&ex->token_wait);
  timeout_clear(&ex->body_wait_limit);
  call_cancel(&ex->call);
  if (ex->forward != NULL) forward_cancel(ex->forward);
}

void exchange_abort(struct exchange *ex) {
  assert(!ex->running && ex->down->exchange == NULL && ex->down->ended != REPLY_WHOLE);
  failover_given_up(ex);
  exchange_cancel_waits(ex);
  if (ex->failure.status == 0) ex->failure.status = ex->down->ended == REPLY_CUT ? 503 : 499;
  exchange_log(ex);
  release(ex);
}

/* --- the dispatcher --- */

static void exchange_run(struct exchange *ex) {
  assert(!ex->running);
  ex->running = true;
  enum verdict v = NEXT;
  do {
    check_invariants(ex);
    enum step before = ex->step;
    ex->resumed = false;
    v = steps[before].run(ex);
    if (v == NEXT && ex->step == before) ex->step = (enum step)(before + 1);
    if (v == WAIT && ex->resumed) v = NEXT;
  } while (v == NEXT || v == FAIL);
  ex->running = false;
  if (v == WAIT) return;
  assert(ex->down->exchange == NULL);
  if (v == DONE) exchange_log(ex);
  release(ex);
}

void exchange_resume(struct exchange *ex, enum step next) {
  ex->step = next;
  if (ex->running)
    ex->resumed = true;
  else
    exchange_run(ex);
}

enum verdict exchange_fail(struct exchange *ex, int status, int code, const char *reason) {
  if (code == ERR_AMBIGUOUS) COUNT(ex->worker, ambiguous, 1);
  if (ex->failure.status == 0) {
    ex->failure.status = status;
    ex->failure.code = code;
    snprintf(ex->failure.reason, sizeof ex->failure.reason, "%s", reason);
  }
  ex->step = STEP_ERROR;
  return FAIL;
}

void exchange_fail_now(struct exchange *ex, int status, int code, const char *reason) {
  exchange_fail(ex, status, code, reason);
  exchange_resume(ex, STEP_ERROR);
}

static void on_deadline(struct timeout *t) {
  struct exchange *ex = CONTAINER_OF(t, struct exchange, deadline);
  failover_given_up(ex);
  exchange_cancel_waits(ex);
  exchange_fail_now(ex, 504, UV_ETIMEDOUT, "the whole exchange took too long");
}

/* --- begin --- */

static void on_token_due(struct timeout *t) {
  struct exchange *ex = CONTAINER_OF(t, struct exchange, token_wait);
  slot_wait_cancel(&ex->waiter);
  COUNT(ex->worker, token_timeouts, 1);
  exchange_resume(ex, STEP_TOKEN); /* sees that wait_until has passed */
}

static void on_body_due(struct timeout *t) {
  struct exchange *ex = CONTAINER_OF(t, struct exchange, body_wait_limit);
  if (ex->step == STEP_REPLY)
    exchange_resume(ex, STEP_REPLY);
  else
    request_body_continue(ex);
}

/* A client that sends its head and its body by two calls sends the second one now. */
enum { BODY_END_MS = 20 };

static void on_nudge(struct later *l) {
  struct exchange *ex = CONTAINER_OF(l, struct exchange, nudge);
  if (ex->step == STEP_REPLY && request_body_nearly_there(ex))
    timeout_set(&ex->body_wait_limit, BODY_END_MS);
  else if (ex->step == STEP_REPLY)
    exchange_resume(ex, STEP_REPLY);
  else if (ex->body.wait.waiting)
    ex->down->ops->want(ex->down);
  else if (ex->reply.wait.waiting)
    call_resume(&ex->call);
}

struct exchange *exchange_begin(struct worker *w, struct downstream *d) {
  struct exchange_place *place = exchange_pool_take(&w->exchanges);
  struct exchange *ex = CONTAINER_OF(place, struct exchange, place);
  memset((char *)ex + sizeof *place, 0, offsetof(struct exchange, failure.reason) - sizeof *place);
  ex->failure.reason[0] = '\0';
  ex->used.nused = 0;
  ex->down = d;
  d->exchange = ex;
  d->sent = 0;
  d->ended = REPLY_WHOLE;
  ex->worker = w;
  ex->runtime = runtime_ref(w->runtime);
  ex->id = w->id_base + w->next_id++;
  ex->started_us = (int64_t)(uv_hrtime() / 1000);
  arena_init(&ex->arena, ex + 1, EXCHANGE_SIZE - sizeof *ex);
  buf_init(&ex->body.bytes);
  buf_init(&ex->reply.bytes);
  call_init(&ex->call, &upstream_events, ex, &ex->arena, &w->services.wheel);
  later_init(&ex->nudge, on_nudge);
  timeout_init(&ex->token_wait, &w->services.wheel, on_token_due);
  timeout_init(&ex->body_wait_limit, &w->services.wheel, on_body_due);
  timeout_init(&ex->deadline, &w->services.wheel, on_deadline);
  return ex;
}

static void start(struct exchange *ex, enum step first) {
  COUNT(ex->worker, requests, 1);
  if (ex->request.version == HTTP_2) COUNT(ex->worker, requests_h2, 1);
  uint64_t limit = ex->runtime->policy->timeouts.exchange;
  if (limit > 0) timeout_set(&ex->deadline, limit);
  exchange_resume(ex, first);
}

void exchange_start(struct exchange *ex) {
  request_body_begin(ex);
  start(ex, STEP_ADMIT);
}

void exchange_refuse(struct exchange *ex, const struct http_fault *fault, bool in_head) {
  COUNT(ex->worker, refused, 1);
  ex->body.place = BODY_REFUSED;
  exchange_cancel_waits(ex);
  exchange_fail(ex, fault->status, fault->disagreed ? ERR_AMBIGUOUS : ERR_PROTOCOL, fault->text);
  if (!in_head) {
    exchange_resume(ex, STEP_ERROR);
    return;
  }
  ex->error_hook_ran = true; /* there is no request that a policy could look at */
  headers_init(&ex->request.headers, &ex->arena);
  start(ex, STEP_ERROR);
}

void exchange_drained(struct exchange *ex) {
  if (ex->call.paused && ex->step == STEP_RELAY) call_resume(&ex->call);
}

void exchange_hook(struct exchange *ex, int fn, task_push_fn push, task_done_fn done) {
  task_start(ex->runtime->vm, fn, push, done, ex, &ex->task);
}
