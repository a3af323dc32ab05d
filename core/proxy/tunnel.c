/* tunnel.c: see tunnel.h.
 *
 * Each direction reads only while the other side's queue is short, so a slow reader bounds memory. A FIN on one side is passed on; when
 * both have ended, or nothing moved for the idle time, both ends are closed, the tunnel is logged, and goes. So it is when one side fails, as soon as the other one has
 * taken what is queued for it: many servers end TLS without a close_notify, and their last words are no less valid for that. */
#include "proxy/tunnel.h"

#include <stdlib.h>

#include "base/must.h"
#include "net/pipe.h"
#include "proxy/forward.h"
#include "proxy/worker_state.h"

/* After one side's FIN: a peer that has left altogether looks the same, and must not be held for as long as a living tunnel. */
enum { HALF_CLOSED_MS = 60 * 1000 };

/* ENDED: its peer has half-closed. GONE: it has failed, and but for close no function of its end may be called. */
enum side_state { SIDE_OPEN, SIDE_ENDED, SIDE_GONE };
struct side {
  struct pipe_end end; /* .owner is the tunnel */
  enum side_state state;
  uint64_t given; /* bytes from the other side that were sent, or are queued */
};
struct tunnel {
  struct link link; /* worker->tunnels */
  struct worker *worker;
  struct tunnel_record *record; /* what its exchange leaves for the log */
  struct side client, upstream;
  struct timeout idle;
  uint64_t idle_ms;
};

static size_t queued(const struct side *s) { return s->end.ops->queued(&s->end); }

/* What its peer was given and has taken. TLS queues a little more than it was given. */
static uint64_t taken(const struct side *s) {
  size_t waits = queued(s);
  return s->given > waits ? s->given - waits : 0;
}

static void tunnel_end(struct tunnel *t) {
  timeout_fini(&t->idle);
  list_remove(&t->link);
  COUNT(t->worker, tunnels, (uint64_t)-1);
  tunnel_record_end(t->record, t->upstream.given, taken(&t->client));
  t->client.end.ops->close(&t->client.end);
  t->upstream.end.ops->close(&t->upstream.end);
  free(t);
}

static struct side *side_of(struct pipe_end *p) { return CONTAINER_OF(p, struct side, end); }
static struct side *other_side(struct tunnel *t, const struct side *s) {
  return s == &t->client ? &t->upstream : &t->client;
}

static bool has_taken_all(const struct side *s) { return s->state == SIDE_GONE || queued(s) == 0; }

/* Both have half-closed or one is gone, and whoever is there has taken what was for it. */
static bool finished(const struct tunnel *t) {
  const struct side *c = &t->client, *u = &t->upstream;
  bool over = c->state == SIDE_GONE || u->state == SIDE_GONE || (c->state == SIDE_ENDED && u->state == SIDE_ENDED);
  return over && has_taken_all(c) && has_taken_all(u);
}

/* A side has said its last. False: the tunnel has ended. */
static bool end_side(struct tunnel *t, struct side *s, enum side_state state) {
  s->state = state;
  if (finished(t)) {
    tunnel_end(t);
    return false;
  }
  if (t->idle_ms == 0 || t->idle_ms > HALF_CLOSED_MS) t->idle_ms = HALF_CLOSED_MS;
  timeout_set(&t->idle, t->idle_ms);
  return true;
}

static void half_close(struct tunnel *t, struct side *from, struct side *to) {
  if (to->state != SIDE_GONE) to->end.ops->shutdown(&to->end);
  (void)end_side(t, from, SIDE_ENDED);
}

/* What comes for a side that is gone is dropped. False: the tunnel has ended. */
static bool pass(struct tunnel *t, struct side *from, struct side *to, struct str bytes) {
  if (to->state == SIDE_GONE) return true;
  timeout_set(&t->idle, t->idle_ms);
  if (to->end.ops->write(&to->end, bytes) != 0) return end_side(t, to, SIDE_GONE);
  to->given += bytes.n;
  if (from == &t->client)
    COUNT(t->worker, bytes_in, bytes.n);
  else
    COUNT(t->worker, bytes_out, bytes.n);
  if (worker_overfull(t->worker, queued(to))) from->end.ops->read(&from->end, false);
  return true;
}

