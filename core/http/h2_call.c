/* h2_call.c: a call over HTTP/2: one stream of a connection that it shares with others.
 *
 * Sending. The head is made and serialised in one function (h2_send_head), so that no token waits for anything with its head: nothing is opened beyond what the peer allows, and
 * a call that gets its place within a feed has its head made behind that (h2_call_put_off). Heads leave at the end of the loop's turn, many in one write. One whose token ends
 * before long leaves at once, so that a turn which takes long sends none that is over. None is made while the socket is full (h2_upstream.c). A body with secrets may wait for its window: no byte of
 * it is put into a frame when a token in it has ended (h2_stream_secrets), and its stream ends then.
 *
 * Receiving. Events come from the session's feed, each piece as it is found; on_flush comes once for all that one read brought (`fed`). An owner that pauses takes nothing: what comes
 * stays with the stream, bounded by its window, and resume has it offered anew. What has come is told whatever becomes of the stream or its connection (on_left).
 *
 * What a write finds out (a stream that has closed, bytes that waited and have gone) may be below a call of this very owner, so it is told from the loop, by `later`.
 *
 * The end of a stream says nothing of its connection: its place is given back as after a good reply. What the peer has not processed is sent again (RFC 9113 section 8.7); all else
 * is as with HTTP/1.1: once, if it may be repeated, and the connection had served before and has ended. Owned by the call's thread. */
#include "http/h2_call.h"

#include <assert.h>

#include "base/clock.h"
#include "base/err.h"
#include "http/call_ops.h"
#include "http/h2_upstream.h"
#include "net/stall.h"
#include "token/secret.h"

enum { SOON_MS = 1000 /* a token that ends within it is not left to wait for the end of the turn */ };

static struct call *call_of(struct h2_stream *st) { return CONTAINER_OF(st, struct call, h2.stream); }
static struct h2_upstream *upstream_of(const struct call *c) { return c->place.conn->session; }

/* --- ends --- */

static void drop_rest(struct call *c, struct buf *rest) {
  c->place.conn->stream.net->queued -= rest->n;
  buf_fini(rest);
}

static void leave_stream(struct call *c, enum h2_error code) {
  if (c->h2.over != NULL) *c->h2.over = true;
  later_cancel(&c->h2.later);
  list_remove(&c->h2.put_off);
  h2_stream_detach(&c->h2.stream, code);
  drop_rest(c, &c->h2.rest);
}

/* The reply is complete and told. What of the request has not been taken is of no use any more. */
static void finish(struct call *c) {
  leave_stream(c, H2_CANCEL);
  call_ended(c, c->pool.keep_ms);
}

/* Nothing more of the reply will come. Its end waits for an owner that is paused. */
static void be_whole(struct call *c) {
  assert(c->h2.state == H2_CALL_OPEN);
  if (c->paused)
    c->h2.state = H2_CALL_WHOLE;
  else
    finish(c);
}

static void h2_cancel(struct call *c) {
  leave_stream(c, H2_CANCEL);
  place_give_back(&c->place, &c->pool);
}

/* --- receiving: the events of h2_session.h --- */

static void on_block_begin(struct h2_stream *st, enum h2_block_kind kind) {
  struct call *c = call_of(st);
  struct response *r = &c->response;
  call_heard(c);
  if (kind == H2_HEAD) {
    *r = (struct response){0};
    headers_init(&r->trailers, c->arena);
  }
  h2_block_begin(&c->h2.block, c->arena, c->limits, true, kind, kind == H2_HEAD ? &r->headers : &r->trailers);
}

static void fail_malformed(struct call *c, const char *text) {
  h2_stream_detach(&c->h2.stream, H2_PROTOCOL_ERROR);
  call_failed(c, ERR_PROTOCOL, text);
}

static enum h2_error on_field(struct h2_stream *st, struct str name, struct str value) {
  struct call *c = call_of(st);
  enum h2_error e = h2_block_field(&c->h2.block, name, value);
  if (e != H2_NO_ERROR) fail_malformed(c, c->h2.block.fault.text);
  return H2_NO_ERROR; /* that has reset the stream */
}

/* `ends`: there is no body, and the owner may hear of the end at once. */
static void told_head(struct call *c, bool ends) {
  bool gone;
  call_feed_begin(c, &gone);
  if (c->response.status < 200) {
    if (call_told_interim(c)) (void)call_feed_end(c, &gone, false);
    return;
  }
  c->h2.stream.receiving = ends ? H2_RECV_TOLD : H2_RECV_BODY;
  call_told_head(c);
  if (!gone && call_feed_end(c, &gone, false) && ends) be_whole(c);
}

