/* exchange.c: the life of an exchange and its dispatcher. See exchange.h for the invariants. */
#include "proxy/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "proxy/conn.h"
#include "proxy/forward.h"
#include "proxy/worker_internal.h"

static const struct {
  const char *name;
  enum verdict (*run)(struct exchange *);
} steps[STEP_COUNT] = {
    [STEP_ADMIT] = {"admit", step_admit},
    [STEP_REQUEST_HOOK] = {"on_request", step_request_hook},
    [STEP_ROUTE] = {"route", step_route},
    [STEP_TOKEN] = {"token", step_token},
    [STEP_SEND] = {"send", step_send},
    [STEP_JUDGE] = {"judge", step_judge},
    [STEP_RESPONSE_HOOK] = {"on_response", step_response_hook},
    [STEP_REPLY] = {"reply", step_reply},
    [STEP_RELAY] = {"relay", step_relay},
    [STEP_TUNNEL] = {"tunnel", step_tunnel},
    [STEP_ERROR] = {"error", step_error},
};

static void check_invariants(const struct exchange *ex) {
  (void)ex;
  assert(ex->conn != NULL && ex->conn->exchange == ex);
  assert(ex->runtime != NULL);
  assert(ex->task == NULL);        /* a hook that waits stops the dispatcher */
  assert(ex->waiter.slot == NULL); /* so does a token */
  assert(ex->step > STEP_SEND || !call_running(&ex->call) || ex->failure.status != 0);
  assert(!ex->replied || ex->step >= STEP_RELAY); /* one reply only */
}

/* --- end --- */

/* A hook that awaited a body was cancelled; what it spawned may await one, too, and must not point here any longer. */
static void end_body_waits(struct exchange *ex) {
  body_wait_done(&ex->request_wait, ERR_CLOSED);
  body_wait_done(&ex->reply_wait, ERR_CLOSED);
}

static void release(struct exchange *ex) {
  struct worker *w = ex->worker;
  ex->serial = 0; /* scripts' handles are stale from here on */
  end_body_waits(ex);
  if (ex->has_ctx) {
    lua_State *L = vm_state(ex->runtime->vm);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, ex);
  }
  call_fini(&ex->call);
  if (ex->nudge.in != NULL)
    mailbox_cancel(&w->services.mailbox, &ex->nudge); /* no other thread posts it: no lock to look */
  timeout_fini(&ex->timeout);
  timeout_fini(&ex->deadline);
  buf_fini(&ex->body);
  buf_fini(&ex->reply);
  buf_reset(&ex->head);
  arena_reset(&ex->arena);
  struct runtime *r = ex->runtime;
  ex->runtime = NULL;
  ex->conn = NULL;
  exchange_pool_give(&w->exchanges, ex);
  runtime_unref(r);
}

static void finish(struct exchange *ex) {
  struct conn *c = ex->conn;
  bool keep = ex->client_keep_alive && ex->body_complete && !ex->aborted;
  access_log_exchange(ex);
  run_log_hook(ex);
  ex->conn = NULL;
  c->exchange = NULL;
  release(ex);
  conn_exchange_ended(c, keep);
}

static void cancel_waits(struct exchange *ex) {
  if (ex->task != NULL) task_cancel(ex->task);
  ex->task = NULL;
  slot_wait_cancel(&ex->waiter);
  timeout_clear(&ex->timeout);
  call_cancel(&ex->call);
  if (ex->forward != NULL) forward_cancel(ex->forward);
}

void exchange_abort(struct exchange *ex) {
  ex->aborted = true;
  cancel_waits(ex);
  COUNT(ex->worker, client_aborts, 1);
  if (ex->failure.status == 0) ex->failure.status = 499;
  access_log_exchange(ex);
  run_log_hook(ex);
  if (ex->running) return; /* the dispatcher lets go of it */
  release(ex);
}

/* --- the dispatcher --- */

static bool ended(const struct exchange *ex) { return ex->aborted || ex->conn == NULL; }

