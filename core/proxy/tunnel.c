/* tunnel.c: see tunnel.h.
 *
 * Each direction reads only while the other side's queue is short, so a slow reader bounds memory. A FIN on one side is passed on; when
 * both have ended, or one fails, or nothing moved for the idle time, both connections close. The client's conn calls back through on_closed, the
 * upstream's is the end of a pipe; the tunnel itself goes when it has let go of both. */
#include "proxy/tunnel.h"

#include <stdlib.h>

#include "net/pipe.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/forward.h"
#include "proxy/worker_internal.h"

/* After one side's FIN: a peer that has left altogether looks the same, and must not be held for as long as a living tunnel. */
enum { HALF_CLOSED_MS = 60 * 1000 };

struct tunnel {
  struct link link; /* worker->tunnels */
  struct worker *worker;
  struct conn *conn;
  struct pipe_end upstream;
  struct timeout idle;
  uint64_t idle_ms;
  bool client_ended, upstream_ended;
};

static void tunnel_end(struct tunnel *t) {
  struct conn *c = t->conn;
  timeout_fini(&t->idle);
  list_remove(&t->link);
  COUNT(t->worker, tunnels, (uint64_t)-1);
  c->tunnel = NULL;
  conn_close(c);
  t->upstream.ops->close(&t->upstream);
  free(t);
}

/* Bytes that one side has yet to take: the tunnel ends behind them. */
static bool busy(const struct tunnel *t) {
  return stream_queued(&t->conn->stream) > 0 || t->upstream.ops->queued(&t->upstream) > 0;
}

static bool fin_seen(struct tunnel *t, bool *ended, bool other_ended) {
  *ended = true;
  if (t->idle_ms == 0 || t->idle_ms > HALF_CLOSED_MS) t->idle_ms = HALF_CLOSED_MS;
  timeout_set(&t->idle, t->idle_ms);
  return !other_ended || busy(t);
}

/* Each passes n bytes or an end from one side on to the other. False: the tunnel has ended. */
static bool from_client(struct tunnel *t, ssize_t n, const uint8_t *data) {
  struct pipe_end *to = &t->upstream;
  timeout_set(&t->idle, t->idle_ms);
  bool live = n > 0 && to->ops->write(to, (struct str){(const char *)data, (size_t)n}) == 0;
  if (n == UV_EOF) {
    to->ops->shutdown(to);
    live = fin_seen(t, &t->client_ended, t->upstream_ended);
  }
  if (!live)
    tunnel_end(t);
  else if (n > 0 && worker_overfull(t->worker, to->ops->queued(to)))
    stream_read_stop(&t->conn->stream);
  return live;
}

static bool from_upstream(struct tunnel *t, ssize_t n, const uint8_t *data) {
  struct stream *to = &t->conn->stream;
  timeout_set(&t->idle, t->idle_ms);
  uv_buf_t b = uv_buf_init((char *)(uintptr_t)data, n > 0 ? (unsigned)n : 0);
  bool live = n > 0 && stream_write(to, &b, 1, false) == 0;
  if (n == UV_EOF) {
    stream_shutdown(to);
    live = fin_seen(t, &t->upstream_ended, t->client_ended);
  }
  if (!live)
    tunnel_end(t);
  else if (n > 0 && worker_overfull(t->worker, stream_queued(to)))
    t->upstream.ops->read(&t->upstream, false);
  return live;
}

static void on_client_read(struct stream *s, ssize_t n, const uint8_t *data) {
  from_client(((struct conn *)s->owner)->tunnel, n, data);
}

static void on_upstream_read(struct pipe_end *p, ssize_t n, const uint8_t *data) { from_upstream(p->owner, n, data); }

static bool finished(const struct tunnel *t) { return t->client_ended && t->upstream_ended && !busy(t); }

static void on_client_drain(struct stream *s, int status) {
  struct tunnel *t = ((struct conn *)s->owner)->tunnel;
  if (status < 0 || finished(t))
    tunnel_end(t);
  else if (!t->upstream_ended)
    t->upstream.ops->read(&t->upstream, true);
}

static void on_upstream_drain(struct pipe_end *p, int status) {
  struct tunnel *t = p->owner;
  if (status < 0 || finished(t))
    tunnel_end(t);
  else if (!t->client_ended)
    stream_read_start(&t->conn->stream, on_client_read);
}

static const struct pipe_events upstream_pipe_events = {.on_read = on_upstream_read, .on_drain = on_upstream_drain};

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

static struct tunnel *tunnel_new(struct exchange *ex) {
  struct tunnel *t = calloc(1, sizeof *t);
  if (t == NULL) abort();
  t->worker = ex->worker;
  t->conn = ex->conn;
  t->idle_ms = ex->runtime->policy->timeouts.tunnel;
  timeout_init(&t->idle, &ex->worker->services.wheel, on_idle);
  timeout_set(&t->idle, t->idle_ms);
  list_push(&ex->worker->tunnels, &t->link);
  COUNT(ex->worker, tunnels, 1);
  return t;
}

/* Both heads are through: what either side sent behind its own (early: the upstream) goes on, in order; the client's FIN, too, when it has come already. */
static void join(struct exchange *ex, struct tunnel *t, struct str early) {
  struct buf rest;
  ex->tunnel = true;
  struct conn *c = ex->conn;
  conn_become_tunnel(c, t, &rest);
  c->exchange = ex; /* until the dispatcher lets go of it */
  c->stream.on_drain = on_client_drain;
  t->upstream.events = &upstream_pipe_events;
  t->upstream.owner = t;
  if (!c->eof) stream_read_start(&c->stream, on_client_read);
  t->upstream.ops->read(&t->upstream, true);
  bool live = early.n == 0 || from_upstream(t, (ssize_t)early.n, (const uint8_t *)early.p);
  if (live && rest.n > 0) live = from_client(t, (ssize_t)rest.n, rest.p);
  if (live && c->eof) from_client(t, UV_EOF, NULL);
  buf_fini(&rest);
}

bool tunnel_begin(struct exchange *ex) {
  if (!send_switching(ex)) return false;
  struct buf early;
  struct tunnel *t = tunnel_new(ex);
  call_take_over(&ex->call, &t->upstream, &early);
  join(ex, t, buf_str(&early));
  buf_fini(&early);
  return true;
}

bool tunnel_begin_connect(struct exchange *ex) {
  if (!send_connected(ex)) return false;
  struct tunnel *t = tunnel_new(ex);
  forward_take_over(ex->forward, &t->upstream);
  join(ex, t, (struct str){0});
  return true;
}

void tunnels_close(struct worker *w) {
  while (!list_empty(&w->tunnels)) tunnel_end(CONTAINER_OF(w->tunnels.next, struct tunnel, link));
}
