/* h2_upstream.c: see h2_upstream.h.
 *
 * Life: open (preface and SETTINGS leave with the first request) -> the peer's SETTINGS say how many places there are -> GOAWAY of either side, or the origin's own reasons, retire it -> the
 * origin closes it with its last place (close), or it is lost: then its streams end, each call decides what that means for it, and the last place that they give
 * back closes it. The struct goes with the stream's close callback, so whatever is on a stack may look at it. A write that fails is not the end yet: what the server has said before it went may not have
 * been read, whole replies even, so reading goes on to its own end, for BROKEN_MS at the most.
 *
 * Within the feed nothing is closed and no head is made: `closing` and `put_off` say what is to be done when it is over.
 *
 * Tokens. A head leaves with the write of its turn, unless the socket is full. So a connection whose socket has not taken all gets no new call, which had to wait there, and its token with it. A head
 * may be in the very write that the socket does not take: then the connection ends when the first token in it does (`secrets`).
 *
 * Signs of life. Whoever waits for a reply cannot tell a slow server from a dead path, and an idle connection may lead nowhere long before TCP says so. So a silence is broken by a
 * PING: after H2_SILENCE_MS, once more after as long again and twice that, and with the next request that is sent into it. More in one silence would be an offence: servers of gRPC end a
 * connection that brings a fourth one within five minutes and no data in between ("too_many_pings"), and with it streams that are silent for good reasons. A long silence of a
 * stream is looked into every six minutes. */
#include "http/h2_upstream.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "http/h2_call.h"
#include "http/message.h"
#include "net/stream.h"

enum {
  PLACES_MOST = 100, /* of one connection: what one that breaks takes with it, and one socket carries */
  HELLO_MS = 1000,   /* whose SETTINGS have not come within it gets no further request before they do */
  PINGS_MOST = 2,    /* of one silence, before a request or RARELY_MS breaks it */
  RARELY_MS = 6 * 60 * 1000,
  BROKEN_MS = 2000,
  HEADER_LIST = 256 * 1024, /* of a reply: each call judges by its own limits */
};

static struct h2_upstream *upstream_of(struct h2_session *s) { return CONTAINER_OF(s, struct h2_upstream, session); }
static uint64_t now_of(const struct h2_upstream *u) { return uv_now(u->conn->stream.net->loop); }

/* --- ends --- */

/* Heads that waited for the feed's end. Each leaves the list, and none enters it meanwhile. */
static void go_on(struct h2_upstream *u) {
  struct link *l;
  while ((l = u->put_off.next) != &u->put_off) h2_call_go_on(l, u->lost);
}

static void shut(struct h2_upstream *u) {
  timeout_fini(&u->silence);
  timeout_fini(&u->secrets);
  later_cancel(&u->early);
  origin_conn_shut(u->conn);
}

/* Of no use any more. */
static void lose(struct h2_upstream *u) {
  if (u->lost || u->closing) return;
  u->lost = true;
  timeout_clear(&u->silence);
  timeout_clear(&u->secrets);
  stream_read_stop(&u->conn->stream);
  if (!u->conn->reused && !u->session.settled) origin_conn_failed(u->conn);
  if (u->conn->taken > 0) {
    origin_conn_retire(u->conn);
    go_on(u);
    h2_session_fini(&u->session);
  } else {
    h2_session_fini(&u->session);
    origin_conn_retire(u->conn);
  }
}

static void close_now(struct h2_upstream *u) {
  h2_session_leave(&u->session);
  h2_session_write(&u->session);
  h2_session_fini(&u->session);
  shut(u);
}

static void upstream_close(struct origin_conn *c) {
  struct h2_upstream *u = c->session;
  if (u->lost)
    shut(u);
  else if (u->feeding)
    u->closing = true;
  else
    close_now(u);
}

static void upstream_free(struct origin_conn *c) { free(c->session); }

/* --- signs of life --- */

enum {
  ANSWER_SIZE =
      17 /* a frame of PING (RFC 9113 section 6.7): read by itself it says that somebody is there, and breaks no silence */
};

static uint64_t silent_for(const struct h2_upstream *u) { return now_of(u) - u->session.heard_at; }

static uint64_t patience(const struct h2_upstream *u) {
  return u->pings < PINGS_MOST ? (uint64_t)H2_SILENCE_MS << u->pings : RARELY_MS;
}

static void ping(struct h2_upstream *u) {
  u->pings++;
  u->doubted = true;
  h2_session_ping(&u->session);
  timeout_set(&u->silence, H2_ANSWER_MS);
}

static void on_silence(struct timeout *t) {
  struct h2_upstream *u = CONTAINER_OF(t, struct h2_upstream, silence);
  if (u->doubted || u->session.broken)
    lose(u);
  else if (silent_for(u) >= patience(u))
    ping(u);
  else
    timeout_set(&u->silence, patience(u) - silent_for(u));
}

static void heard(struct h2_upstream *u, bool answer) {
  u->doubted = false;
  if (answer || u->pings == 0 || u->session.broken) return;
  u->pings = 0;
  timeout_set(&u->silence, H2_SILENCE_MS);
}

void h2_upstream_wanted(struct h2_upstream *u) {
  if (silent_for(u) >= H2_SILENCE_MS && !u->doubted) ping(u);
}

