/* call.c: see call.h. What a call is in every protocol; how its messages stand on the wire is the business of c->ops (call_ops.h).
 *
 * Invariants: there is a place (place.conn) exactly in the phases from SEND on, and while a protocol has put off the head, and ops is of its connection's protocol; while `paused`, no
 * event but on_error is told; on_end and on_error come at most once and last.
 *
 * One timer serves all limits, since only one of them runs at a time: while request bytes wait for the upstream (`sending`) it looks for progress (send_ms);
 * when the request is complete and taken, it gives the reply's head first_byte_ms; from the head on, each read of the reply response_ms. It rests
 * while it is the owner's turn: to give more of the body, or to resume. A request that the upstream takes no more (`broken`) leaves BROKEN_MS for
 * the reply that it may have sent before.
 *
 * A second one stands beside it, armed for few calls: the end of a token whose bytes wait for the upstream, since a socket or a window is full (`secrets`). What has left for the kernel is sent;
 * what waits here is not, and is checked at the end of its wait as it was when it was written. */
#include "http/call.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "http/call_ops.h"

enum { BROKEN_MS = 2000, INTERIMS_MAX = 32, REFUSALS_MAX = 3 };

/* --- ends --- */

static void call_over(struct call *c) {
  timeout_clear(&c->timeout);
  timeout_clear(&c->secrets);
  c->phase = CALL_IDLE;
  struct origin *o = c->origin;
  c->origin = NULL;
  if (c->gone != NULL) *c->gone = true;
  c->gone = NULL;
  origin_unref(o);
}

static void drop_place(struct call *c) {
  if (c->place.conn != NULL) c->ops->cancel(c);
}

void call_failed(struct call *c, int status, const char *reason) {
  struct origin_conn *conn = c->place.conn;
  if (conn != NULL && status != ERR_PROTOCOL && status != ERR_AMBIGUOUS && c->ops->unheard(c)) origin_conn_failed(conn);
  enum call_phase phase = c->phase;
  char text[192]; /* the reason may live in the stream that goes */
  snprintf(text, sizeof text, "%s", reason);
  drop_place(c);
  call_over(c);
  c->phase = phase;
  c->events->on_error(c, status, text);
}

void call_cancel(struct call *c) {
  if (!call_running(c)) {
    c->phase = CALL_IDLE;
    return;
  }
  if (c->place.conn != NULL)
    drop_place(c);
  else if (c->phase == CALL_CONNECT)
    place_cancel(&c->place);
  call_over(c);
}

void call_ended(struct call *c, uint64_t keep_ms) {
  struct origin *held = origin_ref(c->origin); /* on_end may drop the last other reference */
  call_over(c);
  struct pool_terms terms = c->pool;
  terms.keep_ms = keep_ms;
  place_give_back(&c->place, &terms);
  c->events->on_end(c);
  origin_unref(held);
}

void call_take_over(struct call *c, struct pipe_end *end, struct buf *rest) {
  assert(c->phase == CALL_TUNNEL);
  c->ops->take_over(c, end, rest);
  call_over(c);
}

static void try_again(struct call *c, bool fresh) {
  drop_place(c);
  timeout_clear(&c->timeout);
  timeout_clear(&c->secrets);
  c->broken = c->body_done = false;
  c->phase = CALL_CONNECT;
  place_take(c->origin, &c->place, c->connect_ms, fresh);
}

/* A head has gone out. */
static void next_try(struct call *c, bool fresh) {
  if (!c->tries_by_owner) {
    try_again(c, fresh);
    return;
  }
  drop_place(c);
  c->fresh = fresh;
  call_over(c);
  c->events->on_retry(c);
}

/* A reused connection that ends before a byte of the reply was closed by the peer while it sat idle. */
bool call_retry(struct call *c) {
  if (!c->place.conn->reused || c->got_bytes || !c->repeatable || c->retried || c->phase == CALL_BODY) return false;
  c->retried = true;
  next_try(c, true);
  return true;
}

/* Nothing of it has been processed, so nothing is done twice: it is a matter of whether it is still here. */
static bool may_be_sent_again(struct call *c) {
  if (c->phase >= CALL_BODY || c->refusals == REFUSALS_MAX) return false;
  if (c->events->again != NULL && !c->events->again(c)) return false;
  c->refusals++;
  return true;
}

