/* h1_conn.c: see h1_conn.h.
 *
 * Input goes straight from the read into the parser. What nobody wants yet (a pipelined request, a body whose upstream is not there)
 * is stashed, and reading stops when the stash is full. `feeding` marks the loop that consumes input: an exchange that ends or wants more
 * inside it lets that loop go on. From elsewhere `later` starts it anew, from the worker's loop: so the exchange is never called from within its own steps, and the
 * stack stays flat however much is pipelined. To consume at once, from within the exchange's call, was the design before: each step then had to ask
 * whether its exchange was still alive.
 *
 * The limits that belong to an exchange are its own policy's, which may be an older one than the worker's present policy.
 *
 * A client's FIN cannot be told from its departure, and nearly always is one: it ends the exchange, unless the listener says `half_close`. Then the reply goes on, for
 * timeouts.half_close at the most: a client that has gone would hold its upstream for as long as that is silent.
 *
 * A reply that is cut ends with FIN where its framing shows that something is missing, so that the client gets what is on its way; only where its end is the
 * connection's with RST, which throws that away.
 *
 * States: IDLE -> HEAD (first byte; the exchange begins) -> BUSY (head parsed) -> IDLE, or FLUSH -> LINGER when no further request can be served. An
 * exchange is there exactly in HEAD and BUSY; in BUSY without one for no longer than h1_message_over runs. */
#include "proxy/h1_conn.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "net/pipe.h"
#include "net/uv_buf.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/h1_message.h"
#include "proxy/worker_state.h"

static const uint8_t nothing[1];
enum {
  STASH_MAX = 16 * 1024,
  LINGER_MS = 2000,
  LINGER_ALL_MS = 30 * 1000,
  UNREAD_MS = 1000 /* while reading is stopped, how often is asked whether the client has left */
};

struct half_closed { /* in the exchange's arena */
  struct timeout timeout;
  struct conn *conn;
};

/* The exchange's own, or for what is between exchanges the worker's present ones. */
static const struct policy *policy(const struct conn *c) {
  const struct exchange *ex = c->h1.down.exchange;
  return ex != NULL ? ex->runtime->policy : c->worker->runtime->policy;
}
static uint64_t now_ms(const struct conn *c) { return uv_now(&c->worker->services.loop); }
static bool stashed(const struct conn *c) { return c->h1.stash != NULL; }
/* Between requests, and none waits in the stash. Once its last reply has been taken, too, the connection may be dropped. */
static bool at_rest(const struct conn *c) { return c->h1.state == H1_IDLE && !stashed(c); }
static void continue_later(struct conn *c) { later_post(&c->worker->later, &c->h1.later); }
static void read_more(struct conn *c, bool want);

static void drop_stash(struct conn *c) {
  if (!stashed(c)) return;
  buf_fini(c->h1.stash);
  free(c->h1.stash);
  c->h1.stash = NULL;
}

static void stash(struct conn *c, const uint8_t *p, size_t n) {
  struct h1_conn *h = &c->h1;
  if (h->stash == NULL) {
    h->stash = must_malloc(sizeof *h->stash);
    buf_init(h->stash);
  }
  buf_add(h->stash, p, n);
}

static bool has_room(const struct conn *c) { return !stashed(c) || c->h1.stash->n <= STASH_MAX; }

/* For the log, of a request whose head comes to nothing. */
static void note_unread(struct conn *c) {
  struct exchange *ex = c->h1.down.exchange;
  if (c->h1.state == H1_HEAD && ex != NULL) ex->unread = http_parser_first_line(&c->h1.u.message->parser);
}

/* The exchange has let go of the connection, or the connection of it. */
static void forget_message(struct conn *c) {
  struct h1_message *m = c->h1.u.message;
  if (m->half_closed != NULL) timeout_fini(&m->half_closed->timeout);
  if (m->out != NULL) h1_outs_give(&c->worker->outs, m->out);
  note_unread(c);
  c->h1.down.exchange = NULL;
  c->h1.u.message = NULL;
}

/* --- the end of a connection --- */

