/* h1_call.c: a call over HTTP/1.1, which has its connection for itself from the head to the reply's end.
 *
 * Sending. The head is written into the thread's sensitive buffer and leaves in one write with the body that is at hand; a chunk's line, data and CRLF
 * leave together, since many readers take a chunk only when its CRLF is there. What the kernel does not take waits in the stream's queue. A
 * failed write is not an error yet: the peer may have answered early and closed (413, then RST), so reading goes on until that tells.
 *
 * Receiving. What a read brings goes straight into the parser (feed), and each piece to the owner as it is found. An owner that pauses within an event
 * leaves the rest in `stash`; reading is stopped only when the event is over, because most pauses are over by then and each stop and start
 * cost an epoll_ctl. While the call is paused nothing is told, so `stash` holds the rest of one read at the most. `gone` is how the loop learns that an event
 * has ended the call, whose memory may be gone then.
 *
 * A connection serves another request only when both messages ended cleanly, the request is taken whole, and nothing came behind. Owned by the call's thread. */
#include "http/h1_call.h"

#include <assert.h>

#include "base/err.h"
#include "http/call_ops.h"
#include "http/writer.h"
#include "net/uv_buf.h"
#include "token/secret.h"

enum {
  BODY_COPIED =
      1024 /* a body of so many bytes goes behind the head in one span, which the kernel takes for less than two */
};

static const uint8_t nothing[1];

static struct call *call_of(const struct stream *s) { return ((struct origin_conn *)s->owner)->user; }

/* --- receiving --- */

/* How long the connection may sit idle. Where the upstream says how long it will wait (Keep-Alive: timeout=5), a second less: it is we who close, before a
 * request can meet its FIN, which may not be sent twice. */
static uint64_t keep_limit(const struct call *c) {
  static const struct str key = {"timeout=", sizeof "timeout=" - 1};
  const struct header *h = headers_find_id(&c->response.headers, H_KEEP_ALIVE);
  struct str list = h != NULL ? h->value : STR(""), member;
  while (list_next(&list, &member)) {
    unsigned long long seconds;
    if (member.n <= key.n || !str_ieq((struct str){member.p, key.n}, key)) continue;
    if (!str_to_u64((struct str){member.p + key.n, member.n - key.n}, &seconds)) continue;
    if (seconds < c->pool.keep_ms / 1000) return seconds > 1 ? (seconds - 1) * 1000 : seconds * 500;
  }
  return c->pool.keep_ms;
}

/* left: bytes behind the reply. */
static void finish(struct call *c, size_t left) {
  assert(c->h1.stash.n == 0);
  bool reusable =
      c->response.keep_alive && c->body_done && !c->broken && left == 0 && stream_queued(&c->place.conn->stream) == 0;
  call_ended(c, reusable ? c->h1.keep_ms : 0);
}

static void begin_reply(struct call *c) {
  http_parser_init_response(&c->h1.parser, c->arena, c->limits, &c->response, c->method);
}

/* A 101: bytes behind it belong to the tunnel. */
static void switch_over(struct call *c, const uint8_t *p, size_t n) {
  if (!c->upgrade) {
    call_failed(c, ERR_PROTOCOL, "101 Switching Protocols that nobody asked for");
    return;
  }
  if (!c->body_done) { /* what of the request is still to come would be the other protocol's (RFC 9110 section 7.8) */
    call_failed(c, ERR_PROTOCOL, "101 Switching Protocols before the request was sent");
    return;
  }
  buf_add(&c->h1.stash, p, n);
  stream_read_stop(&c->place.conn->stream);
  call_told_switch(c);
}

/* A head is complete. False: the loop must stop. */
static bool told_head(struct call *c, const uint8_t *p, size_t n) {
  int status = c->response.status;
  if (status == 101) {
    switch_over(c, p, n);
    return false;
  }
  if (status < 200) {
    if (!call_told_interim(c)) return false;
    begin_reply(c);
    return true;
  }
  c->h1.keep_ms = headers_may_have(&c->response.headers, H_KEEP_ALIVE) ? keep_limit(c) : c->pool.keep_ms;
  call_told_head(c);
  return true;
}