static enum h2_error on_block_end(struct h2_stream *st, enum h2_block_kind kind, bool ends) {
  struct call *c = call_of(st);
  struct http_fault fault = kind == H2_TRAILERS ? h2_block_trailers(&c->h2.block)
                                                : h2_block_response(&c->h2.block, &c->response, c->method, ends);
  if (fault.text != NULL)
    fail_malformed(c, fault.text);
  else if (kind == H2_HEAD)
    told_head(c, ends);
  return H2_NO_ERROR;
}

static size_t on_body(struct h2_stream *st, struct str span) {
  struct call *c = call_of(st);
  bool gone;
  assert(c->h2.state == H2_CALL_OPEN);
  if (c->paused) return 0;
  call_heard(c);
  call_feed_begin(c, &gone);
  c->events->on_body(c, span);
  if (!gone) (void)call_feed_end(c, &gone, false);
  return span.n;
}

static void on_body_end(struct h2_stream *st) { be_whole(call_of(st)); }

static void on_fed(struct h2_stream *st) {
  struct call *c = call_of(st);
  bool gone;
  if (c->phase != CALL_BODY) return;
  call_feed_begin(c, &gone);
  (void)call_feed_end(c, &gone, true);
}

/* --- the end of a stream before its reply's --- */

static const char *closed_by(enum h2_error code) {
  switch (code) {
    case H2_REFUSED_STREAM: return "the upstream refused the stream";
    case H2_CANCEL: return "the upstream cancelled the stream";
    case H2_HTTP_1_1_REQUIRED: return "the upstream wants HTTP/1.1 for this, and the policy HTTP/2";
    case H2_ENHANCE_YOUR_CALM: return "the upstream says that it gets too much (ENHANCE_YOUR_CALM)";
    default: return "the upstream reset the stream";
  }
}

static bool has_closed(const struct call *c) { return c->h2.state == H2_CALL_RESET || c->h2.state == H2_CALL_LOST; }
static bool was_refused(const struct call *c) { return c->h2.code == H2_REFUSED_STREAM; }

static const char *no_reply(const struct call *c) {
  if (c->h2.state == H2_CALL_RESET || was_refused(c)) return closed_by((enum h2_error)c->h2.code);
  if (upstream_of(c)->reason != NULL) return upstream_of(c)->reason;
  const char *said = stream_reason(&c->place.conn->stream);
  return said[0] != '\0' ? said : "the upstream closed without a reply";
}

static const char *cut_reply(const struct call *c) {
  return c->h2.state == H2_CALL_RESET ? "the upstream reset the stream in the middle of its reply"
                                      : "the upstream closed in the middle of its reply";
}

/* What the library finds wrong it resets, which is neither the peer's RST_STREAM nor the end of the connection. */
static bool is_malformed(const struct call *c) {
  return c->h2.state == H2_CALL_LOST && c->h2.code == H2_PROTOCOL_ERROR && !upstream_of(c)->lost;
}

/* A server that cancels says so, and whoever passes that on can use its word. */
static int cause_of(const struct call *c, int otherwise) {
  return c->h2.state == H2_CALL_RESET && c->h2.code == H2_CANCEL ? UV_ECANCELED : otherwise;
}

static void tell_closed(struct call *c) {
  assert(has_closed(c));
  if (was_refused(c) && call_refused(c)) return;
  if (c->h2.code == H2_HTTP_1_1_REQUIRED && call_refused_h2(c)) return;
  if (c->h2.state == H2_CALL_LOST && c->h2.stream.secrets_over)
    call_failed(c, UV_ETIMEDOUT, CALL_TOKEN_ENDED);
  else if (is_malformed(c))
    call_failed(c, ERR_PROTOCOL, "a reply that breaks the rules of HTTP/2 (RFC 9113 section 8.1.1)");
  else if (c->phase == CALL_BODY)
    call_failed(c, cause_of(c, ERR_TRUNCATED), cut_reply(c));
  else if (c->h2.state == H2_CALL_RESET ||
           !call_retry(c)) /* a server that resets a stream is there: the connection is not stale */
    call_failed(c, cause_of(c, UV_ECONNRESET), no_reply(c));
}

static void post_later(struct call *c) { later_post(upstream_of(c)->laters, &c->h2.later); }

static void on_closed(struct h2_stream *st, enum h2_error code, bool by_peer) {
  struct call *c = call_of(st);
  if (c->h2.state == H2_CALL_WHOLE) return;
  assert(c->h2.state == H2_CALL_OPEN);
  c->h2.state = by_peer ? H2_CALL_RESET : H2_CALL_LOST;
  c->h2.code = (uint8_t)code;
  if (c->h2.rest.n > 0)
    later_cancel(&c->h2.later); /* it is told behind that, when the owner goes on */
  else if (upstream_of(c)->feeding || upstream_of(c)->lost)
    tell_closed(c);
  else
    post_later(c);
}