static void begin_linger(struct conn *c) {
  struct h1_conn *h = &c->h1;
  h->state = H1_LINGER;
  conn_become_idle(c); /* its last reply has been taken whole */
  stream_shutdown(&c->stream);
  if (h->eof) {
    conn_close(c);
    return;
  }
  h->sending = false;
  h->limit.linger_end = now_ms(c) + LINGER_ALL_MS;
  timeout_set(&c->timeout, LINGER_MS);
  read_more(c, true);
}

/* Keep reading from a client that is still sending, for a while (RFC 9112 section 9.6). */
static void linger_on(struct conn *c) {
  if (now_ms(c) >= c->h1.limit.linger_end)
    conn_close(c);
  else if (!c->worker->draining)
    timeout_set(&c->timeout, LINGER_MS);
}

/* Nothing that the client still sends is of interest. It is read all the same: many look for the reply only when they have sent all. */
static void finish_writing(struct conn *c) {
  drop_stash(c);
  if (stream_queued(&c->stream) == 0) {
    begin_linger(c);
    return;
  }
  c->h1.state = H1_FLUSH;
  read_more(c, true);
  h1_arm(c);
}

/* The reply is not what its head said. dropped: what the client has not taken yet will not reach it any more. */
static void note_end(struct conn *c, enum reply_ended ended, bool dropped) {
  struct downstream *d = &c->h1.down;
  uint64_t lost = dropped && d->sent > 0 ? stream_untaken(&c->stream) : 0;
  d->ended = ended;
  d->sent -= lost < d->sent ? lost : d->sent;
}

static bool h1_looks_whole(const struct conn *c) {
  const struct h1_conn *h = &c->h1;
  if (!h->until_close) return false;
  return h->state == H1_BUSY ? h->u.message->reply != H1_REPLY_NONE : stream_queued(&c->stream) > 0;
}

void h1_message_over(struct conn *c, bool keep_alive) {
  struct h1_conn *h = &c->h1;
  if (h->broken) note_end(c, REPLY_ABORTED, true); /* the client had gone before it had all */
  forget_message(c);
  if (h->broken) {
    h->state = H1_FLUSH; /* until `later` closes */
    return;
  }
  if (!keep_alive || c->worker->draining) {
    finish_writing(c);
    return;
  }
  h->state = H1_IDLE;
  if (stream_queued(&c->stream) == 0 && at_rest(c)) conn_become_idle(c);
  h1_arm(c);
  if (!h->feeding && (stashed(c) || h->eof || h->reading_stopped)) continue_later(c);
}

/* --- time limits --- */

/* It is the client's turn to send. Not while it waits for a 100 (Continue) that a hook, a token or an upstream holds back; nor while what it sent has not been taken: the exchange wants
 * more from when its queue is below the mark, and is offered more when that is empty, which takes a slow upstream seconds. */
static bool owes_body(const struct conn *c) {
  const struct h1_message *m = c->h1.u.message;
  if (stashed(c) || c->h1.reading_stopped) return false;
  bool waits = m->parser.to.request->expect_continue && !m->continued && m->seen == 0;
  return !waits && exchange_wants_body(c->h1.down.exchange);
}

/* The limit counts from the client's last progress: what is added to the queue meanwhile does not move it. */
static void arm_sending(struct conn *c) {
  struct h1_conn *h = &c->h1;
  if (h->state == H1_BUSY) pace_hold(&h->u.message->pace, now_ms(c));
  if (h->sending) return;
  h->sending = true;
  stall_begin(&h->limit.stall, &c->stream);
  timeout_set(&c->timeout, stall_step(policy(c)->timeouts.send));
}

static void arm_body(struct conn *c) {
  const struct policy *p = policy(c);
  struct h1_message *m = c->h1.u.message;
  timeout_set(&c->timeout, pace_run(&m->pace, now_ms(c), m->seen, p->timeouts.body, p->limits.body_rate));
}

