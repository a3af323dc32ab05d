/* conn.c: see conn.h.
 *
 * Input goes straight from the read into the parser. What nobody wants yet (a pipelined request, a body whose upstream is not there)
 * is stashed, and reading stops when the stash is full. `feeding` marks the loop that consumes input: an exchange that ends or wants more
 * inside it lets that loop go on, from elsewhere conn_continue starts it anew; so the stack stays flat however much is pipelined.
 *
 * A conn is freed in its stream's close callback only, so `c` is valid in every frame below a callback. */
#include "proxy/conn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "net/address.h"
#include "net/tls.h"
#include "proxy/exchange.h"
#include "proxy/listener.h"
#include "proxy/worker_internal.h"

static const uint8_t nothing[1];
enum { STASH_MAX = 16 * 1024, LINGER_MS = 2000, LINGER_ALL_MS = 30 * 1000, CROWDED_MS = 2000 };

static const struct timeouts_conf *timeouts(const struct conn *c) { return &c->worker->runtime->policy->timeouts; }

/* --- closing --- */

static void on_closed(struct stream *s) {
  struct conn *c = s->owner;
  timeout_fini(&c->timeout);
  mailbox_cancel(&c->worker->services.mailbox, &c->turn);
  buf_fini(&c->stash);
  if (c->counted) addresses_leave(c->worker->addresses, c->address);
  worker_conn_gone(c->worker, c);
  free(c);
}

static void close_with(struct conn *c, void (*how)(struct stream *, stream_closed_fn)) {
  if (c->state == CONN_CLOSED) return;
  if (c->state == CONN_HANDSHAKE) c->worker->handshakes--;
  c->state = CONN_CLOSED;
  list_remove(&c->link); /* not among those that make room any more */
  list_push(&c->worker->busy, &c->link);
  struct exchange *ex = c->exchange;
  c->exchange = NULL;
  if (ex != NULL) exchange_abort(ex);
  timeout_clear(&c->timeout);
  how(&c->stream, on_closed);
}
void conn_close(struct conn *c) { close_with(c, stream_close); }
void conn_reset(struct conn *c) { close_with(c, stream_reset); }

/* From here on it may be closed for another one: its last reply has been taken whole. */
static void become_idle(struct conn *c) {
  list_remove(&c->link);
  list_push(&c->worker->idle, &c->link);
  listeners_want_room(c->worker);
}

static void begin_linger(struct conn *c) {
  c->state = CONN_LINGER;
  become_idle(c);
  stream_shutdown(&c->stream);
  if (c->eof) {
    conn_close(c);
    return;
  }
  c->phase_end = uv_now(&c->worker->services.loop) + LINGER_ALL_MS;
  timeout_set(&c->timeout, LINGER_MS);
  conn_continue(c);
}

/* Who goes on sending is read for a while (RFC 9112 section 9.6). */
static void linger_on(struct conn *c) {
  uint64_t now = uv_now(&c->worker->services.loop);
  if (now >= c->phase_end)
    conn_close(c);
  else if (!c->worker->draining)
    timeout_set(&c->timeout, LINGER_MS);
}

/* Nothing that the client still sends is of interest. It is read all the same: many look for the reply only when they have sent all. */
static void finish_writing(struct conn *c) {
  buf_fini(&c->stash);
  if (stream_queued(&c->stream) == 0) {
    begin_linger(c);
    return;
  }
  c->state = CONN_FLUSH;
  conn_continue(c);
  conn_arm(c);
}

/* --- time limits --- */

/* It is the client's turn to send. Not while it waits for a 100 (Continue) that a hook, a token or an upstream holds back. */
static bool owes_body(const struct conn *c) {
  const struct exchange *ex = c->exchange;
  bool asked = ex->request.expect_continue && !ex->continue_sent && ex->body_seen == 0;
  return !asked && exchange_wants_body(ex);
}

/* The limit counts from the client's last progress: what is added to the queue meanwhile does not move it. */
static void arm_sending(struct conn *c) {
  if (c->state == CONN_BUSY) pace_hold(&c->exchange->pace, uv_now(c->stream.net->loop));
  if (c->sending) return;
  c->sending = true;
  stall_begin(&c->stall, &c->stream);
  timeout_set(&c->timeout, stall_step(timeouts(c)->send));
}