static void exchange_run(struct exchange *ex) {
  assert(!ex->running);
  ex->running = true;
  enum verdict v = NEXT;
  do {
    check_invariants(ex);
    enum step before = ex->step;
    ex->resumed = false;
    v = steps[before].run(ex);
    if (ended(ex) || v == DONE) break;
    if (v == NEXT && ex->step == before) ex->step = (enum step)(before + 1);
    if (v == WAIT && ex->resumed) v = NEXT;
  } while (v != WAIT);
  ex->running = false;
  if (ex->aborted)
    release(ex);
  else if (v == DONE)
    finish(ex);
}

void exchange_resume(struct exchange *ex, enum step next) {
  ex->step = next;
  if (ex->running)
    ex->resumed = true;
  else
    exchange_run(ex);
}

enum verdict exchange_fail(struct exchange *ex, int status, int code, const char *reason) {
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
  cancel_waits(ex);
  exchange_fail_now(ex, 504, UV_ETIMEDOUT, "the whole exchange took too long");
}

/* --- begin --- */

static void on_wait_due(struct timeout *t) {
  struct exchange *ex = CONTAINER_OF(t, struct exchange, timeout);
  if (ex->asked) { /* an upstream that does not know Expect waits for the body */
    send_continue(ex);
    conn_arm(ex->conn);
    return;
  }
  slot_wait_cancel(&ex->waiter);
  COUNT(ex->worker, token_timeouts, 1);
  exchange_resume(ex, STEP_TOKEN); /* sees that wait_until has passed */
}

static void on_nudge(struct mail *m) {
  struct exchange *ex = CONTAINER_OF(m, struct exchange, nudge);
  if (ex->request_wait.waiting)
    conn_continue(ex->conn);
  else if (ex->reply_wait.waiting)
    call_resume(&ex->call);
}

struct exchange *exchange_begin(struct conn *c) {
  struct worker *w = c->worker;
  struct exchange *ex = exchange_pool_take(&w->exchanges);
  uint64_t serial = ex->serial;
  struct buf head = ex->head;
  memset(ex, 0, offsetof(struct exchange, out));
  ex->serial = serial;
  ex->head = head;
  list_init(&ex->link);
  ex->conn = c;
  ex->worker = w;
  ex->runtime = runtime_ref(w->runtime);
  ex->id = w->id_base + w->next_id++;
  ex->started_us = (int64_t)(uv_hrtime() / 1000);
  arena_init(&ex->arena, ex + 1, EXCHANGE_SIZE - sizeof *ex);
  buf_init(&ex->body);
  buf_init(&ex->reply);
  call_init(&ex->call, &upstream_events, ex, &ex->arena, &w->services.wheel);
  mail_init(&ex->nudge, on_nudge);
  timeout_init(&ex->timeout, &w->services.wheel, on_wait_due);
  timeout_init(&ex->deadline, &w->services.wheel, on_deadline);
  http_parser_init_request(&ex->parser, &ex->arena, &ex->runtime->policy->limits.http, &ex->request);
  return ex;
}

static void start(struct exchange *ex, enum step first) {
  COUNT(ex->worker, requests, 1);
  uint64_t limit = ex->runtime->policy->timeouts.exchange;
  if (limit > 0) timeout_set(&ex->deadline, limit);
  exchange_resume(ex, first);
}

void exchange_start(struct exchange *ex) {
  ex->body_complete =
      ex->request.framing == FRAMING_NONE || (ex->request.framing == FRAMING_LENGTH && ex->request.content_length == 0);
  ex->body_kept = true;
  ex->client_keep_alive = ex->request.keep_alive;
  start(ex, STEP_ADMIT);
}

void exchange_refuse(struct exchange *ex, const struct http_fault *fault) {
  bool in_head = ex->conn->state == CONN_HEAD;
  ex->conn->state = CONN_BUSY;
  COUNT(ex->worker, refused, 1);
  ex->client_keep_alive = false;
  cancel_waits(ex);
  exchange_fail(ex, fault->status, ERR_PROTOCOL, fault->text);
  ex->error_hook_done = in_head; /* there is no request that a policy could look at */
  if (in_head) {
    headers_init(&ex->request.headers, &ex->arena);
    start(ex, STEP_ERROR);
  } else {
    exchange_resume(ex, STEP_ERROR);
  }
}

/* --- the request's body --- */

static uint64_t gather_max(const struct exchange *ex) {
  const struct limits_conf *l = &ex->runtime->policy->limits;
  return ex->body_wanted_all ? l->script_body : l->replay_buffer;
}