/* Tells events from *p to end until input, pause or call ends. Returns false when the call is over or has become a tunnel. */
static bool tell(struct call *c, const uint8_t **p, size_t *n, const bool *gone) {
  for (;;) {
    struct str span = {0};
    if (c->paused) return true;
    switch (http_parser_next(&c->h1.parser, p, n, &span)) {
      case PARSE_MORE: return true;
      case PARSE_HEAD:
        if (!told_head(c, *p, *n)) return false;
        break;
      case PARSE_BODY: c->events->on_body(c, span); break;
      case PARSE_END: finish(c, *n); return false;
      case PARSE_ERROR:
        call_failed(c, c->h1.parser.fault.disagreed ? ERR_AMBIGUOUS : ERR_PROTOCOL, c->h1.parser.fault.text);
        return false;
    }
    if (*gone) return false;
  }
}

/* `passed`: bytes of the body that went by before. False when the call is over: c must not be touched then. */
static bool feed(struct call *c, const uint8_t *p, size_t n, size_t passed) {
  bool gone;
  call_feed_begin(c, &gone);
  if (passed > 0) {
    http_parser_passed(&c->h1.parser, passed);
    c->events->on_passed(c, passed);
    if (gone) return false;
  }
  bool live = tell(c, &p, &n, &gone);
  if (gone || !call_feed_end(c, &gone, live)) return false;
  if (c->paused) {
    stream_read_stop(&c->place.conn->stream);
    if (n > 0) buf_add(&c->h1.stash, p, n);
  }
  return true;
}

/* TLS 1.3 has a server refuse our certificate after the handshake, where we wait for the reply: what it said is the reason. */
static const char *no_reply(const struct call *c, int status) {
  const char *said = status == ERR_TLS ? stream_reason(&c->place.conn->stream) : "";
  return said[0] != '\0' ? said : "the upstream closed without a reply";
}

static void on_end_of_stream(struct call *c, int status) {
  if (call_retry(c)) return;
  if (status == UV_EOF && c->got_bytes && http_parser_eof(&c->h1.parser) == PARSE_END) {
    c->response.keep_alive = false;
    finish(c, 0);
    return;
  }
  if (c->phase == CALL_BODY || http_parser_started(&c->h1.parser))
    call_failed(c, ERR_TRUNCATED, "the upstream closed in the middle of its reply");
  else
    call_failed(c, status == UV_EOF ? UV_ECONNRESET : status, no_reply(c, status));
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct call *c = call_of(s);
  if (n < 0) {
    on_end_of_stream(c, (int)n);
    return;
  }
  call_heard(c);
  if (data != NULL)
    feed(c, data, (size_t)n, 0);
  else
    feed(c, nothing, 0, (size_t)n);
}

static void h1_pass_on(struct call *c, struct stream *to) {
  uint64_t left = http_parser_passable(&c->h1.parser);
  if (left > 0) stream_pass_on(&c->place.conn->stream, to, left);
}

static void h1_pause(struct call *c) { stream_read_stop(&c->place.conn->stream); }

static void h1_resume(struct call *c) {
  /* Fed even when there is nothing: the message may have ended with the bytes that were told before the pause. */
  struct buf stash = c->h1.stash;
  buf_init(&c->h1.stash);
  bool live = feed(c, stash.n > 0 ? stash.p : nothing, stash.n, 0);
  buf_fini(&stash);
  if (live && c->phase != CALL_TUNNEL && !c->paused) stream_read_start(&c->place.conn->stream, on_read);
}

/* --- sending --- */

static void on_drain(struct stream *s, int status) { call_drained(call_of(s), status); }

static void write_out(struct call *c, const uv_buf_t *bufs, unsigned n, bool sensitive) {
  if (stream_write(&c->place.conn->stream, bufs, n, sensitive) != 0) call_broke(c);
}

/* For a parent that reads it. The owner said that nothing in it is secret; here it is held to that. */
static int relay_head(const struct call *c, struct request_head *head, char absolute[ORIGIN_ABSOLUTE_SIZE]) {
  if (head->headers->secrets || head->query_secret != NULL || head->body_secret) return ERR_TOKEN_AUDIENCE;
  origin_absolute(c->origin, absolute);
  head->absolute = str_of(absolute);
  head->parent = origin_parent(c->origin);
  return 0;
}