static void arm_body(struct conn *c) {
  struct exchange *ex = c->exchange;
  uint64_t now = uv_now(c->stream.net->loop), rate = c->worker->runtime->policy->limits.body_rate;
  timeout_set(&c->timeout, pace_run(&ex->pace, now, ex->body_seen, timeouts(c)->body, rate));
}

void conn_arm(struct conn *c) {
  if (c->state != CONN_IDLE && c->state != CONN_BUSY && c->state != CONN_FLUSH) return;
  if (stream_queued(&c->stream) > 0) {
    arm_sending(c);
    return;
  }
  c->sending = false;
  if (c->state == CONN_IDLE) {
    timeout_set(&c->timeout, timeouts(c)->idle);
  } else if (c->state == CONN_BUSY && owes_body(c)) {
    arm_body(c);
  } else if (c->state == CONN_BUSY) {
    timeout_clear(&c->timeout);
    if (c->exchange->pace.running) pace_hold(&c->exchange->pace, uv_now(c->stream.net->loop));
  }
}

static void look_at_sending(struct conn *c) {
  if (stall_look(&c->stall, &c->stream))
    conn_reset(c);
  else
    timeout_set(&c->timeout, stall_step(timeouts(c)->send));
}

/* Whoever shows a certificate means to be let in and should be told of in the log; scanners show none. */
static void handshake_failed(struct conn *c, const char *reason) {
  struct tls_peer peer;
  bool shown = stream_tls_peer(&c->stream, &peer) && peer.shown;
  COUNT(c->worker, handshakes_failed, 1);
  if (shown || log_wants(LOG_DEBUG))
    log_line(shown ? LOG_INFO : LOG_DEBUG, "TLS handshake with %s failed: %s", conn_peer(c).p, reason);
}

static void on_handshake_due(struct conn *c) {
  uint64_t now = uv_now(&c->worker->services.loop), stalled = stream_tls_stalled(&c->stream);
  if (now >= c->phase_end || stalled >= CROWDED_MS) {
    handshake_failed(c, "it took too long");
    conn_close(c);
    return;
  }
  uint64_t left = c->phase_end - now, patience = CROWDED_MS - stalled;
  timeout_set(&c->timeout, left < patience ? left : patience);
}

static void on_due(struct timeout *t) {
  struct conn *c = CONTAINER_OF(t, struct conn, timeout);
  static const struct http_fault slow_head = {408, "the head did not come in time"},
                                 slow_body = {408, "the body came too slowly"};
  if (c->sending && stream_queued(&c->stream) > 0) {
    look_at_sending(c);
    return;
  }
  switch ((enum conn_state)c->state) {
    case CONN_HANDSHAKE: on_handshake_due(c); break;
    case CONN_HEAD: exchange_refuse(c->exchange, &slow_head); break;
    case CONN_BUSY:
      if (owes_body(c)) exchange_refuse(c->exchange, &slow_body);
      break;
    default: conn_close(c); break;
  }
}

/* --- input --- */

static void begin_exchange(struct conn *c) {
  list_remove(&c->link);
  list_push(&c->worker->busy, &c->link);
  c->exchange = exchange_begin(c);
  c->state = CONN_HEAD;
  c->sending = false; /* the timeout is the head's now */
  timeout_set(&c->timeout, timeouts(c)->head);
}

/* Reads of a head. False: stop the loop. */
static bool take_head(struct conn *c, const uint8_t **p, size_t *n) {
  struct exchange *ex = c->exchange;
  struct str none;
  switch (http_parser_next(&ex->parser, p, n, &none)) {
    case PARSE_MORE: return false;
    case PARSE_HEAD:
      if (*n > 0) ex->request.expect_continue = false; /* it did not wait (RFC 9110 section 10.1.1) */
      c->state = CONN_BUSY;
      timeout_clear(&c->timeout);
      exchange_start(ex);
      return true;
    default: exchange_refuse(ex, &ex->parser.fault); return false;
  }
}

static bool take_body(struct conn *c, const uint8_t **p, size_t *n) {
  struct exchange *ex = c->exchange;
  struct str span;
  if (!exchange_wants_body(ex)) return false;
  switch (http_parser_next(&ex->parser, p, n, &span)) {
    case PARSE_MORE: return false;
    case PARSE_BODY: exchange_body(ex, span); return true;
    case PARSE_END: exchange_body_end(ex); return true;
    default: exchange_refuse(ex, &ex->parser.fault); return false;
  }
}