bool exchange_wants_body(const struct exchange *ex) {
  if (ex->body_complete) return false;
  if (ex->aborted || ex->failure.status != 0) return false;
  if (ex->body_replaced && !ex->body_wanted_all) return true; /* thrown away */
  if (ex->streaming) return !worker_overfull(ex->worker, call_queued(&ex->call));
  return ex->body_kept && ex->body.n <= gather_max(ex); /* its end may be all that is missing */
}

/* What was gathered before the upstream was there goes first; it stays in ex->body while a replay may need it. */
void send_gathered_body(struct exchange *ex) {
  ex->streaming = true;
  body_wait_done(&ex->request_wait, ERR_CLOSED); /* of a task that outlived on_request */
  call_send(&ex->call, buf_str(&ex->body));
  if (ex->body.n > ex->runtime->policy->limits.replay_buffer) {
    ex->body_kept = false;
    buf_fini(&ex->body);
  }
  if (ex->body_complete)
    call_end(&ex->call, &ex->request.trailers);
  else
    conn_continue(ex->conn);
}

static void keep_for_replay(struct exchange *ex, struct str span) {
  if (!ex->body_kept) return;
  if (ex->body.n + span.n > ex->runtime->policy->limits.replay_buffer) {
    ex->body_kept = false;
    buf_fini(&ex->body);
    return;
  }
  buf_adds(&ex->body, span);
}

void exchange_body(struct exchange *ex, struct str span) {
  uint64_t limit = ex->runtime->policy->limits.body;
  ex->body_seen += span.n;
  COUNT(ex->worker, bytes_in, span.n);
  if (limit > 0 && ex->body_seen > limit) {
    static const struct http_fault too_large = {413, "the request's body is over the limit"};
    exchange_refuse(ex, &too_large);
    return;
  }
  if (ex->body_replaced && !ex->body_wanted_all) return;
  if (ex->streaming) {
    call_send(&ex->call, span);
    keep_for_replay(ex, span);
    return;
  }
  buf_adds(&ex->body, span);
  if (ex->body_wanted_all && ex->body.n > gather_max(ex)) body_wait_done(&ex->request_wait, ERR_LIMIT);
}

void exchange_pass_body(struct exchange *ex) {
  if (!ex->streaming || ex->body_complete || ex->body_kept || ex->body_replaced) return;
  uint64_t limit = ex->runtime->policy->limits.body, left = http_parser_passable(&ex->parser);
  struct stream *to = call_raw(&ex->call);
  if (left == 0 || to == NULL || (limit > 0 && ex->body_seen + left > limit) || !exchange_wants_body(ex)) return;
  stream_pass_on(&ex->conn->stream, to, left);
}

void exchange_body_passed(struct exchange *ex, size_t n) {
  ex->body_seen += n;
  COUNT(ex->worker, bytes_in, n);
  http_parser_passed(&ex->parser, n);
  call_passed(&ex->call, n);
}

void exchange_body_end(struct exchange *ex) {
  ex->body_complete = true;
  if (ex->streaming)
    call_end(&ex->call, &ex->request.trailers);
  else
    body_wait_done(&ex->request_wait, 0);
}

void exchange_drained(struct exchange *ex) {
  if (ex->call.paused && ex->step == STEP_RELAY) call_resume(&ex->call);
}

void end_asking(struct exchange *ex) {
  if (ex->asked) timeout_clear(&ex->timeout);
  ex->asked = false;
}

void send_continue(struct exchange *ex) {
  end_asking(ex);
  if (!ex->request.expect_continue || ex->continue_sent || ex->body_complete || ex->body_seen > 0) return;
  ex->continue_sent = true;
  static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
  uv_buf_t b = uv_buf_init((char *)(uintptr_t)text, sizeof text - 1);
  stream_write(&ex->conn->stream, &b, 1, false);
}

void exchange_hook(struct exchange *ex, int fn, task_push_fn push, task_done_fn done) {
  task_start(ex->runtime->vm, fn, push, done, ex, &ex->task);
}

void body_wait_done(struct body_wait *w, int error) {
  if (!w->waiting) return;
  w->waiting = false;
  w->error = error;
  await_finish(&w->await, body_wait_push, w);
}
