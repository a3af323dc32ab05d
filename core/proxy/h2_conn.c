/* h2_conn.c: see h2_conn.h.
 *
 * A stream's head begins an exchange, as the first byte of a head does with HTTP/1, and has timeouts.head to end. Body goes to the exchange as it comes; what it does not want
 * stays with the stream, whose window is shut then, and no other stream notices. Limits of a stream end that stream: a head or body that does not come by a reply and a reset, a reply that the
 * client does not take by a reset. Limits of the connection (nothing of it is taken, nothing is under way for timeouts.idle) end that.
 *
 * A stream may end below a call that its exchange has made: then it is GONE, what the exchange still says is dropped, and it is told from the loop (`later`).
 *
 * The end in order: GOAWAY that names the highest number, so that no request which is on its way is refused; when the client has answered the PING behind it, or in
 * GOODBYE_MS, the second one; when the last stream has ended, FIN; then what the client still sends is thrown away for a while. */
#include "proxy/h2_conn.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "net/pipe.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/worker_state.h"

enum { LINGER_MS = 2000, LINGER_ALL_MS = 30 * 1000, GOODBYE_MS = 1000, EARLY_MS = 100 };

static const struct policy *policy_of(const struct h2_request *r) {
  const struct exchange *ex = r->down.exchange;
  return ex != NULL ? ex->runtime->policy : r->down.conn->worker->runtime->policy;
}
static uint64_t now_ms(const struct conn *c) { return uv_now(&c->worker->services.loop); }
static struct h2_request *request_of(struct h2_stream *st) { return CONTAINER_OF(st, struct h2_request, stream); }
static void continue_later(struct h2_request *r) { later_post(&r->worker->later, &r->later); }
static struct conn *conn_of(const struct h2_session *s) { return CONTAINER_OF(s, struct h2_conn, session)->conn; }

/* --- the connection's time --- */

static void arm_sending(struct conn *c) {
  struct h2_conn *h = c->h2;
  if (h->sending) return;
  h->sending = true;
  stall_begin(&h->limit.stall, &c->stream);
  timeout_set(&c->timeout, stall_step(c->worker->runtime->policy->timeouts.send));
}

static void arm_conn(struct conn *c) {
  struct h2_conn *h = c->h2;
  if (c->phase != CONN_OPEN || h->state != H2_CONN_OPEN) return;
  const struct policy *p = c->worker->runtime->policy;
  if (stream_queued(&c->stream) > 0) {
    arm_sending(c);
    return;
  }
  bool was_sending = h->sending;
  h->sending = false;
  if (!list_empty(&h->requests))
    timeout_clear(&c->timeout);
  else if (was_sending || c->timeout.due == 0)
    timeout_set(&c->timeout, p->timeouts.idle); /* from the last stream's end: PINGs keep nobody */
}

/* --- the end of a connection --- */

static void give_up(struct h2_request *r, enum h2_error code);

/* All of them; or those that their client, which has sent FIN, will never complete. */
static void give_up_requests(struct h2_conn *h, bool all) {
  for (struct link *l = h->requests.next, *next; l != &h->requests; l = next) {
    struct h2_request *r = CONTAINER_OF(l, struct h2_request, link);
    next = l->next;
    if (r->stream.session != NULL && (all || r->stream.receiving < H2_RECV_END)) give_up(r, H2_CANCEL);
  }
}

/* All has left. Closing at once would have the system answer what the client still sends by a reset, which may overtake GOAWAY. */
static void linger(struct conn *c) {
  struct h2_conn *h = c->h2;
  h->sending = false;
  if (h->eof) {
    conn_close(c);
    return;
  }
  conn_become_idle(c);
  h->limit.linger_end = now_ms(c) + LINGER_ALL_MS;
  timeout_set(&c->timeout, LINGER_MS);
}

/* All has been said; a slow client may not have taken it yet. What the session has terminated under (streams that are open) ends, and does not wait for the client to leave. */
static void say_fin(struct conn *c) {
  struct h2_conn *h = c->h2;
  if (c->phase != CONN_OPEN || h->state == H2_CONN_LINGER) return;
  if (h->session.broken) {
    conn_close(c);
    return;
  }
  h->state = H2_CONN_LINGER;
  give_up_requests(h, true);
  stream_shutdown(&c->stream);
  if (stream_queued(&c->stream) > 0)
    arm_sending(c);
  else
    linger(c);
}