/* A connection that has pipelined many requests lets others have their turn. */
static bool may_begin(struct conn *c) {
  if (c->in_row++ < c->worker->runtime->policy->limits.pipelined) return true;
  if (c->turn.in == NULL) mailbox_post(&c->worker->services.mailbox, &c->turn);
  return false;
}

/* Consumes what can be consumed now; the rest is the caller's to keep. */
static size_t consume(struct conn *c, const uint8_t *p, size_t n) {
  size_t all = n;
  c->feeding = true;
  while (n > 0 || c->state == CONN_BUSY) { /* a body's end may need no further byte */
    if (c->state == CONN_IDLE) {
      if (worker_overfull(c->worker, stream_queued(&c->stream)) || !may_begin(c)) break;
      begin_exchange(c);
    }
    if (c->state == CONN_HEAD) {
      if (!take_head(c, &p, &n)) break;
    } else if (c->state == CONN_BUSY) {
      if (!take_body(c, &p, &n)) break;
    } else {
      break;
    }
  }
  c->feeding = false;
  return all - n;
}

/* No further request is served here: what comes in is thrown away. */
static bool over(const struct conn *c) {
  return c->state == CONN_FLUSH || c->state == CONN_LINGER || c->state == CONN_CLOSED;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data);

static void read_more(struct conn *c, bool want) {
  if (c->state == CONN_CLOSED || c->state == CONN_TUNNEL || c->eof || want == !c->reading_stopped) return;
  c->reading_stopped = !want;
  if (want)
    stream_read_start(&c->stream, on_read);
  else
    stream_read_stop(&c->stream);
}

/* The client has sent FIN and nothing is stashed: a message that has begun will never be complete, one that is gets its reply. Replies to
 * what was pipelined before still go out, but not behind one that was cut. */
static void after_fin(struct conn *c) {
  struct exchange *ex = c->exchange;
  if (c->state == CONN_FLUSH || (c->state == CONN_BUSY && ex->body_complete)) return;
  if (c->state == CONN_LINGER || (ex != NULL && ex->replied)) {
    conn_close(c);
    return;
  }
  c->exchange = NULL;
  if (ex != NULL) exchange_abort(ex);
  finish_writing(c);
}

static void on_client_end(struct conn *c, ssize_t n) {
  c->eof = true;
  if (n != UV_EOF)
    conn_close(c);
  else if (c->stash.n == 0)
    after_fin(c);
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct conn *c = s->owner;
  if (n < 0) {
    on_client_end(c, n);
    return;
  }
  c->in_row = 0;
  if (c->state == CONN_LINGER) linger_on(c);
  if (over(c)) return;
  if (data == NULL) { /* passed on to the upstream; the body may have ended with it */
    assert(c->state == CONN_BUSY && c->stash.n == 0);
    exchange_body_passed(c->exchange, (size_t)n);
    data = nothing;
    n = 0;
  }
  size_t used = c->stash.n == 0 ? consume(c, data, (size_t)n) : 0;
  if (over(c)) return;
  if (used < (size_t)n) {
    buf_add(&c->stash, data + used, (size_t)n - used);
    read_more(c, c->stash.n <= STASH_MAX);
  } else if (c->state == CONN_BUSY) {
    exchange_pass_body(c->exchange);
  }
  conn_arm(c);
}

/* What was stashed goes first. Without a stash, too: the last bytes of a body may have been taken when there was no room to end it. */
static void consume_stash(struct conn *c) {
  struct buf stash = c->stash;
  buf_init(&c->stash);
  size_t used = consume(c, stash.n > 0 ? stash.p : nothing, stash.n);
  if (!over(c) && used < stash.n) {
    assert(c->stash.n == 0);
    buf_drop(&stash, used);
    c->stash = stash;
  } else {
    buf_fini(&stash);
  }
}

void conn_continue(struct conn *c) {
  if (c->feeding || c->state == CONN_CLOSED || c->state == CONN_TUNNEL) return;
  if (c->state == CONN_BUSY || (c->stash.n > 0 && !over(c))) consume_stash(c);
  if (c->state == CONN_CLOSED) return;
  if (c->eof && c->stash.n == 0) {
    after_fin(c);
    if (c->state != CONN_BUSY) return;
  }
  read_more(c, c->stash.n <= STASH_MAX);
  conn_arm(c);
}

static void on_turn(struct mail *m) {
  struct conn *c = CONTAINER_OF(m, struct conn, turn);
  c->in_row = 0;
  conn_continue(c);
}