/* The first time on any connection, the refusing one included: it may have had too much to do for a moment. */
bool call_refused(struct call *c) {
  if (!may_be_sent_again(c)) return false;
  next_try(c, c->refusals > 1);
  return true;
}

bool call_refused_h2(struct call *c) {
  if (!origin_conn_refused_h2(c->place.conn) || !may_be_sent_again(c)) return false;
  c->place.h1_only = true;
  next_try(c, false);
  return true;
}

void call_take_another(struct call *c) { try_again(c, false); }

/* --- the reply --- */

bool call_told_interim(struct call *c) {
  if (++c->interims > INTERIMS_MAX) {
    call_failed(c, ERR_PROTOCOL, "interim replies without end");
    return false;
  }
  bool *gone = c->gone;
  if (c->events->on_interim != NULL) c->events->on_interim(c);
  return !*gone;
}

void call_told_head(struct call *c) {
  c->phase = CALL_BODY;
  timeout_set(&c->timeout, c->response_ms);
  c->events->on_head(c);
}

void call_told_switch(struct call *c) {
  timeout_clear(&c->timeout);
  c->phase = CALL_TUNNEL;
  c->events->on_head(c);
}

void call_pass_on(struct call *c, struct stream *to) {
  if (c->phase == CALL_BODY && !c->paused) c->ops->pass_on(c, to);
}

void call_pause(struct call *c) {
  if (c->paused || c->place.conn == NULL) return;
  c->paused = true;
  if (!c->feeding) c->ops->pause(c); /* else the protocol sees to it behind the event: most pauses are over by then */
  timeout_clear(&c->timeout);        /* it is not the upstream that is slow */
}

void call_resume(struct call *c) {
  if (!c->paused || c->place.conn == NULL) return;
  c->paused = false;
  timeout_set(&c->timeout, c->response_ms);
  if (!c->feeding) c->ops->resume(c); /* else it was resumed within the very event that paused */
}

/* --- the request --- */

void call_broke(struct call *c) {
  c->broken = true;
  timeout_set(&c->timeout, BROKEN_MS);
}

void call_drained(struct call *c, int status) {
  c->sending = false;
  timeout_clear(&c->secrets);
  if (status < 0)
    call_broke(c);
  else if (c->phase == CALL_SEND)
    timeout_clear(&c->timeout); /* all that came is sent: it is the client's turn */
  else if (c->body_done && c->phase == CALL_WAIT)
    timeout_set(&c->timeout, c->first_byte_ms);
  if (c->events->on_drain != NULL) c->events->on_drain(c);
}

/* The limit counts from the upstream's last progress. */
static void watch_sending(struct call *c) {
  if (c->sending) return;
  c->sending = true;
  (void)c->ops->stalled(c, true);
  timeout_set(&c->timeout, stall_step(c->send_ms));
}

/* Whoever does not read what we send is bounded by send_ms; the reply's first byte counts from the last byte sent. */
static void start_waiting(struct call *c) {
  if (c->phase == CALL_SEND) c->phase = CALL_WAIT;
  if (c->phase != CALL_WAIT || c->broken) return;
  if (c->ops->queued(c) > 0)
    watch_sending(c);
  else
    timeout_set(&c->timeout, c->first_byte_ms);
}

static bool place_allowed(struct place *p, const union address *a) {
  struct call *c = CONTAINER_OF(p, struct call, place);
  return c->allowed(c, a);
}

void call_begin(struct call *c) {
  c->got_bytes = c->paused = c->broken = c->feeding = c->sending = c->body_done = false;
  c->phase = CALL_SEND;
  int rc = c->ops->send_head(c);
  if (rc == UV_EAGAIN) {
    call_take_another(c);
  } else if (rc != 0) { /* nothing was sent: the connection is as good as before */
    place_give_back(&c->place, &c->pool);
    call_failed(c, rc, err_text(rc));
  } else if (c->body_done) {
    start_waiting(c);
  } else if (c->events->on_sent != NULL) {
    c->events->on_sent(c);
  }
}