static bool upstream_ready(const struct origin_conn *c) {
  const struct h2_upstream *u = c->session;
  if (u->lost || u->closing || u->doubted || u->session.broken || h2_session_stuck(&u->session)) return false;
  return u->session.settled || now_of(u) - c->opened_at < HELLO_MS;
}

/* --- tokens that wait in the socket's queue --- */

static void on_secrets_due(struct timeout *t) {
  struct h2_upstream *u = CONTAINER_OF(t, struct h2_upstream, secrets);
  if (u->session.secrets_end == 0 || !h2_session_stuck(&u->session)) return;
  stream_mute(&u->conn->stream); /* a paused call may keep the connection open for a while */
  lose(u);
}

void h2_upstream_stuck(struct h2_session *s) {
  enum { EARLY_MS = 2 * WHEEL_TICK_MS };
  struct h2_upstream *u = upstream_of(s);
  if (s->secrets_end == 0 || u->lost || u->closing) return;
  int64_t left = s->secrets_end - clock_boot_ms() - EARLY_MS;
  timeout_set(&u->secrets, left > 0 ? (uint64_t)left : 1);
}

void h2_upstream_secrets(struct h2_upstream *u, int64_t end) {
  struct h2_session *s = &u->session;
  if (s->secrets_end == 0 || end < s->secrets_end) s->secrets_end = end;
  if (h2_session_stuck(s)) h2_upstream_stuck(s);
}

/* --- what comes --- */

void h2_upstream_settings(struct h2_session *s) {
  struct h2_upstream *u = upstream_of(s);
  uint32_t n = h2_session_streams(s);
  if (n > 0)
    origin_conn_places(u->conn, n < PLACES_MOST ? n : PLACES_MOST);
  else
    origin_conn_retire(u->conn); /* it takes no request; for now, perhaps, but another may */
}

void h2_upstream_goaway(struct h2_session *s, enum h2_error code) {
  struct h2_upstream *u = upstream_of(s);
  if (code == H2_HTTP_1_1_REQUIRED) (void)origin_conn_refused_h2(u->conn);
  origin_conn_retire(u->conn);
}

void h2_upstream_over(struct h2_session *s) {
  struct h2_upstream *u = upstream_of(s);
  if (u->lost || u->closing) return;
  if (!s->broken || u->conn->taken == 0) {
    lose(u);
    return;
  }
  origin_conn_retire(u->conn);
  timeout_set(&u->silence, BROKEN_MS);
}

/* A server that has no HTTP/2 takes the preface for a bad request, and says so. The library would find a frame of 4 MB. */
static bool is_http1(const uint8_t *p, size_t n) {
  static const char begin[] = "HTTP/1.";
  return n >= sizeof begin - 1 && memcmp(p, begin, sizeof begin - 1) == 0;
}

static void on_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct h2_upstream *u = ((struct origin_conn *)s->owner)->session;
  if (n < 0) {
    lose(u);
    return;
  }
  if (!u->session.settled && is_http1(data, (size_t)n))
    u->reason = "the upstream answers by HTTP/1.1, and http2 = true allows HTTP/2 alone: write http2 = false";
  bool asked = u->session.ping_out;
  u->feeding = true;
  bool goes_on = h2_session_feed(&u->session, data, (size_t)n);
  u->feeding = false;
  heard(u, asked && !u->session.ping_out && n == ANSWER_SIZE);
  if (u->closing)
    close_now(u);
  else if (!goes_on)
    lose(u);
  else
    go_on(u);
}

/* A server may send its SETTINGS before it has heard anything (RFC 9113 section 3.4). Behind a parent's answer they come within the dial, where nothing can be told yet. The loop brings
 * them before it reads the socket again. */
static void on_early(struct later *l) {
  struct h2_upstream *u = CONTAINER_OF(l, struct h2_upstream, early);
  struct buf first = u->conn->early;
  buf_init(&u->conn->early);
  if (!u->lost) on_read(&u->conn->stream, (ssize_t)first.n, first.p);
  buf_fini(&first);
}

static void on_drain(struct stream *s, int status) {
  struct h2_upstream *u = ((struct origin_conn *)s->owner)->session;
  if (!u->lost) h2_session_drained(&u->session, status);
}

static void upstream_open(struct origin_conn *c, struct wheel *w, struct laters *l) {
  static const struct h2_settings settings = {.side = H2_CLIENT, .header_list = HEADER_LIST, .sensitive = true};
  struct h2_upstream *u = must_calloc(1, sizeof *u);
  u->conn = c;
  u->laters = l;
  list_init(&u->put_off);
  timeout_init(&u->silence, w, on_silence);
  timeout_init(&u->secrets, w, on_secrets_due);
  c->session = u;
  c->user = NULL;
  c->stream.on_drain = on_drain;
  h2_session_init(&u->session, &c->stream, l, &settings, &h2_call_events);
  stream_read_start(&c->stream, on_read);
  later_init(&u->early, on_early);
  if (c->early.n > 0) later_post(l, &u->early);
  timeout_set(&u->silence, H2_SILENCE_MS);
}

const struct origin_protocol h2_upstream_protocol = {
    .open = upstream_open, .ready = upstream_ready, .close = upstream_close, .free = upstream_free};