static void on_drained(struct h2_stream *st) { post_later(call_of(st)); }

static void on_later(struct later *l) {
  struct call *c = CONTAINER_OF(l, struct call, h2.later);
  if (has_closed(c))
    tell_closed(c);
  else
    call_drained(c, 0);
}

/* --- the owner's pace --- */

static void h2_pause(struct call *c) { (void)c; /* it takes nothing, and so its stream's window stays shut */ }

/* To an owner that has been told all else. */
static void tell_end(struct call *c) {
  if (c->h2.state == H2_CALL_WHOLE)
    finish(c);
  else
    tell_closed(c);
}

/* The next piece of a reply that outlived its stream. False: the call is over. */
static bool take_piece(struct call *c, struct str piece) {
  bool gone;
  call_feed_begin(c, &gone);
  c->events->on_body(c, piece);
  return !gone && call_feed_end(c, &gone, true);
}

static void take_rest(struct call *c) {
  struct buf rest = c->h2.rest;
  struct net *net = c->place.conn->stream.net;
  bool there = true;
  size_t at = 0;
  buf_init(&c->h2.rest);
  while (there && !c->paused && at < rest.n) {
    size_t n = rest.n - at < H2_TAKE_PIECE ? rest.n - at : H2_TAKE_PIECE;
    there = take_piece(c, (struct str){(const char *)rest.p + at, n});
    at += n;
  }
  net->queued -= there ? at : rest.n;
  if (there && at < rest.n) {
    buf_drop(&rest, at);
    c->h2.rest = rest;
    return;
  }
  buf_fini(&rest);
  if (there && !c->paused) tell_end(c);
}

static void h2_resume(struct call *c) {
  if (c->h2.rest.n > 0) {
    take_rest(c);
  } else if (c->h2.state != H2_CALL_OPEN) {
    tell_end(c);
  } else {
    bool over = false;
    c->h2.over = &over;
    h2_stream_take(&c->h2.stream);
    if (over) return;
    c->h2.over = NULL;
  }
}

/* It stays counted as what waits in this process. */
static void on_left(struct h2_stream *st) {
  struct call *c = call_of(st);
  if (st->receiving == H2_RECV_END)
    c->h2.state = H2_CALL_WHOLE; /* else it may be that already: all was taken, and its end is due */
  c->h2.rest = st->in;
  buf_init(&st->in);
}

/* --- sending --- */

static bool takes_streams(const struct h2_session *s) { return s->nstreams < h2_session_streams(s); }

static void begin_stream(struct call *c) {
  struct h2_call *h = &c->h2;
  h2_stream_init(&h->stream);
  list_init(&h->put_off);
  later_init(&h->later, on_later);
  buf_init(&h->rest);
  h->over = NULL;
  h->state = H2_CALL_OPEN;
}

bool h2_call_put_off(struct call *c) {
  struct h2_upstream *u = upstream_of(c);
  begin_stream(c);
  if (!u->feeding) return false;
  list_push(&u->put_off, &c->h2.put_off);
  return true;
}

void h2_call_go_on(struct link *put_off, bool lost) {
  struct call *c = CONTAINER_OF(put_off, struct call, h2.put_off);
  list_remove(put_off);
  if (lost)
    call_take_another(c);
  else
    call_begin(c);
}

/* Secrets live in `secrets` alone, which is wiped when the head is in frames; the frames' own memory is the session's to wipe. */
static int open_stream(struct call *c, struct request_head *head, bool ends, struct buf *secrets) {
  struct h2_session *s = &upstream_of(c)->session;
  struct h2_fields fields;
  h2_fields_init(&fields, c->arena);
  int rc = h2_fields_request(&fields, head, s->stream->tls != NULL, secrets);
  if (rc != 0) return rc;
  rc = h2_stream_open(s, &c->h2.stream, &fields, ends);
  if (rc == UV_ECONNRESET)
    rc = has_closed(c) ? ERR_LIMIT : UV_EAGAIN; /* the library has bounds for a head; or it had ended before */
  int64_t end = rc == 0 && head->secrets != NULL ? head->secrets->ends_at : 0;
  if (end == 0) return rc;
  h2_upstream_secrets(upstream_of(c), end);
  if (end - clock_boot_ms() < SOON_MS) h2_session_write(s);
  return rc;
}