void h1_arm(struct conn *c) {
  struct h1_conn *h = &c->h1;
  if (c->phase != CONN_OPEN || (h->state != H1_IDLE && h->state != H1_BUSY && h->state != H1_FLUSH)) return;
  if (stream_queued(&c->stream) > 0) {
    arm_sending(c);
    return;
  }
  h->sending = false;
  if (h->state == H1_IDLE) {
    timeout_set(&c->timeout, policy(c)->timeouts.idle);
  } else if (h->state == H1_BUSY && owes_body(c)) {
    arm_body(c);
  } else if (h->state == H1_BUSY) {
    timeout_set(&c->timeout, h->reading_stopped ? UNREAD_MS : 0);
    if (h->u.message->pace.running) pace_hold(&h->u.message->pace, now_ms(c));
  }
}

static void check_sending(struct conn *c) {
  if (stall_check(&c->h1.limit.stall, &c->stream))
    conn_reset(c);
  else
    timeout_set(&c->timeout, stall_step(policy(c)->timeouts.send));
}

/* The request cannot be read any further: whatever stands behind it is not a request. */
static void refuse(struct conn *c, const struct http_fault *fault) {
  bool in_head = c->h1.state == H1_HEAD;
  note_unread(c);
  c->h1.state = H1_BUSY;
  c->h1.u.message->refused = true;
  exchange_refuse(c->h1.down.exchange, fault, in_head);
}

static void check_unread(struct conn *c);

static void h1_due(struct conn *c) {
  static const struct http_fault slow_head = {.status = 408, .text = "the head did not come in time"},
                                 slow_body = {.status = 408, .text = "the body came too slowly"};
  struct h1_conn *h = &c->h1;
  if (h->sending && stream_queued(&c->stream) > 0) {
    check_sending(c);
    return;
  }
  switch ((enum h1_state)h->state) {
    case H1_HEAD: refuse(c, &slow_head); break;
    case H1_BUSY:
      if (owes_body(c))
        refuse(c, &slow_body);
      else
        check_unread(c);
      break;
    default: conn_close(c); break;
  }
}

/* --- input --- */

static void bound_reply(struct conn *c);

static void begin_exchange(struct conn *c) {
  struct h1_conn *h = &c->h1;
  struct exchange *ex = exchange_begin(c->worker, &h->down);
  struct h1_message *m = arena_alloc(&ex->arena, sizeof *m);
  memset((char *)m + sizeof m->parser, 0, sizeof *m - sizeof m->parser);
  http_parser_init_request(&m->parser, &ex->arena, &ex->runtime->policy->limits.http, &ex->request);
  h->u.message = m;
  h->state = H1_HEAD;
  h->sending = false; /* the timeout is the head's now */
  timeout_set(&c->timeout, policy(c)->timeouts.head);
  if (h->eof) bound_reply(c);
}

/* Reads of a head. False: stop the loop. */
static bool take_head(struct conn *c, const uint8_t **p, size_t *n) {
  struct h1_message *m = c->h1.u.message;
  struct request *r = m->parser.to.request;
  struct str none;
  switch (http_parser_next(&m->parser, p, n, &none)) {
    case PARSE_MORE: return false;
    case PARSE_HEAD:
      if (*n > 0) r->expect_continue = false; /* it did not wait (RFC 9110 section 10.1.1) */
      m->complete = !request_has_body(r);
      c->h1.state = H1_BUSY;
      timeout_clear(&c->timeout);
      exchange_start(c->h1.down.exchange);
      return true;
    default: refuse(c, &m->parser.fault); return false;
  }
}

static bool take_body(struct conn *c, const uint8_t **p, size_t *n) {
  struct exchange *ex = c->h1.down.exchange;
  struct h1_message *m = c->h1.u.message;
  struct str span;
  if (!exchange_wants_body(ex) && !(http_parser_at_end(&m->parser) && exchange_wants_end(ex))) return false;
  switch (http_parser_next(&m->parser, p, n, &span)) {
    case PARSE_MORE: return false;
    case PARSE_BODY:
      m->seen += span.n;
      exchange_body(ex, span);
      return true;
    case PARSE_END:
      m->complete = true;
      exchange_body_end(ex);
      return true;
    default: refuse(c, &m->parser.fault); return false;
  }
}