static void on_read(struct pipe_end *p, ssize_t n, const uint8_t *data) {
  struct tunnel *t = p->owner;
  struct side *from = side_of(p), *to = other_side(t, from);
  if (n >= 0)
    (void)pass(t, from, to, (struct str){(const char *)data, (size_t)n});
  else if (n == UV_EOF)
    half_close(t, from, to);
  else
    (void)end_side(t, from, SIDE_GONE);
}

static void on_drain(struct pipe_end *p, int status) {
  struct tunnel *t = p->owner;
  struct side *to = side_of(p), *from = other_side(t, to);
  if (to->state == SIDE_GONE) return;
  if (status < 0)
    (void)end_side(t, to, SIDE_GONE);
  else if (finished(t))
    tunnel_end(t);
  else if (from->state == SIDE_OPEN)
    from->end.ops->read(&from->end, true);
}

static void on_idle(struct timeout *timeout) { tunnel_end(CONTAINER_OF(timeout, struct tunnel, idle)); }

/* --- the beginning --- */

static void say_head(struct exchange *ex, struct str upgrade) {
  struct reply r = {.status = ex->response.status,
                    .reason = ex->response.reason,
                    .headers = &ex->response.headers,
                    .no_body = true,
                    .tunnel = true,
                    .upgrade = upgrade};
  ex->down->ops->head(ex->down, &r);
  ex->down->ops->flush(ex->down);
}

/* A tunnel that has its client, what that sent behind its head, and the exchange's record, whose line is written at the tunnel's end.
 * NULL: the client has gone, and there is no tunnel. */
static struct tunnel *take_client(struct exchange *ex, struct buf *from_client) {
  struct tunnel *t = must_calloc(1, sizeof *t);
  if (!ex->down->ops->take_over(ex->down, &t->client.end, from_client)) {
    free(t);
    return NULL;
  }
  ex->replied = true;
  t->record = exchange_log_keep(ex);
  t->worker = ex->worker;
  t->idle_ms = ex->runtime->policy->timeouts.tunnel;
  timeout_init(&t->idle, &ex->worker->services.wheel, on_idle);
  list_init(&t->link);
  return t;
}

/* Both heads are through: what either side sent behind its own goes on, in order. */
static void join(struct tunnel *t, struct buf *from_client, struct buf *from_upstream) {
  static const struct pipe_events events = {on_read, on_drain};
  struct side *sides[] = {&t->client, &t->upstream};
  for (int i = 0; i < 2; i++) {
    sides[i]->end.events = &events;
    sides[i]->end.owner = t;
  }
  list_push(&t->worker->tunnels, &t->link);
  COUNT(t->worker, tunnels, 1);
  timeout_set(&t->idle, t->idle_ms);
  t->client.end.ops->read(&t->client.end, true);
  t->upstream.end.ops->read(&t->upstream.end, true);
  bool live = from_upstream->n == 0 || pass(t, &t->upstream, &t->client, buf_str(from_upstream));
  if (live && from_client->n > 0) (void)pass(t, &t->client, &t->upstream, buf_str(from_client));
  buf_fini(from_client);
  buf_fini(from_upstream);
}

bool tunnel_begin(struct exchange *ex) {
  struct buf from_client, from_upstream;
  bool said = ex->upgrade.n > 0; /* the one that it took, of all that were offered (RFC 9110 section 7.8) */
  say_head(ex, said ? ex->upgrade : ex->request.upgrade_protocol);
  struct tunnel *t = take_client(ex, &from_client);
  if (t == NULL) return false;
  call_take_over(&ex->call, &t->upstream.end, &from_upstream);
  join(t, &from_client, &from_upstream);
  return true;
}

/* No field at all: a Content-Length, a Transfer-Encoding or a Connection would speak of bytes that are the tunnel's (RFC 9110 section 9.3.6). */
bool tunnel_begin_connect(struct exchange *ex) {
  struct buf from_client, early;
  ex->response = (struct response){.status = 200, .reason = STR("Connection established"), .version = HTTP_1_1};
  headers_init(&ex->response.headers, &ex->arena);
  say_head(ex, (struct str){0});
  struct tunnel *t = take_client(ex, &from_client);
  if (t == NULL) return false;
  forward_take_over(ex->forward, &t->upstream.end, &early);
  join(t, &from_client, &early);
  return true;
}

void tunnels_close(struct worker *w) {
  while (!list_empty(&w->tunnels)) tunnel_end(CONTAINER_OF(w->tunnels.next, struct tunnel, link));
}