/* Of this stream, and what the socket has not taken for anybody. */
static size_t h2_queued(const struct call *c) {
  const struct h2_stream *st = &c->h2.stream;
  if (st->session == NULL) return 0;
  return st->out.n - st->out_at + st->nspan_bytes + stream_queued(&c->place.conn->stream);
}

/* `drained` follows. */
static void note_waiting(struct call *c) {
  if (h2_queued(c) > 0) c->h2.stream.waits = true;
}

static bool h2_secrets_wait(const struct call *c) { return h2_stream_secrets_wait(&c->h2.stream); }

static int h2_send_head(struct call *c) {
  struct buf *secrets = origins_head_buffer(origin_owner(c->origin));
  struct h2_upstream *u = upstream_of(c);
  struct request_head head;
  struct str body = {0};
  if (h2_session_stuck(&u->session)) return UV_EAGAIN; /* since this place was given out */
  if (!takes_streams(&u->session)) {
    if (h2_session_streams(&u->session) == 0) origin_conn_retire(c->place.conn);
    return UV_EAGAIN;
  }
  int rc = c->events->make_head(c, &head, &body);
  if (rc != 0) return rc;
  h2_upstream_wanted(u);
  buf_reset(secrets);
  rc = open_stream(c, &head, c->body_done && body.n == 0, secrets);
  buf_reset(secrets);
  if (rc == UV_EAGAIN) origin_conn_retire(c->place.conn);
  if (rc != 0) later_cancel(&c->h2.later);
  if (rc != 0 || body.n == 0) return rc;
  if (head.body_secret) h2_stream_secrets(&c->h2.stream, head.secrets->ends_at);
  h2_stream_body(&c->h2.stream, body);
  h2_stream_end(&c->h2.stream, NULL);
  if (h2_secrets_wait(c)) call_secrets_wait(c, c->h2.stream.secrets_end);
  note_waiting(c);
  return 0;
}

static void h2_send(struct call *c, struct str span) {
  h2_stream_body(&c->h2.stream, span);
  h2_stream_flush(&c->h2.stream);
  note_waiting(c);
}

static void h2_end(struct call *c, const struct headers *trailers) {
  struct h2_fields fields;
  h2_fields_init(&fields, c->arena);
  bool any = trailers != NULL && h2_fields_trailers(&fields, trailers);
  h2_stream_end(&c->h2.stream, any ? h2_fields_keep(&fields) : NULL);
  note_waiting(c);
}

/* By its own bytes while some of them wait for a window: others' may go on. Behind these by the socket's. */
static uint64_t progress(const struct call *c) {
  const struct h2_stream *st = &c->h2.stream;
  return st->out.n > st->out_at ? st->taken : st->taken + stream_taken(&c->place.conn->stream);
}

static bool h2_stalled(struct call *c, bool first) {
  uint64_t taken = progress(c);
  if (first || taken != c->h2.taken) {
    c->h2.taken = taken;
    c->h2.quiet = 0;
    return false;
  }
  return ++c->h2.quiet >= STALL_CHECKS;
}

/* --- the rest --- */

static bool h2_unheard(const struct call *c) {
  const struct h2_upstream *u = upstream_of(c);
  return !c->place.conn->reused && !u->session.settled;
}

static struct stream *h2_raw(const struct call *c) {
  (void)c;
  return NULL;
}

static void h2_pass_on(struct call *c, struct stream *to) { (void)c, (void)to; }

static void h2_take_over(struct call *c, struct pipe_end *end,
                         struct buf *rest) { /* there is no 101 (RFC 9113 section 8.6) */
  (void)c, (void)end, (void)rest;
  assert(false);
}

const struct h2_events h2_call_events = {.block_begin = on_block_begin,
                                         .field = on_field,
                                         .block_end = on_block_end,
                                         .body = on_body,
                                         .body_end = on_body_end,
                                         .left = on_left,
                                         .fed = on_fed,
                                         .drained = on_drained,
                                         .closed = on_closed,
                                         .settings = h2_upstream_settings,
                                         .goaway = h2_upstream_goaway,
                                         .stuck = h2_upstream_stuck,
                                         .over = h2_upstream_over};

const struct call_ops h2_call_ops = {.send_head = h2_send_head,
                                     .send = h2_send,
                                     .end = h2_end,
                                     .pause = h2_pause,
                                     .resume = h2_resume,
                                     .queued = h2_queued,
                                     .stalled = h2_stalled,
                                     .secrets_wait = h2_secrets_wait,
                                     .unheard = h2_unheard,
                                     .raw = h2_raw,
                                     .pass_on = h2_pass_on,
                                     .cancel = h2_cancel,
                                     .take_over = h2_take_over};