static void on_stuck(struct h2_session *s) { arm_conn(conn_of(s)); }
static void on_over(struct h2_session *s) { say_fin(conn_of(s)); }

static void leave(struct conn *c) {
  h2_session_leave(&c->h2->session);
  h2_session_write(&c->h2->session);
}

static void on_goodbye(struct timeout *t) {
  struct h2_conn *h = CONTAINER_OF(t, struct h2_conn, goodbye);
  if (h->eof)
    conn_close(h->conn);
  else
    leave(h->conn);
}

static void h2_due(struct conn *c) {
  struct h2_conn *h = c->h2;
  if (h->sending && stream_queued(&c->stream) > 0) {
    if (stall_check(&h->limit.stall, &c->stream))
      conn_reset(c);
    else
      timeout_set(&c->timeout, stall_step(c->worker->runtime->policy->timeouts.send));
  } else if (h->state == H2_CONN_LINGER) {
    conn_close(c);
  } else if (list_empty(&h->requests)) {
    leave(c);
    say_fin(c);
  }
}

static void h2_drain(struct conn *c) {
  struct h2_conn *h = c->h2;
  if (h->state == H2_CONN_LINGER) {
    if (!h->sending) conn_close(c);
    return;
  }
  h2_session_drain(&h->session);
  h2_session_write(&h->session);
  if (!h->eof) timeout_set(&h->goodbye, GOODBYE_MS);
}

/* --- a request's time --- */

/* As for HTTP/1: not while it waits for a 100 (Continue) that a hook, a token or an upstream holds back. */
static bool owes_body(const struct h2_request *r) {
  const struct exchange *ex = r->down.exchange;
  if (ex == NULL || r->state != H2_REQUEST_BUSY || r->stream.receiving >= H2_RECV_END || r->stream.in.n > 0)
    return false;
  bool waits = ex->request.expect_continue && !r->continued && r->seen == 0;
  return !waits && exchange_wants_body(ex);
}

/* The client's window is shut, or the connection takes nothing: then the connection's own limit ends both. */
static bool waits_for_client(const struct h2_request *r) {
  const struct h2_stream *st = &r->stream;
  return st->session != NULL && st->out.n > st->out_at;
}

void h2_arm(struct h2_request *r) {
  const struct policy *p = policy_of(r);
  uint64_t now = now_ms(r->down.conn);
  if (r->state == H2_REQUEST_HEAD || r->state == H2_REQUEST_TUNNEL || r->state == H2_REQUEST_GONE || r->early) return;
  if (waits_for_client(r)) {
    pace_hold(&r->pace, now);
    if (r->sending) return;
    r->sending = true;
    r->taken = r->stream.taken;
    r->quiet = 0;
    timeout_set(&r->timeout, stall_step(p->timeouts.send));
    return;
  }
  r->sending = false;
  if (owes_body(r)) {
    timeout_set(&r->timeout, pace_run(&r->pace, now, r->seen, p->timeouts.body, p->limits.body_rate));
    return;
  }
  timeout_clear(&r->timeout);
  if (r->pace.running) pace_hold(&r->pace, now);
}

static void check_sending(struct h2_request *r) {
  if (r->stream.taken != r->taken) {
    r->taken = r->stream.taken;
    r->quiet = 0;
  } else if (++r->quiet > STALL_CHECKS) {
    give_up(r, H2_CANCEL);
    return;
  }
  timeout_set(&r->timeout, stall_step(policy_of(r)->timeouts.send));
}

static void refuse(struct h2_request *r, const struct http_fault *fault) {
  bool in_head = r->state == H2_REQUEST_HEAD;
  r->state = H2_REQUEST_BUSY;
  exchange_refuse(r->down.exchange, fault, in_head);
}