/* A connection that has pipelined many requests lets others have their turn. */
static bool may_begin(struct conn *c) {
  if (c->h1.in_row++ < policy(c)->limits.pipelined) return true;
  continue_later(c);
  return false;
}

/* Consumes what can be consumed now; the rest is the caller's to keep. */
static size_t consume(struct conn *c, const uint8_t *p, size_t n) {
  struct h1_conn *h = &c->h1;
  size_t all = n;
  h->feeding = true;
  while (c->phase == CONN_OPEN && (n > 0 || h->state == H1_BUSY)) { /* a body's end may need no further byte */
    if (h->state == H1_IDLE) {
      conn_become_busy(c); /* what has begun to come is not dropped to make room, nor by a drain */
      if (worker_overfull(c->worker, stream_queued(&c->stream)) || !may_begin(c)) break;
      begin_exchange(c);
    }
    if (h->state == H1_HEAD) {
      if (!take_head(c, &p, &n)) break;
    } else if (h->state == H1_BUSY) {
      if (!take_body(c, &p, &n)) break;
    } else {
      break;
    }
  }
  h->feeding = false;
  return all - n;
}

/* No further request is served here: what comes in is thrown away. */
static bool over(const struct conn *c) {
  return c->phase == CONN_CLOSED || c->h1.state == H1_FLUSH || c->h1.state == H1_LINGER;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data);

static void read_more(struct conn *c, bool want) {
  struct h1_conn *h = &c->h1;
  if (c->phase == CONN_CLOSED || h->state == H1_TUNNEL || h->eof || want == !h->reading_stopped) return;
  h->reading_stopped = !want;
  if (want)
    stream_read_start(&c->stream, on_read);
  else
    stream_read_stop(&c->stream);
}

/* Nobody waits for the reply any more. What is complete still goes out: it may be the last one's FIN. */
static void client_left(struct conn *c) {
  struct h1_conn *h = &c->h1;
  struct exchange *ex = h->down.exchange;
  bool whole = h1_looks_whole(c);
  if (h->state == H1_FLUSH) return;
  if (h->state == H1_LINGER) {
    conn_close(c);
    return;
  }
  if (ex != NULL) {
    note_end(c, REPLY_ABORTED, true);
    forget_message(c);
    exchange_abort(ex);
  }
  if (whole)
    conn_reset(c);
  else
    finish_writing(c);
}

static void on_half_closed_due(struct timeout *t) { client_left(CONTAINER_OF(t, struct half_closed, timeout)->conn); }

static void bound_reply(struct conn *c) {
  struct h1_message *m = c->h1.u.message;
  struct exchange *ex = c->h1.down.exchange;
  uint64_t limit = policy(c)->timeouts.half_close;
  if (limit == 0 || m->half_closed != NULL) return;
  m->half_closed = arena_alloc(&ex->arena, sizeof *m->half_closed);
  m->half_closed->conn = c;
  timeout_init(&m->half_closed->timeout, &c->worker->services.wheel, on_half_closed_due);
  timeout_set(&m->half_closed->timeout, limit);
}

/* The client has half-closed, and all that it sent before is consumed: a message that has begun will never be complete, one that is gets its reply, and so
 * does what was pipelined before. */
static void after_fin(struct conn *c) {
  if (c->h1.state == H1_BUSY && c->h1.u.message->complete) return;
  client_left(c);
}

static void on_client_end(struct conn *c, ssize_t n) {
  struct h1_conn *h = &c->h1;
  h->eof = true;
  if (n != UV_EOF && n != ERR_TRUNCATED) {
    conn_close(c);
  } else if (n == ERR_TRUNCATED || !c->half_close) { /* RFC 8446 section 6.1: who only half-closes says close_notify */
    client_left(c);
  } else {
    if (h->state == H1_BUSY) bound_reply(c);
    if (!stashed(c)) after_fin(c);
  }
}

/* Reading is stopped, and so is hearing of the client's end. */
static void check_unread(struct conn *c) {
  int end = stream_peer_end(&c->stream);
  if (end == 0 || (end == UV_EOF && c->half_close))
    timeout_set(&c->timeout, UNREAD_MS);
  else
    on_client_end(c, end);
}

