/* request_body.c: see request_body.h.
 *
 * Backpressure: exchange_wants_body is what the client's connection asks before each span. Held bytes are bounded by a limit, bytes on their way by the queue
 * towards the upstream. A body that outgrows limits.replay_buffer on its way loses its copy, and with it the replay; a body that a script gathered is
 * bounded by limits.script_body instead and keeps it.
 *
 * Not every body passes through here: the rest of a long one with a length, of which no copy is kept, goes from socket to socket
 * (exchange_pass_to). */
#include "proxy/request_body.h"

#include "base/err.h"
#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/l_exchange.h"
#include "proxy/worker_state.h"
#include "token/secret.h"

void request_body_begin(struct exchange *ex) {
  const struct request *r = &ex->request;
  struct request_body *b = &ex->body;
  b->complete = !request_has_body(r);
  b->expect = r->expect_continue ? EXPECT_CLIENT : EXPECT_NOBODY;
}

void request_body_fini(struct request_body *b) {
  body_wait_done(&b->wait, ERR_CLOSED);
  secret_unref(b->secret);
  b->secret = NULL;
  buf_fini(&b->bytes);
}

/* How long an upstream may take to answer the Expect that it was sent: one that does not know it waits for the body. */
enum { CONTINUE_MS = 1000 };

static uint64_t held_max(const struct exchange *ex) {
  const struct limits_conf *l = &ex->runtime->policy->limits;
  return ex->body.place == BODY_GATHERED ? l->script_body : l->replay_buffer;
}

static bool streams(const struct request_body *b) { return b->place == BODY_KEPT || b->place == BODY_GONE; }

/* --- from the client --- */

bool exchange_wants_body(const struct exchange *ex) {
  const struct request_body *b = &ex->body;
  if (b->complete || (ex->failure.status != 0 && b->place != BODY_DROPPED)) return false;
  switch (b->place) {
    case BODY_REPLACED:
    case BODY_DROPPED: return true;
    case BODY_REFUSED: return false;
    case BODY_KEPT:
    case BODY_GONE: return !worker_overfull(ex->worker, call_queued(&ex->call));
    case BODY_HELD:
    case BODY_GATHERED: break;
  }
  return b->bytes.n <= held_max(ex); /* its end may be all that is missing */
}

/* What is queued does not matter for it, and it must not wait for that: an upstream that counts the bytes may answer before, and its client's connection would close for a request that is
 * not over. */
bool exchange_wants_end(const struct exchange *ex) {
  return streams(&ex->body) && !ex->body.complete && ex->failure.status == 0;
}

static void lose_copy(struct request_body *b) {
  b->place = BODY_GONE;
  buf_fini(&b->bytes);
}

static void keep(struct exchange *ex, struct str span) {
  struct request_body *b = &ex->body;
  if (b->place == BODY_GONE) return;
  if (b->bytes.n + span.n > ex->runtime->policy->limits.replay_buffer)
    lose_copy(b);
  else
    buf_adds(&b->bytes, span);
}

void exchange_body(struct exchange *ex, struct str span) {
  static const struct http_fault too_large = {.status = 413, .text = "the request's body is over the limit"};
  struct request_body *b = &ex->body;
  uint64_t limit = ex->runtime->policy->limits.body;
  b->seen += span.n;
  COUNT(ex->worker, bytes_in, span.n);
  if (b->place == BODY_DROPPED) return;
  if (limit > 0 && b->seen > limit) {
    exchange_refuse(ex, &too_large, false);
    return;
  }
  if (b->place == BODY_REPLACED) return;
  if (streams(b)) {
    call_send(&ex->call, span);
    keep(ex, span);
    return;
  }
  buf_adds(&b->bytes, span);
  if (b->place == BODY_GATHERED && b->bytes.n > held_max(ex)) body_wait_done(&b->wait, ERR_LIMIT);
}

void exchange_body_end(struct exchange *ex) {
  struct request_body *b = &ex->body;
  b->complete = true;
  if (b->place == BODY_DROPPED)
    later_post(&ex->worker->later, &ex->nudge);
  else if (streams(b))
    call_end(&ex->call, &ex->request.trailers);
  else
    body_wait_done(&b->wait, 0);
}

