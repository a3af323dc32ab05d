/* call.c: see call.h.
 *
 * Invariants: conn is non-NULL exactly in the phases from SEND on; while `paused`, no event but on_error is told; on_end and on_error
 * come at most once and last. A failed write is not an error yet: the peer may have answered early and closed (413, then RST),
 * so reading goes on until it tells, for BROKEN_MS at most. */
#include "http/call.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "http/writer.h"

enum { BROKEN_MS = 2000, INTERIMS_MAX = 32 };
static const uint8_t nothing[1];

static void on_read(struct stream *s, ssize_t n, const uint8_t *data);
static void on_lease(struct origin_lease *l, struct origin_conn *conn, int status, const char *reason);

/* --- ends --- */

static void call_over(struct call *c) {
  timeout_clear(&c->timeout);
  buf_fini(&c->stash);
  c->phase = CALL_IDLE;
  c->conn = NULL;
  struct origin *o = c->origin;
  c->origin = NULL;
  if (c->gone != NULL) *c->gone = true;
  c->gone = NULL;
  origin_unref(o);
}

static void drop_connection(struct call *c) {
  struct origin_conn *conn = c->conn;
  c->conn = NULL;
  if (conn != NULL) origin_discard(conn);
}

static void fail(struct call *c, int status, const char *reason) {
  if (c->conn != NULL && !c->conn->reused && !c->got_bytes && status != ERR_PROTOCOL) origin_conn_failed(c->conn);
  enum call_phase phase = c->phase;
  char text[192]; /* the reason may live in the stream that goes */
  snprintf(text, sizeof text, "%s", reason);
  drop_connection(c);
  call_over(c);
  c->phase = phase;
  c->events->on_error(c, status, text);
}

void call_cancel(struct call *c) {
  if (!call_running(c)) {
    c->phase = CALL_IDLE;
    return;
  }
  if (c->phase == CALL_CONNECT) origin_lease_cancel(&c->lease);
  drop_connection(c);
  call_over(c);
}

/* The connection may serve another request only when both messages ended cleanly and nothing came behind. */
static void finish(struct call *c, size_t left) {
  struct origin_conn *conn = c->conn;
  bool reusable = c->response.keep_alive && c->body_done && !c->broken && left == 0;
  uint64_t keep = reusable ? c->idle_ms : 0;
  unsigned idle = c->pool_idle;
  struct origin *held = origin_ref(c->origin); /* on_end may drop the last other reference */
  call_over(c);
  origin_release(conn, keep, idle);
  c->events->on_end(c);
  origin_unref(held);
}

/* --- reading --- */

/* A reused connection that ends before a byte of the reply was closed by the peer while it sat idle. */
static bool may_retry(const struct call *c) {
  return c->conn->reused && !c->got_bytes && c->repeatable && !c->retried && c->phase != CALL_BODY;
}

static void retry(struct call *c) {
  drop_connection(c);
  timeout_clear(&c->timeout);
  c->retried = true;
  c->broken = c->body_done = false;
  c->phase = CALL_CONNECT;
  origin_lease(c->origin, &c->lease, c->connect_ms, true);
}

/* TLS 1.3 has a server refuse our certificate after the handshake, where we wait for the reply: what it said is the reason. */
static const char *no_reply(const struct call *c, int status) {
  const char *said = status == ERR_TLS ? stream_reason(&c->conn->stream) : "";
  return said[0] != '\0' ? said : "the upstream closed without a reply";
}

static void on_end_of_stream(struct call *c, int status) {
  if (may_retry(c)) {
    retry(c);
    return;
  }
  if (status == UV_EOF && c->got_bytes && http_parser_eof(&c->parser) == PARSE_END) {
    c->response.keep_alive = false;
    finish(c, 0);
    return;
  }
  if (c->phase == CALL_BODY || http_parser_started(&c->parser))
    fail(c, ERR_TRUNCATED, "the upstream closed in the middle of its reply");
  else
    fail(c, status == UV_EOF ? UV_ECONNRESET : status, no_reply(c, status));
}

/* How long the connection may sit idle. Where the upstream says how long it will wait (Keep-Alive: timeout=5), a second less: it is we who close, before a
 * request can meet its FIN, which may not be sent twice. */
