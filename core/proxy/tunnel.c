/* tunnel.c: see tunnel.h.
 *
 * Each direction reads only while the other side's queue is short, so a slow reader bounds memory. A FIN on one side is passed on; when
 * both have ended, or one fails, or nothing moved for the idle time, both connections close. The client's conn calls back through on_closed, the
 * upstream's goes through origin_discard; the tunnel itself goes when it has let go of both. */
#include "proxy/tunnel.h"

#include <stdlib.h>

#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/worker_internal.h"

/* After one side's FIN: a peer that has left altogether looks the same, and must not be held for as long as a living tunnel. */
enum { HALF_CLOSED_MS = 60 * 1000 };

struct tunnel {
  struct link link; /* worker->tunnels */
  struct worker *worker;
  struct conn *conn;
  struct origin_conn *upstream;
  struct timeout idle;
  uint64_t idle_ms;
  bool client_ended, upstream_ended;
};

static void tunnel_end(struct tunnel *t) {
  struct conn *c = t->conn;
  struct origin_conn *u = t->upstream;
  timeout_fini(&t->idle);
  list_remove(&t->link);
  COUNT(t->worker, tunnels, (uint64_t)-1);
  free(t);
  c->tunnel = NULL;
  conn_close(c);
  origin_discard(u);
}

static void on_client_read(struct stream *s, ssize_t n, const uint8_t *data);
static void on_upstream_read(struct stream *s, ssize_t n, const uint8_t *data);

/* Bytes that one side has yet to take: the tunnel ends behind them. */
static bool busy(const struct tunnel *t) {
  return stream_queued(&t->conn->stream) > 0 || stream_queued(&t->upstream->stream) > 0;
}

/* Passes n bytes of `from` on to `to`. False: the tunnel has ended. */
static bool pass(struct tunnel *t, struct stream *from, struct stream *to, ssize_t n, const uint8_t *data, bool *ended,
                 bool other_ended) {
  timeout_set(&t->idle, t->idle_ms);
  if (n == UV_EOF) {
    *ended = true;
    if (t->idle_ms == 0 || t->idle_ms > HALF_CLOSED_MS) t->idle_ms = HALF_CLOSED_MS;
    timeout_set(&t->idle, t->idle_ms);
    stream_shutdown(to);
    if (!other_ended || busy(t)) return true;
  }
  if (n < 0) {
    tunnel_end(t);
    return false;
  }
  uv_buf_t b = uv_buf_init((char *)(uintptr_t)data, (unsigned)n);
  if (stream_write(to, &b, 1, false) != 0) {
    tunnel_end(t);
    return false;
  }
  if (worker_overfull(t->worker, stream_queued(to))) stream_read_stop(from);
  return true;
}

static void on_client_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct tunnel *t = ((struct conn *)s->owner)->tunnel;
  pass(t, s, &t->upstream->stream, n, data, &t->client_ended, t->upstream_ended);
}

static void on_upstream_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct tunnel *t = ((struct origin_conn *)s->owner)->user;
  pass(t, s, &t->conn->stream, n, data, &t->upstream_ended, t->client_ended);
}

static bool finished(const struct tunnel *t) { return t->client_ended && t->upstream_ended && !busy(t); }

static void on_client_drain(struct stream *s, int status) {
  struct tunnel *t = ((struct conn *)s->owner)->tunnel;
  if (status < 0 || finished(t))
    tunnel_end(t);
  else if (!t->upstream_ended)
    stream_read_start(&t->upstream->stream, on_upstream_read);
}

static void on_upstream_drain(struct stream *s, int status) {
  struct tunnel *t = ((struct origin_conn *)s->owner)->user;
  if (status < 0 || finished(t))
    tunnel_end(t);
  else if (!t->client_ended)
    stream_read_start(&t->conn->stream, on_client_read);
}

static void on_idle(struct timeout *timeout) { tunnel_end(CONTAINER_OF(timeout, struct tunnel, idle)); }