static void on_place(struct place *p, int status, const char *reason) {
  struct call *c = CONTAINER_OF(p, struct call, place);
  if (status != 0) {
    call_failed(c, status, reason);
    return;
  }
  c->ops = &h1_call_ops;
  if (p->conn->session != NULL) {
    c->ops = &h2_call_ops;
    if (h2_call_put_off(c)) return;
  }
  call_begin(c);
}

void call_passed(struct call *c, size_t n) {
  (void)n; /* its place in the message is known: the owner counts what it was given */
  if (c->broken || c->phase != CALL_SEND) return;
  if (c->ops->queued(c) > 0)
    watch_sending(c);
  else
    timeout_clear(&c->timeout); /* the client's own pace is bounded on its side */
}

void call_send(struct call *c, struct str span) {
  if (c->place.conn == NULL || c->broken || span.n == 0) return;
  c->ops->send(c, span);
  call_passed(c, span.n);
}

void call_end(struct call *c, const struct headers *trailers) {
  if (!call_running(c)) return;
  if (c->place.conn != NULL && !c->broken) c->ops->end(c, trailers);
  c->body_done = true;
  if (c->place.conn != NULL) start_waiting(c);
}

struct stream *call_raw(const struct call *c) {
  return c->place.conn != NULL && !c->broken ? c->ops->raw(c) : NULL;
}

size_t call_queued(const struct call *c) { return c->place.conn != NULL ? c->ops->queued(c) : 0; }

static void on_due(struct timeout *t) {
  struct call *c = CONTAINER_OF(t, struct call, timeout);
  static const char *const text[] = {[CALL_SEND] = "the upstream does not read the request",
                                     [CALL_WAIT] = "no reply from the upstream in time",
                                     [CALL_BODY] = "the upstream's reply stalled"};
  if (c->sending && !c->broken && c->phase < CALL_BODY && !c->ops->stalled(c, false)) {
    timeout_set(&c->timeout, stall_step(c->send_ms));
    return;
  }
  const char *reason = c->phase <= CALL_BODY && text[c->phase] != NULL ? text[c->phase] : "timed out";
  if (c->broken)
    call_failed(c, UV_ECONNRESET, "the upstream closed while the request was sent");
  else
    call_failed(c, UV_ETIMEDOUT, reason);
}

/* --- tokens that wait --- */

void call_secrets_wait(struct call *c, int64_t end) {
  enum { EARLY_MS = 2 * WHEEL_TICK_MS };
  if (end == 0) return;
  int64_t left = end - clock_boot_ms() - EARLY_MS;
  timeout_set(&c->secrets, left > 0 ? (uint64_t)left : 1);
}

static void on_secrets_due(struct timeout *t) {
  struct call *c = CONTAINER_OF(t, struct call, secrets);
  if (c->place.conn != NULL && c->ops->secrets_wait(c)) call_failed(c, UV_ETIMEDOUT, CALL_TOKEN_ENDED);
}

/* --- life --- */

void call_init(struct call *c, const struct call_events *e, void *owner, struct arena *a, struct wheel *w) {
  memset(c, 0, offsetof(struct call, h1.parser));
  c->events = e;
  c->owner = owner;
  c->arena = a;
  c->limits = &http_limits_default;
  timeout_init(&c->timeout, w, on_due);
  timeout_init(&c->secrets, w, on_secrets_due);
}

void call_fini(struct call *c) {
  call_cancel(c);
  timeout_fini(&c->timeout);
  timeout_fini(&c->secrets);
}

void call_start_again(struct call *c, struct origin *o) {
  assert(!call_running(c));
  c->origin = origin_ref(o);
  c->phase = CALL_CONNECT;
  c->body_done = false;
  c->place.done = on_place;
  c->place.use = c->open ? PLACE_OPEN : PLACE_SECRET;
  c->place.allowed = c->allowed != NULL ? place_allowed : NULL;
  place_take(o, &c->place, c->connect_ms, c->fresh);
}

void call_start(struct call *c, struct origin *o) {
  c->retried = c->fresh = false;
  c->refusals = 0;
  c->interims = 0;
  c->place.h1_only = c->upgrade;
  call_start_again(c, o);
}