static void on_due(struct timeout *t) {
  static const struct http_fault slow_head = {.status = 408, .text = "the head did not come in time"},
                                 slow_body = {.status = 408, .text = "the body came too slowly"};
  struct h2_request *r = CONTAINER_OF(t, struct h2_request, timeout);
  if (r->early) {
    struct h2_session *s = r->stream.session;
    h2_stream_reset(&r->stream, H2_NO_ERROR);
    if (s != NULL) h2_session_write(s);
  } else if (r->state == H2_REQUEST_HEAD) {
    /* What is left of the block is needed by the library, for the streams behind it: the connection cannot go on without. */
    struct conn *c = r->down.conn;
    refuse(r, &slow_head);
    h2_session_terminate(&c->h2->session, H2_ENHANCE_YOUR_CALM);
    h2_session_write(&c->h2->session);
    say_fin(c);
  } else if (r->sending && waits_for_client(r)) {
    check_sending(r);
  } else if (owes_body(r)) {
    refuse(r, &slow_body);
  }
}

/* --- a request's end --- */

static void free_request(struct h2_request *r) {
  struct conn *c = r->down.conn;
  assert(r->down.exchange == NULL && r->stream.session == NULL);
  timeout_fini(&r->timeout);
  later_cancel(&r->later);
  list_remove(&r->link);
  COUNT(r->worker, streams, (uint64_t)-1);
  free(r);
  if (c != NULL) c->h2->nrequests--;
  if (c == NULL || c->phase != CONN_OPEN || c->h2->state != H2_CONN_OPEN || !list_empty(&c->h2->requests)) return;
  if (c->h2->eof) return; /* it ends when all has left */
  conn_become_idle(c);
  arm_conn(c);
}

/* What is not in frames by now never will be. */
static void forget_untaken(struct h2_request *r) {
  uint64_t lost = r->said - r->stream.taken;
  assert(r->said >= r->stream.taken && r->down.sent >= lost);
  r->down.sent -= lost;
}

/* A stream that has ended by all that was said is no client that left. */
void h2_answered(struct h2_request *r, enum reply_ended ended) {
  bool gone = r->state == H2_REQUEST_GONE;
  r->down.ended = gone && r->stream.sending != H2_SEND_DONE ? REPLY_ABORTED : ended;
  if (r->down.ended == REPLY_ABORTED) forget_untaken(r); /* of one that is cut it goes out before the reset */
  r->down.exchange = NULL;
  r->u.block = NULL;
  r->head = NULL;
  if (gone) return; /* `later` frees it */
  r->state = H2_REQUEST_ANSWERED;
  h2_arm(r);
  if (r->stream.in.n > 0) continue_later(r);
}

/* Its exchange or tunnel is told that the client has gone. From the loop. */
static void tell_gone(struct h2_request *r) {
  struct exchange *ex = r->down.exchange;
  struct pipe_end *t = ex == NULL ? r->u.tunnel : NULL;
  if (ex != NULL) {
    r->down.ended = r->down.conn->worker->stopping ? REPLY_CUT : REPLY_ABORTED;
    forget_untaken(r);
    r->down.exchange = NULL;
    r->u.block = NULL;
    exchange_abort(ex);
  }
  if (t != NULL) { /* whose close frees it, when what came has been taken at the other end */
    t->events->on_read(t, UV_ECONNRESET, NULL);
    return;
  }
  free_request(r);
}

static void on_closed(struct h2_stream *st, enum h2_error code, bool by_peer) {
  struct h2_request *r = request_of(st);
  (void)code, (void)by_peer;
  timeout_clear(&r->timeout);
  if (r->state != H2_REQUEST_TUNNEL) r->u.tunnel = NULL;
  r->state = H2_REQUEST_GONE;
  continue_later(r);
}

/* What the client has on its way is short more often than not: then the stream ends by itself, and what is wrong with it is told. A client that goes on is told to stop. */
static void on_early(struct h2_stream *st) {
  struct h2_request *r = request_of(st);
  r->early = true;
  timeout_set(&r->timeout, EARLY_MS);
}

/* The client does not take the reply: the exchange ends, and the stream. From the loop. */
static void give_up(struct h2_request *r, enum h2_error code) {
  h2_stream_detach(&r->stream, code);
  r->state = H2_REQUEST_GONE;
  tell_gone(r);
}

/* --- what comes --- */