static bool send_head(struct exchange *ex, const struct response_head *h) {
  buf_reset(&ex->head);
  write_response_head(&ex->head, h);
  uv_buf_t b = uv_buf_init((char *)ex->head.p, (unsigned)ex->head.n);
  return stream_write(&ex->conn->stream, &b, 1, false) == 0;
}

static bool send_switching(struct exchange *ex) {
  headers_strip_hop_by_hop(&ex->response.headers);
  bool said = ex->upgrade.n > 0; /* the one that it took, of all that were offered (RFC 9110 section 7.8) */
  struct response_head h = {.status = 101,
                            .reason = ex->response.reason,
                            .headers = &ex->response.headers,
                            .no_body = true,
                            .keep_alive = true,
                            .client_minor = 1,
                            .upgrade = said ? ex->upgrade : ex->request.upgrade_protocol};
  return send_head(ex, &h);
}

/* No field at all: a Content-Length, a Transfer-Encoding or a Connection would speak of bytes that are the tunnel's (RFC 9110 section 9.3.6). */
static bool send_connected(struct exchange *ex) {
  ex->response = (struct response){.status = 200, .reason = STR("Connection established"), .minor = 1};
  headers_init(&ex->response.headers, &ex->arena);
  struct response_head h = {.status = 200,
                            .reason = ex->response.reason,
                            .headers = &ex->response.headers,
                            .no_body = true,
                            .keep_alive = true,
                            .client_minor = 1};
  return send_head(ex, &h);
}

static struct tunnel *tunnel_new(struct exchange *ex, struct origin_conn *upstream) {
  struct tunnel *t = calloc(1, sizeof *t);
  if (t == NULL) abort();
  t->worker = ex->worker;
  t->conn = ex->conn;
  t->upstream = upstream;
  t->idle_ms = ex->runtime->policy->timeouts.tunnel;
  upstream->user = t;
  timeout_init(&t->idle, &ex->worker->services.wheel, on_idle);
  timeout_set(&t->idle, t->idle_ms);
  list_push(&ex->worker->tunnels, &t->link);
  COUNT(ex->worker, tunnels, 1);
  return t;
}

/* Both heads are through: what either side sent behind its own goes on, in order; the client's FIN, too, when it has come already. */
static void join(struct exchange *ex, struct origin_conn *u, struct str from_upstream) {
  struct buf from_client;
  ex->tunnel = true;
  struct tunnel *t = tunnel_new(ex, u);
  struct conn *c = ex->conn;
  conn_become_tunnel(c, t, &from_client);
  c->exchange = ex; /* until the dispatcher lets go of it */
  c->stream.on_drain = on_client_drain;
  u->stream.on_drain = on_upstream_drain;
  if (!c->eof) stream_read_start(&c->stream, on_client_read);
  stream_read_start(&u->stream, on_upstream_read);
  bool live = from_upstream.n == 0 || pass(t, &u->stream, &c->stream, (ssize_t)from_upstream.n,
                                           (const uint8_t *)from_upstream.p, &t->upstream_ended, false);
  if (live && from_client.n > 0)
    live = pass(t, &c->stream, &u->stream, (ssize_t)from_client.n, from_client.p, &t->client_ended, false);
  if (live && c->eof) pass(t, &c->stream, &u->stream, UV_EOF, NULL, &t->client_ended, false);
  buf_fini(&from_client);
}

bool tunnel_begin(struct exchange *ex) {
  struct str from_upstream;
  if (!send_switching(ex)) return false;
  struct origin_conn *u = call_take_connection(&ex->call, &from_upstream);
  join(ex, u, from_upstream);
  return true;
}

bool tunnel_begin_connect(struct exchange *ex, struct origin_conn *upstream) {
  if (!send_connected(ex)) return false;
  join(ex, upstream, (struct str){0});
  return true;
}

void tunnels_close(struct worker *w) {
  while (!list_empty(&w->tunnels)) tunnel_end(CONTAINER_OF(w->tunnels.next, struct tunnel, link));
}