static void on_drain(struct stream *s, int status) {
  struct conn *c = s->owner;
  if (status < 0)
    conn_close(c);
  else if (c->state == CONN_FLUSH)
    begin_linger(c);
  else if (c->state == CONN_BUSY) {
    conn_arm(c);
    exchange_drained(c->exchange);
  } else if (c->state == CONN_IDLE && c->worker->draining) {
    conn_close(c);
  } else {
    if (c->state == CONN_IDLE) become_idle(c);
    conn_continue(c);
  }
}

void conn_exchange_ended(struct conn *c, bool keep_alive) {
  if (c->state == CONN_CLOSED || c->state == CONN_TUNNEL) return;
  c->exchange = NULL;
  if (!keep_alive || c->worker->draining) {
    finish_writing(c);
    return;
  }
  c->state = CONN_IDLE;
  if (stream_queued(&c->stream) == 0) become_idle(c);
  conn_arm(c);
  if (c->stash.n > 0 || c->eof || c->reading_stopped) conn_continue(c);
}

void conn_drain(struct conn *c) {
  if (c->state == CONN_IDLE || c->state == CONN_HANDSHAKE) conn_close(c);
}

void conn_become_tunnel(struct conn *c, void *tunnel, struct buf *rest) {
  c->exchange = NULL;
  c->state = CONN_TUNNEL;
  c->tunnel = tunnel;
  timeout_clear(&c->timeout);
  *rest = c->stash;
  buf_init(&c->stash);
}

/* --- begin --- */

static void open_for_http(struct conn *c) {
  c->state = CONN_IDLE;
  c->stream.on_drain = on_drain;
  stream_read_start(&c->stream, on_read);
  timeout_set(&c->timeout, timeouts(c)->idle);
}

static void on_handshake(struct stream *s, int status) {
  struct conn *c = s->owner;
  if (status == 0) {
    c->worker->handshakes--;
    open_for_http(c);
    listeners_resume(c->worker);
    return;
  }
  handshake_failed(c, stream_reason(s));
  stream_tls_answer_text(s, STR("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 44\r\n"
                                "Connection: close\r\n\r\n400 Bad Request\nthis port speaks HTTPS only\n"));
  conn_close(c);
}

/* Places are taken by those who stall, not by those who hurry: when half of them are taken, the others may keep us waiting for a short
 * while only. What we keep them waiting is not counted. */
static void begin_handshake(struct conn *c) {
  uint64_t limit = timeouts(c)->handshake;
  bool crowded = 2 * c->worker->handshakes >= c->worker->runtime->policy->limits.handshakes;
  c->state = CONN_HANDSHAKE;
  c->worker->handshakes++;
  c->phase_end = limit > 0 ? uv_now(&c->worker->services.loop) + limit : UINT64_MAX;
  timeout_set(&c->timeout, crowded && (limit == 0 || limit > CROWDED_MS) ? CROWDED_MS : limit);
}

/* With a reset: who opens connections without end is not owed a TIME-WAIT for each. */
static void turn_away(struct worker *w, int fd) {
  COUNT(w, over_address_limit, 1);
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1, .l_linger = 0}, sizeof(struct linger));
  close(fd);
}

bool conn_accept(struct worker *w, int fd, const union address *peer, struct tls_server *tls) {
  struct address_key address = {0};
  uint32_t limit = w->runtime->policy->limits.connections_per_address;
  bool counted = limit > 0 && address_key(peer, &address);
  if (counted && !addresses_enter(w->addresses, address, limit)) {
    turn_away(w, fd);
    return false;
  }
  struct conn *c = calloc(1, sizeof *c);
  if (c == NULL) abort();
  stream_init_socket(&c->stream, &w->services.net, fd, peer->sa.sa_family == AF_UNIX);
  c->stream.owner = c;
  c->counted = counted;
  c->address = address;
  address_host(peer, c->peer);
  c->worker = w;
  c->tls = tls != NULL;
  buf_init(&c->stash);
  mail_init(&c->turn, on_turn);
  timeout_init(&c->timeout, &w->services.wheel, on_due);
  worker_conn_new(w, c);
  stream_nodelay(&c->stream);
  if (tls == NULL) {
    open_for_http(c);
    return true;
  }
  begin_handshake(c);
  if (stream_start_tls_server(&c->stream, tls, on_handshake) != 0) conn_close(c);
  return true;
}

struct str conn_peer(const struct conn *c) {
  return str_of(c->peer);
}