static void on_request_later(struct later *l) {
  struct h2_request *r = CONTAINER_OF(l, struct h2_request, later);
  if (r->state == H2_REQUEST_GONE) {
    tell_gone(r);
    return;
  }
  h2_stream_take(&r->stream);
  h2_arm(r);
}

/* A client may cancel all its streams and open as many at once; what it cancels goes at the end of the turn. More than that is a flood (CVE-2023-44487): 128 KiB that are read in one go
 * could hold thousands. */
static bool has_too_many(const struct h2_conn *h) { return h->nrequests >= 2 * h->session.settings.streams; }

static struct h2_stream *on_opened(struct h2_session *s) {
  struct conn *c = conn_of(s);
  if (has_too_many(c->h2)) return NULL;
  if (worker_overfull(c->worker, stream_queued(&c->stream))) return NULL; /* the client may ask again, elsewhere too */
  struct h2_request *r = must_malloc(sizeof *r);
  *r = (struct h2_request){.worker = c->worker}; /* calloc takes nothing that a thread has freed before */
  h2_stream_init(&r->stream);
  COUNT(r->worker, streams, 1);
  r->down = (struct downstream){.ops = &h2_downstream, .conn = c};
  timeout_init(&r->timeout, &c->worker->services.wheel, on_due);
  later_init(&r->later, on_request_later);
  if (list_empty(&c->h2->requests)) {
    conn_become_busy(c);
    if (!c->h2->sending) timeout_clear(&c->timeout);
  }
  list_push(&c->h2->requests, &r->link);
  c->h2->nrequests++;
  exchange_begin(c->worker, &r->down);
  timeout_set(&r->timeout, policy_of(r)->timeouts.head);
  return &r->stream;
}

static void on_block_begin(struct h2_stream *st, enum h2_block_kind kind) {
  struct h2_request *r = request_of(st);
  struct exchange *ex = r->down.exchange;
  if (ex == NULL || (r->state != H2_REQUEST_HEAD && r->state != H2_REQUEST_BUSY)) return;
  if (kind == H2_HEAD) headers_init(&ex->request.trailers, &ex->arena);
  r->u.block = arena_alloc(&ex->arena, sizeof *r->u.block);
  h2_block_begin(r->u.block, &ex->arena, &ex->runtime->policy->limits.http, false, kind,
                 kind == H2_HEAD ? &ex->request.headers : &ex->request.trailers);
}

/* NULL: nobody wants the block that comes. */
static struct h2_block *block_of(const struct h2_request *r) {
  return r->state == H2_REQUEST_HEAD || r->state == H2_REQUEST_BUSY ? r->u.block : NULL;
}

static enum h2_error on_field(struct h2_stream *st, struct str name, struct str value) {
  struct h2_block *b = block_of(request_of(st));
  return b != NULL ? h2_block_field(b, name, value) : H2_NO_ERROR;
}

/* A fault without a status is the stream's error: it is logged as a 400, and its client gets a reset (RFC 9113 section 8.1.1). */
static enum h2_error refuse_block(struct h2_request *r, struct http_fault fault) {
  r->malformed = fault.status == 0;
  if (r->malformed) fault.status = 400;
  bool malformed = r->malformed;
  refuse(r, &fault);
  return malformed ? H2_PROTOCOL_ERROR : H2_NO_ERROR;
}

static enum h2_error head_has_ended(struct h2_request *r, bool ends) {
  struct exchange *ex = r->down.exchange;
  struct http_fault fault = h2_block_request(r->u.block, &ex->request, ends);
  if (!ends) r->stream.receiving = H2_RECV_BODY;
  r->u.block = NULL;
  timeout_clear(&r->timeout);
  if (fault.text != NULL) return refuse_block(r, fault);
  if (ends) ex->request.expect_continue = false;
  r->state = H2_REQUEST_BUSY;
  exchange_start(ex);
  return H2_NO_ERROR;
}

static enum h2_error on_block_end(struct h2_stream *st, enum h2_block_kind kind, bool ends) {
  struct h2_request *r = request_of(st);
  struct h2_block *b = block_of(r);
  if (kind == H2_HEAD) return head_has_ended(r, ends);
  if (!ends) return H2_PROTOCOL_ERROR; /* RFC 9113 section 8.1: trailers end the request */
  struct http_fault fault = b != NULL ? h2_block_trailers(b) : (struct http_fault){.text = NULL};
  if (b != NULL) r->u.block = NULL;
  if (fault.text == NULL) return H2_NO_ERROR;
  if (fault.status == 0) return H2_PROTOCOL_ERROR;
  refuse(r, &fault);
  return H2_NO_ERROR;
}