/* What goes out as it came need not come into this process. */
static void pass_on(struct conn *c) {
  uint64_t left = http_parser_passable(&c->h1.u.message->parser);
  struct stream *to = left > 0 ? exchange_pass_to(c->h1.down.exchange, left) : NULL;
  if (to != NULL) stream_pass_on(&c->stream, to, left);
}

static void on_passed(struct conn *c, size_t n) {
  struct h1_message *m = c->h1.u.message;
  assert(c->h1.state == H1_BUSY && !stashed(c));
  http_parser_passed(&m->parser, n);
  m->seen += n;
  exchange_body_passed(c->h1.down.exchange, n);
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct conn *c = s->owner;
  struct h1_conn *h = &c->h1;
  if (n < 0) {
    on_client_end(c, n);
    return;
  }
  h->in_row = 0;
  if (h->state == H1_LINGER) linger_on(c);
  if (over(c)) return;
  if (data == NULL) { /* passed on to the upstream; the body may have ended with it */
    on_passed(c, (size_t)n);
    data = nothing;
    n = 0;
  }
  size_t used = !stashed(c) ? consume(c, data, (size_t)n) : 0;
  if (over(c)) return;
  if (used < (size_t)n) {
    stash(c, data + used, (size_t)n - used);
    read_more(c, has_room(c));
  } else if (h->state == H1_BUSY) {
    pass_on(c);
  }
  h1_arm(c);
}

/* What was stashed goes first. Without a stash, too: the last bytes of a body may have been taken when there was no room to end it. */
static void consume_stash(struct conn *c) {
  struct buf *was = c->h1.stash;
  c->h1.stash = NULL;
  size_t used = was != NULL ? consume(c, was->p, was->n) : consume(c, nothing, 0);
  if (was == NULL) return;
  if (!over(c) && used < was->n) {
    assert(!stashed(c));
    buf_drop(was, used);
    c->h1.stash = was;
    return;
  }
  buf_fini(was);
  free(was);
}

/* The exchange wants body again, or is gone: what is stashed is looked at, and reading goes on. */
static void go_on(struct conn *c) {
  struct h1_conn *h = &c->h1;
  if (h->state == H1_BUSY || (stashed(c) && !over(c))) consume_stash(c);
  if (c->phase == CONN_CLOSED || h->state == H1_TUNNEL) return;
  if (h->eof && !stashed(c)) {
    after_fin(c);
    if (c->phase == CONN_CLOSED || h->state != H1_BUSY) return;
  }
  read_more(c, has_room(c));
  h1_arm(c);
}

static void tell_tunnel_of_fin(struct conn *c) {
  struct pipe_end *t = c->h1.u.tunnel;
  if (t->events != NULL) t->events->on_read(t, UV_EOF, NULL);
}

static void on_later(struct later *l) {
  struct conn *c = CONTAINER_OF(l, struct conn, h1.later);
  if (c->phase == CONN_CLOSED) return;
  c->h1.in_row = 0;
  if (c->h1.broken)
    conn_close(c);
  else if (c->h1.state == H1_TUNNEL)
    tell_tunnel_of_fin(c);
  else
    go_on(c);
}

static void on_drain(struct stream *s, int status) {
  struct conn *c = s->owner;
  struct h1_conn *h = &c->h1;
  if (status < 0) {
    conn_close(c);
  } else if (h->state == H1_FLUSH) {
    begin_linger(c);
  } else if (h->state == H1_BUSY) {
    h1_arm(c);
    exchange_drained(h->down.exchange);
  } else if (at_rest(c) && c->worker->draining) {
    conn_close(c);
  } else {
    if (at_rest(c)) conn_become_idle(c);
    go_on(c);
  }
}

/* --- downstream: what is not writing --- */

static struct conn *conn_of(struct downstream *d) { return CONTAINER_OF(d, struct conn, h1.down); }

void h1_want(struct downstream *d) {
  struct conn *c = conn_of(d);
  if (!c->h1.feeding) continue_later(c);
}