static uint64_t idle_limit(const struct call *c) {
  static const struct str key = {"timeout=", sizeof "timeout=" - 1};
  const struct header *h = headers_find_id(&c->response.headers, H_KEEP_ALIVE);
  struct str list = h != NULL ? h->value : STR(""), member;
  while (list_next(&list, &member)) {
    unsigned long long seconds;
    if (member.n <= key.n || !str_ieq((struct str){member.p, key.n}, key)) continue;
    if (!str_to_u64((struct str){member.p + key.n, member.n - key.n}, &seconds)) continue;
    if (seconds < c->pool_ms / 1000) return seconds > 1 ? (seconds - 1) * 1000 : seconds * 500;
  }
  return c->pool_ms;
}

/* A head is complete. False: the loop must stop. Bytes behind a 101 belong to the tunnel. */
static bool told_head(struct call *c, const uint8_t *p, size_t *n) {
  int status = c->response.status;
  if (status == 101) {
    if (!c->upgrade) {
      fail(c, ERR_PROTOCOL, "101 Switching Protocols that nobody asked for");
      return false;
    }
    buf_add(&c->stash, p, *n);
    *n = 0;
    stream_read_stop(&c->conn->stream);
    timeout_clear(&c->timeout);
    c->phase = CALL_TUNNEL;
    c->events->on_head(c);
    return false;
  }
  if (status < 200) {
    if (++c->interims > INTERIMS_MAX) {
      fail(c, ERR_PROTOCOL, "interim replies without end");
      return false;
    }
    bool *gone = c->gone;
    if (c->events->on_interim != NULL) c->events->on_interim(c);
    if (*gone) return false;
    http_parser_init_response(&c->parser, c->arena, c->limits, &c->response, NULL, c->method);
    return true;
  }
  c->phase = CALL_BODY;
  c->idle_ms = headers_may_have(&c->response.headers, H_KEEP_ALIVE) ? idle_limit(c) : c->pool_ms;
  timeout_set(&c->timeout, c->response_ms);
  c->events->on_head(c);
  return true;
}

/* Tells events from *p to end until input, pause or call ends. Returns false when the call is over or has become a tunnel. */
static bool tell(struct call *c, const uint8_t **p, size_t *n, const bool *gone) {
  for (;;) {
    struct str span = {0};
    if (c->paused) return true;
    switch (http_parser_next(&c->parser, p, n, &span)) {
      case PARSE_MORE: return true;
      case PARSE_HEAD:
        if (!told_head(c, *p, n)) return false;
        break;
      case PARSE_BODY: c->events->on_body(c, span); break;
      case PARSE_END: finish(c, *n); return false;
      case PARSE_ERROR: fail(c, ERR_PROTOCOL, c->parser.fault.text); return false;
    }
    if (*gone) return false;
  }
}

/* `passed`: bytes of the body that went by before. False when the call is over: c must not be touched then. */
static bool feed(struct call *c, const uint8_t *p, size_t n, size_t passed) {
  assert(!c->feeding);
  bool gone = false;
  c->gone = &gone;
  c->feeding = true;
  if (passed > 0) {
    http_parser_passed(&c->parser, passed);
    c->events->on_passed(c, passed);
    if (gone) return false;
  }
  bool live = tell(c, &p, &n, &gone);
  if (gone) return false;
  c->feeding = false;
  if (live && c->events->on_flush != NULL) c->events->on_flush(c);
  if (gone) return false;
  c->gone = NULL;
  if (c->paused) {
    stream_read_stop(&c->conn->stream);
    if (n > 0) buf_add(&c->stash, p, n);
  }
  return true;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct call *c = ((struct origin_conn *)s->owner)->user;
  if (n < 0) {
    on_end_of_stream(c, (int)n);
    return;
  }
  if (!c->got_bytes) c->got_bytes = true;
  if (c->phase == CALL_BODY) timeout_set(&c->timeout, c->response_ms);
  if (data != NULL)
    feed(c, data, (size_t)n, 0);
  else
    feed(c, nothing, 0, (size_t)n);
}