static size_t on_body(struct h2_stream *st, struct str span) {
  struct h2_request *r = request_of(st);
  struct exchange *ex = r->down.exchange;
  if (r->state == H2_REQUEST_TUNNEL) {
    if (!r->reading) return 0;
    r->u.tunnel->events->on_read(r->u.tunnel, (ssize_t)span.n, (const uint8_t *)span.p);
    return span.n;
  }
  if (ex == NULL) return span.n;
  if (!exchange_wants_body(ex)) return 0;
  r->seen += span.n;
  exchange_body(ex, span);
  return span.n;
}

static void on_body_end(struct h2_stream *st) {
  struct h2_request *r = request_of(st);
  if (r->state == H2_REQUEST_TUNNEL)
    r->u.tunnel->events->on_read(r->u.tunnel, UV_EOF, NULL);
  else if (r->down.exchange != NULL)
    exchange_body_end(r->down.exchange);
}

static void on_fed(struct h2_stream *st) { h2_arm(request_of(st)); }

static void on_drained(struct h2_stream *st) {
  struct h2_request *r = request_of(st);
  if (r->state == H2_REQUEST_TUNNEL) {
    r->u.tunnel->events->on_drain(r->u.tunnel, 0);
    return;
  }
  h2_arm(r);
  if (r->down.exchange != NULL && r->state == H2_REQUEST_BUSY) exchange_drained(r->down.exchange);
}

static const struct h2_events events = {.opened = on_opened,
                                        .block_begin = on_block_begin,
                                        .field = on_field,
                                        .block_end = on_block_end,
                                        .body = on_body,
                                        .body_end = on_body_end,
                                        .fed = on_fed,
                                        .drained = on_drained,
                                        .early = on_early,
                                        .closed = on_closed,
                                        .stuck = on_stuck,
                                        .over = on_over};

/* The client's SETTINGS end its handshake, and from then on it may be idle. */
static void feed(struct conn *c, const uint8_t *p, size_t n) {
  struct h2_conn *h = c->h2;
  bool greeted = h->session.settled;
  if (!h2_session_feed(&h->session, p, n) || h->session.broken) {
    say_fin(c);
    return;
  }
  if (h->session.state == H2_DRAINING && !h->session.ping_out) leave(c);
  if (!greeted && h->session.settled && !h->sending) timeout_clear(&c->timeout);
  arm_conn(c);
}

/* The client has sent FIN. Where that does not mean that it has left, it gets the replies to what it has asked whole, for timeouts.half_close at the most. */
static void ended(struct conn *c, bool by_fin) {
  struct h2_conn *h = c->h2;
  bool waits = h->state == H2_CONN_OPEN ? !list_empty(&h->requests) : h->sending;
  h->eof = true;
  if (!by_fin || !c->half_close || !waits) {
    conn_close(c);
    return;
  }
  timeout_set(&h->goodbye, c->worker->runtime->policy->timeouts.half_close); /* 0: no limit */
  if (h->state != H2_CONN_OPEN) return;
  give_up_requests(h, false);
  leave(c);
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct conn *c = s->owner;
  struct h2_conn *h = c->h2;
  if (n < 0) {
    ended(c, n == UV_EOF);
  } else if (h->state == H2_CONN_OPEN) {
    feed(c, data, (size_t)n);
  } else if (h->sending) {
    return; /* the client's time is that of what it has not taken */
  } else if (now_ms(c) >= h->limit.linger_end) {
    conn_close(c);
  } else if (!c->worker->draining) {
    timeout_set(&c->timeout, LINGER_MS);
  }
}

static void on_drain(struct stream *s, int status) {
  struct conn *c = s->owner;
  if (status < 0) {
    conn_close(c);
    return;
  }
  h2_session_drained(&c->h2->session, status);
  if (c->phase != CONN_OPEN) return;
  if (c->h2->state == H2_CONN_OPEN)
    arm_conn(c);
  else if (stream_queued(&c->stream) == 0)
    linger(c);
}