static int h1_send_head(struct call *c) {
  struct buf *out = origins_head_buffer(origin_owner(c->origin));
  struct stream *s = &c->place.conn->stream;
  struct request_head head;
  char absolute[ORIGIN_ABSOLUTE_SIZE]; /* of one that is relayed */
  struct str body = {0};
  buf_init(&c->h1.stash);
  c->place.conn->user = c;
  s->on_drain = on_drain;
  begin_reply(c);
  int rc = c->events->make_head(c, &head, &body);
  if (rc == 0 && c->place.conn->relayed) rc = relay_head(c, &head, absolute);
  if (rc != 0) return rc;
  buf_reset(out);
  rc = write_request_head(out, &head);
  if (rc != 0) return rc;
  c->h1.chunked = head.framing.kind == FRAMING_CHUNKED;
  assert(!c->h1.chunked || !c->body_done); /* a body at hand has a length */
  bool joined = body.n <= BODY_COPIED;
  if (joined) buf_adds(out, body);
  uv_buf_t bufs[2] = {uv_buf_of(buf_str(out)), uv_buf_of(body)};
  write_out(c, bufs, joined ? 1 : 2, true);
  buf_reset(out);
  c->h1.secrets = stream_queued(s); /* nothing was in front of it */
  if (c->h1.secrets > 0 && head.secrets != NULL) call_secrets_wait(c, head.secrets->ends_at);
  stream_read_start(s, on_read);
  return 0;
}

static void h1_send(struct call *c, struct str span) {
  char line[CHUNK_LINE_MAX];
  uv_buf_t bufs[3] = {uv_buf_init(line, 0), uv_buf_of(span), uv_buf_of(CHUNK_CRLF)};
  if (c->h1.chunked) {
    bufs[0].len = write_chunk_line(line, span.n);
    write_out(c, bufs, 3, false);
  } else {
    write_out(c, &bufs[1], 1, false);
  }
}

static void h1_end(struct call *c, const struct headers *trailers) {
  if (!c->h1.chunked) return;
  struct buf end;
  buf_init(&end);
  write_chunk_end(&end, trailers);
  uv_buf_t b = uv_buf_of(buf_str(&end));
  write_out(c, &b, 1, false);
  buf_fini(&end);
}

static size_t h1_queued(const struct call *c) { return stream_queued(&c->place.conn->stream); }

static bool h1_stalled(struct call *c, bool first) {
  if (!first) return stall_check(&c->h1.stall, &c->place.conn->stream);
  stall_begin(&c->h1.stall, &c->place.conn->stream);
  return false;
}

static bool h1_secrets_wait(const struct call *c) {
  const struct stream *s = &c->place.conn->stream;
  return stream_queued(s) > 0 && stream_left(s) < c->h1.secrets;
}

static bool h1_unheard(const struct call *c) { return !c->place.conn->reused && !c->got_bytes; }

static struct stream *h1_raw(const struct call *c) { return c->h1.chunked ? NULL : &c->place.conn->stream; }

/* --- ends --- */

static void h1_cancel(struct call *c) {
  buf_fini(&c->h1.stash);
  place_close(&c->place);
}

static void h1_take_over(struct call *c, struct pipe_end *end, struct buf *rest) {
  *rest = c->h1.stash;
  buf_init(&c->h1.stash);
  origin_pipe(&c->place, end);
}

const struct call_ops h1_call_ops = {.send_head = h1_send_head,
                                     .send = h1_send,
                                     .end = h1_end,
                                     .pause = h1_pause,
                                     .resume = h1_resume,
                                     .queued = h1_queued,
                                     .stalled = h1_stalled,
                                     .secrets_wait = h1_secrets_wait,
                                     .unheard = h1_unheard,
                                     .raw = h1_raw,
                                     .pass_on = h1_pass_on,
                                     .cancel = h1_cancel,
                                     .take_over = h1_take_over};