void call_pass_on(struct call *c, struct stream *to) {
  uint64_t left = c->phase == CALL_BODY && !c->paused ? http_parser_passable(&c->parser) : 0;
  if (left > 0) stream_pass_on(&c->conn->stream, to, left);
}

void call_pause(struct call *c) {
  if (c->paused || c->conn == NULL) return;
  c->paused = true;
  /* Within an event most pauses are over before it ends (a hook that does not wait), and would cost two epoll_ctl: feed sees to the others. */
  if (!c->feeding) stream_read_stop(&c->conn->stream);
  timeout_clear(&c->timeout); /* it is not the upstream that is slow */
}

void call_resume(struct call *c) {
  if (!c->paused || c->conn == NULL) return;
  c->paused = false;
  timeout_set(&c->timeout, c->response_ms);
  if (c->feeding) return; /* resumed within the very event that paused: the loop goes on */
  /* Fed even when there is nothing: the message may have ended with the bytes that were told before the pause. */
  struct buf stash = c->stash;
  buf_init(&c->stash);
  bool live = feed(c, stash.n > 0 ? stash.p : nothing, stash.n, 0);
  buf_fini(&stash);
  if (live && c->phase != CALL_TUNNEL && !c->paused) stream_read_start(&c->conn->stream, on_read);
}

/* --- sending --- */

static void on_drain(struct stream *s, int status) {
  struct call *c = ((struct origin_conn *)s->owner)->user;
  c->sending = false;
  if (status < 0) {
    c->broken = true;
    timeout_set(&c->timeout, BROKEN_MS);
  } else if (c->phase == CALL_SEND) {
    timeout_clear(&c->timeout); /* all that came is sent: it is the client's turn */
  } else if (c->body_done && c->phase == CALL_WAIT) {
    timeout_set(&c->timeout, c->first_byte_ms);
  }
  if (c->events->on_drain != NULL) c->events->on_drain(c);
}

static void wrote(struct call *c, int rc) {
  if (rc == 0) return;
  c->broken = true;
  timeout_set(&c->timeout, BROKEN_MS);
}

/* The limit counts from the upstream's last progress. */
static void watch_sending(struct call *c) {
  if (c->sending) return;
  c->sending = true;
  stall_begin(&c->stall, &c->conn->stream);
  timeout_set(&c->timeout, stall_step(c->send_ms));
}

/* Whoever does not read what we send is bounded by send_ms; the reply's first byte counts from the last byte sent. */
static void start_waiting(struct call *c) {
  if (c->phase == CALL_SEND) c->phase = CALL_WAIT;
  if (c->phase != CALL_WAIT || c->broken) return;
  if (call_queued(c) > 0)
    watch_sending(c);
  else
    timeout_set(&c->timeout, c->first_byte_ms);
}

static inline uv_buf_t slice(struct str s) { return uv_buf_init((char *)(uintptr_t)s.p, (unsigned)s.n); }

static int send_head(struct call *c) {
  struct buf *out = origins_head_buffer(origin_owner(c->origin));
  struct request_head head;
  struct str body = {0};
  int rc = c->events->make_head(c, &head, &body);
  if (rc != 0) return rc;
  buf_reset(out);
  rc = write_request_head(out, &head);
  if (rc != 0) return rc;
  c->chunked = head.framing.kind == FRAMING_CHUNKED;
  assert(!c->chunked || !c->body_done); /* a body at hand has a length */
  uv_buf_t bufs[2] = {slice(buf_str(out)), slice(body)};
  wrote(c, stream_write(&c->conn->stream, bufs, body.n > 0 ? 2 : 1, true));
  buf_reset(out);
  return 0;
}

static void on_lease(struct origin_lease *l, struct origin_conn *conn, int status, const char *reason) {
  struct call *c = CONTAINER_OF(l, struct call, lease);
  if (conn == NULL) {
    fail(c, status, reason);
    return;
  }
  c->conn = conn;
  conn->user = c;
  conn->stream.on_drain = on_drain;
  c->got_bytes = c->paused = c->broken = c->feeding = c->sending = false;
  http_parser_init_response(&c->parser, c->arena, c->limits, &c->response, NULL, c->method);
  c->phase = CALL_SEND;
  int rc = send_head(c);
  if (rc != 0) { /* nothing was sent: the connection is as good as before */
    enum call_phase phase = c->phase;
    c->conn = NULL;
    origin_release(conn, c->pool_ms, c->pool_idle);
    call_over(c);
    c->phase = phase;
    c->events->on_error(c, rc, err_text(rc));
    return;
  }
  stream_read_start(&conn->stream, on_read);
  if (c->body_done)
    start_waiting(c);
  else if (c->events->on_sent != NULL)
    c->events->on_sent(c);
}