void h1_reset(struct downstream *d) {
  struct conn *c = conn_of(d);
  bool broken = c->h1.broken, drop = broken || h1_looks_whole(c);
  note_end(c, broken ? REPLY_ABORTED : REPLY_CUT, drop);
  forget_message(c);
  if (drop)
    conn_reset(c);
  else
    finish_writing(c);
}

/* --- downstream: a tunnel --- */

static void on_tunnel_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct conn *c = s->owner;
  struct pipe_end *t = c->h1.u.tunnel;
  if (n == UV_EOF) c->h1.eof = true;
  t->events->on_read(t, n, data);
}

static void on_tunnel_drain(struct stream *s, int status) {
  struct pipe_end *t = ((struct conn *)s->owner)->h1.u.tunnel;
  t->events->on_drain(t, status);
}

static void tunnel_read(struct pipe_end *t, bool on) {
  struct conn *c = t->carrier;
  if (on && !c->h1.eof)
    stream_read_start(&c->stream, on_tunnel_read);
  else
    stream_read_stop(&c->stream);
  if (on && c->h1.eof) continue_later(c); /* it came before the tunnel did */
}

static int tunnel_write(struct pipe_end *t, struct str bytes) {
  const uv_buf_t b = uv_buf_of(bytes);
  return stream_write(&((struct conn *)t->carrier)->stream, &b, 1, false);
}

static void tunnel_shutdown(struct pipe_end *t) { stream_shutdown(&((struct conn *)t->carrier)->stream); }
static size_t tunnel_queued(const struct pipe_end *t) { return stream_queued(&((struct conn *)t->carrier)->stream); }
static void tunnel_close(struct pipe_end *t) { conn_close(t->carrier); }

bool h1_take_over(struct downstream *d, struct pipe_end *end, struct buf *rest) {
  static const struct pipe_ops ops = {tunnel_read, tunnel_write, tunnel_shutdown, tunnel_queued, tunnel_close};
  struct conn *c = conn_of(d);
  struct h1_conn *h = &c->h1;
  if (h->broken || c->phase != CONN_OPEN) return false;
  forget_message(c);
  h->state = H1_TUNNEL;
  h->u.tunnel = end;
  later_cancel(&h->later);
  timeout_clear(&c->timeout);
  if (!h->eof) stream_read_start(&c->stream, on_tunnel_read); /* it reads already: only the callback changes */
  c->stream.on_drain = on_tunnel_drain;
  *end = (struct pipe_end){.ops = &ops, .carrier = c};
  buf_init(rest);
  if (stashed(c)) {
    *rest = *h->stash;
    free(h->stash);
    h->stash = NULL;
  }
  return true;
}

/* --- the life of a connection --- */

void h1_init(struct conn *c) {
  c->h1.down = (struct downstream){.ops = &h1_downstream, .conn = c};
  later_init(&c->h1.later, on_later);
}

static void h1_begin(struct conn *c) {
  c->h1.state = H1_IDLE;
  c->stream.on_drain = on_drain;
  stream_read_start(&c->stream, on_read);
  timeout_set(&c->timeout, policy(c)->timeouts.idle);
}

static void h1_take(struct conn *c, struct str bytes) {
  on_read(&c->stream, (ssize_t)bytes.n, (const uint8_t *)bytes.p);
}

/* What is stashed is requests, or the first bytes of one; and the last reply may still be on its way. */
static void h1_drain(struct conn *c) {
  if (at_rest(c) && stream_queued(&c->stream) == 0) conn_close(c);
}

static void h1_lost(struct conn *c) {
  struct exchange *ex = c->h1.down.exchange;
  if (ex == NULL) return;
  note_end(c, c->worker->stopping ? REPLY_CUT : REPLY_ABORTED, true);
  forget_message(c);
  exchange_abort(ex);
}

static void h1_fini(struct conn *c) {
  later_cancel(&c->h1.later);
  drop_stash(c);
}

const struct conn_protocol h1_protocol = {h1_begin, h1_take, h1_due, h1_drain, h1_lost, h1_fini, h1_looks_whole};