struct stream *exchange_pass_to(struct exchange *ex, uint64_t left) {
  const struct request_body *b = &ex->body;
  uint64_t limit = ex->runtime->policy->limits.body;
  if (b->place != BODY_GONE || b->complete || (limit > 0 && b->seen + left > limit)) return NULL;
  return exchange_wants_body(ex) ? call_raw(&ex->call) : NULL;
}

void exchange_body_passed(struct exchange *ex, size_t n) {
  ex->body.seen += n;
  COUNT(ex->worker, bytes_in, n);
  call_passed(&ex->call, n);
}

/* --- to the upstream --- */

void request_body_hold(struct request_body *b) {
  if (streams(b)) b->place = BODY_HELD;
}

void request_body_stream(struct exchange *ex) {
  struct request_body *b = &ex->body;
  b->place = BODY_KEPT;
  body_wait_done(&b->wait, ERR_CLOSED); /* of a task that outlived on_request, and may ask again */
  call_send(&ex->call, buf_str(&b->bytes));
  if (!b->complete && b->bytes.n > ex->runtime->policy->limits.replay_buffer) lose_copy(b);
  if (b->complete)
    call_end(&ex->call, &ex->request.trailers);
  else
    ex->down->ops->want(ex->down);
}

void request_body_replace(struct request_body *b, struct str text) {
  b->place = BODY_REPLACED;
  secret_unref(b->secret);
  b->secret = NULL;
  buf_reset(&b->bytes);
  buf_adds(&b->bytes, text);
}

void request_body_replace_secret(struct request_body *b, struct secret *s) {
  b->place = BODY_REPLACED;
  secret_unref(b->secret);
  b->secret = secret_ref(s);
  buf_fini(&b->bytes);
  b->bytes.sensitive = true;
}

/* A body may hold any byte. Its length may be another one with each generation of a token. */
int request_body_expand(struct request_body *b, struct secret_context *ctx) {
  if (b->secret == NULL) return 0;
  buf_reset(&b->bytes);
  ctx->header_safe = false;
  return secret_expand(b->secret, ctx, &b->bytes);
}

void request_body_forget(struct request_body *b) {
  if (b->secret != NULL) buf_fini(&b->bytes);
}

bool request_body_drop(struct exchange *ex) {
  struct request_body *b = &ex->body;
  if (b->complete || b->place >= BODY_DROPPED) return false;
  b->place = BODY_DROPPED;
  body_wait_done(&b->wait, ERR_CLOSED);
  ex->down->ops->want(ex->down);
  return true;
}

bool request_body_nearly_there(const struct exchange *ex) {
  enum { NEAR = 64 * 1024 };
  const struct request_body *b = &ex->body;
  const struct request *r = &ex->request;
  if (b->complete || b->expect != EXPECT_NOBODY) return false;
  return r->framing == FRAMING_CHUNKED || r->content_length - b->seen <= NEAR;
}

/* --- Expect: 100-continue --- */

bool request_body_ask(struct request_body *b) {
  if (b->expect == EXPECT_NOBODY) return false;
  bool ask = b->seen == 0 && !b->complete && b->place != BODY_REPLACED;
  b->expect = ask ? EXPECT_UPSTREAM : EXPECT_CLIENT;
  return ask;
}

void request_body_await_answer(struct exchange *ex) {
  if (ex->body.expect == EXPECT_UPSTREAM)
    timeout_set(&ex->body_wait_limit, CONTINUE_MS);
  else
    request_body_continue(ex);
}

void request_body_answered(struct exchange *ex) {
  if (ex->body.expect != EXPECT_UPSTREAM) return;
  ex->body.expect = EXPECT_CLIENT;
  timeout_clear(&ex->body_wait_limit);
}

void request_body_continue(struct exchange *ex) {
  request_body_answered(ex);
  if (ex->body.expect == EXPECT_NOBODY) return;
  ex->body.expect = EXPECT_NOBODY;
  ex->down->ops->interim(ex->down, 100, NULL);
}

void body_wait_done(struct body_wait *w, int error) {
  if (!w->waiting) return;
  w->waiting = false;
  w->error = error;
  await_finish(&w->await, body_wait_push, w);
}