void call_passed(struct call *c, size_t n) {
  (void)n; /* the kernel has framed nothing, and needs no count */
  if (c->broken || c->phase != CALL_SEND) return;
  if (call_queued(c) > 0)
    watch_sending(c);
  else
    timeout_clear(&c->timeout); /* the client's own pace is bounded on its side */
}

void call_send(struct call *c, struct str span) {
  if (c->conn == NULL || c->broken || span.n == 0) return; /* no bytes would be the last chunk */
  char line[CHUNK_LINE_MAX];
  uv_buf_t bufs[3] = {uv_buf_init(line, 0), slice(span), slice(CHUNK_CRLF)};
  if (c->chunked) {
    bufs[0].len = write_chunk_line(line, span.n);
    wrote(c, stream_write(&c->conn->stream, bufs, 3, false));
  } else {
    wrote(c, stream_write(&c->conn->stream, &bufs[1], 1, false));
  }
  call_passed(c, span.n);
}

static void send_last_chunk(struct call *c, const struct headers *trailers) {
  struct buf end;
  buf_init(&end);
  write_chunk_end(&end, trailers);
  uv_buf_t b = slice(buf_str(&end));
  wrote(c, stream_write(&c->conn->stream, &b, 1, false));
  buf_fini(&end);
}

void call_end(struct call *c, const struct headers *trailers) {
  if (!call_running(c)) return;
  if (c->chunked && c->conn != NULL && !c->broken) send_last_chunk(c, trailers);
  c->body_done = true;
  if (c->conn != NULL) start_waiting(c);
}

struct stream *call_raw(const struct call *c) {
  return c->conn != NULL && !c->broken && !c->chunked ? &c->conn->stream : NULL;
}

size_t call_queued(const struct call *c) { return c->conn != NULL ? stream_queued(&c->conn->stream) : 0; }

static void on_due(struct timeout *t) {
  struct call *c = CONTAINER_OF(t, struct call, timeout);
  static const char *const text[] = {[CALL_SEND] = "the upstream does not read the request",
                                     [CALL_WAIT] = "no reply from the upstream in time",
                                     [CALL_BODY] = "the upstream's reply stalled"};
  if (c->sending && !c->broken && c->phase < CALL_BODY && !stall_look(&c->stall, &c->conn->stream)) {
    timeout_set(&c->timeout, stall_step(c->send_ms));
    return;
  }
  const char *reason = c->phase <= CALL_BODY && text[c->phase] != NULL ? text[c->phase] : "timed out";
  if (c->broken)
    fail(c, UV_ECONNRESET, "the upstream closed while the request was sent");
  else
    fail(c, UV_ETIMEDOUT, reason);
}

/* --- life --- */

void call_init(struct call *c, const struct call_events *e, void *owner, struct arena *a, struct wheel *w) {
  memset(c, 0, sizeof *c);
  c->events = e;
  c->owner = owner;
  c->arena = a;
  c->limits = &http_limits_default;
  buf_init(&c->stash);
  timeout_init(&c->timeout, w, on_due);
}

void call_fini(struct call *c) {
  call_cancel(c);
  timeout_fini(&c->timeout);
}

void call_start(struct call *c, struct origin *o) {
  assert(!call_running(c));
  c->origin = origin_ref(o);
  c->phase = CALL_CONNECT;
  c->retried = false;
  c->body_done = false;
  c->interims = 0;
  c->lease.done = on_lease;
  origin_lease(o, &c->lease, c->connect_ms, false);
}

void call_take_over(struct call *c, struct pipe_end *end, struct buf *rest) {
  assert(c->phase == CALL_TUNNEL);
  origin_pipe(c->conn, end);
  *rest = c->stash;
  buf_init(&c->stash);
  c->conn = NULL;
  call_over(c);
}