/* --- CONNECT: a stream as the end of a tunnel (RFC 9113 section 8.5) --- */

static void tunnel_read(struct pipe_end *t, bool on) {
  struct h2_request *r = t->carrier;
  r->reading = on;
  if (on) continue_later(r); /* what came before is offered from the loop */
}

static int tunnel_write(struct pipe_end *t, struct str bytes) {
  struct h2_request *r = t->carrier;
  if (r->stream.session == NULL) return UV_ECONNRESET;
  h2_stream_body(&r->stream, bytes);
  h2_stream_flush(&r->stream);
  r->stream.waits = h2_stream_queued(&r->stream) > 0;
  return r->stream.session != NULL ? 0 : UV_ECONNRESET;
}

static void tunnel_shutdown(struct pipe_end *t) { h2_stream_end(&((struct h2_request *)t->carrier)->stream, NULL); }
static size_t tunnel_queued(const struct pipe_end *t) {
  return h2_stream_queued(&((const struct h2_request *)t->carrier)->stream);
}

static void tunnel_close(struct pipe_end *t) {
  struct h2_request *r = t->carrier;
  h2_stream_detach(&r->stream, H2_CANCEL);
  r->u.tunnel = NULL;
  r->state = H2_REQUEST_GONE;
  continue_later(r);
}

bool h2_take_over(struct downstream *d, struct pipe_end *end, struct buf *rest) {
  static const struct pipe_ops ops = {tunnel_read, tunnel_write, tunnel_shutdown, tunnel_queued, tunnel_close};
  struct h2_request *r = h2_request_of(d);
  if (r->stream.session == NULL) return false;
  d->exchange = NULL;
  r->state = H2_REQUEST_TUNNEL;
  r->stream.tunnel = true;
  r->u.tunnel = end;
  timeout_clear(&r->timeout);
  *end = (struct pipe_end){.ops = &ops, .carrier = r};
  buf_init(rest);
  return true;
}

/* --- the life of a connection --- */

static void h2_begin(struct conn *c) {
  const struct policy *p = c->worker->runtime->policy;
  struct h2_settings settings = {.side = H2_SERVER, .streams = p->limits.streams, .header_list = p->limits.http.head};
  struct h2_conn *h = c->h2 = must_calloc(1, sizeof *h);
  COUNT(c->worker, connections_h2, 1);
  h->conn = c;
  list_init(&h->requests);
  timeout_init(&h->goodbye, &c->worker->services.wheel, on_goodbye);
  c->stream.on_drain = on_drain;
  h2_session_init(&h->session, &c->stream, &c->worker->later, &settings, &events);
  stream_read_start(&c->stream, on_read);
  timeout_set(&c->timeout, p->timeouts.handshake);
  if (c->worker->draining) h2_drain(c); /* its preface was on its way when the drain began */
}

static void h2_take(struct conn *c, struct str bytes) {
  on_read(&c->stream, (ssize_t)bytes.n, (const uint8_t *)bytes.p);
}

/* Says GOAWAY where there is somebody to hear it, so that a client knows which of its requests may be sent again. */
static void h2_lost(struct conn *c) {
  struct h2_conn *h = c->h2;
  struct link *l;
  if (!h->session.broken && !h->eof) leave(c);
  h2_session_fini(&h->session);
  timeout_fini(&h->goodbye);
  while ((l = list_pop(&h->requests)) != NULL) {
    struct h2_request *r = CONTAINER_OF(l, struct h2_request, link);
    if (r->u.tunnel != NULL && r->down.exchange == NULL) r->down.conn = NULL; /* it may outlive us */
    tell_gone(r);
  }
}

static void h2_fini(struct conn *c) {
  free(c->h2);
  c->h2 = NULL;
  COUNT(c->worker, connections_h2, (uint64_t)-1);
}

static bool h2_looks_whole(const struct conn *c) {
  (void)c;
  return false; /* frames say what is whole */
}

const struct conn_protocol h2_protocol = {h2_begin, h2_take, h2_due, h2_drain, h2_lost, h2_fini, h2_looks_whole};
