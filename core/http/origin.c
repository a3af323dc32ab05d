/* origin.c: see origin.h. Origins, their connections, and the places on them; who finds no place waits in origin_dials.c. Owned by one loop's thread.
 *
 * An idle connection keeps reading: bytes or an end that nobody asked for close it at once, so that a connection taken from the pool
 * is one whose peer has been silent (RFC 9112 section 9.3, CVE-2026-48931), and taking a place on it costs no system call.
 *
 * Whoever takes the hope of places away (a connection that retires, or says that it has fewer) has connections dialled for those who waited for them (origin_dial_for_waiting).
 *
 * A connection is freed in its stream's close callback only, so it is valid in every frame below a callback of `done`, which may have closed it. An origin lives
 * while somebody refers to it or it has connections. */
#include "http/origin.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "http/connect.h"
#include "http/origin_internal.h"
#include "net/uv_buf.h"

enum {
  SWEEP_MS = 2000,
  /* Of a server that speaks HTTP/2, before one has said (RFC 9113 section 6.5.2 asks for no less). */
  PLACES_HOPED = 100,
  H1_MS = 10 * 60 * 1000 /* a server that refused HTTP/2 is spoken to by HTTP/1.1 */
};

/* --- life of an origin --- */

static bool same_settings(const struct origin *o, const struct origin_settings *s) {
  const struct dial_target *t = &o->target;
  const char *path = s->unix_path != NULL ? s->unix_path : "";
  if ((t->client != NULL) != s->tls || t->port != s->port || !str_eq(str_of(t->host), s->host) ||
      strcmp(t->unix_path != NULL ? t->unix_path : "", path) != 0)
    return false;
  if (t->http2 != s->http2 || !parent_same(t->parent, s->parent)) return false;
  if (!keepalive_equal(&t->keepalive, &s->keepalive)) return false;
  return !s->tls || tls_client_fingerprint(t->client) == tls_client_fingerprint(s->client);
}

static void origin_maybe_free(struct origin *o) {
  if (o->refs > 0 || o->connections > 0) return;
  list_remove(&o->link);
  if (o->target.client != NULL) tls_client_unref(o->target.client);
  parent_unref(o->target.parent);
  free(o->target.host);
  free(o->target.unix_path);
  free(o);
}

struct origin *origin_get(struct origins *all, const struct origin_settings *s) {
  for (struct link *l = all->all.next; l != &all->all; l = l->next) {
    struct origin *o = CONTAINER_OF(l, struct origin, link);
    if (same_settings(o, s)) return origin_ref(o);
  }
  struct origin *o = must_calloc(1, sizeof *o);
  o->origins = all;
  o->refs = 1;
  o->target = (struct dial_target){.net = all->net,
                                   .wheel = all->wheel,
                                   .resolver = all->resolver,
                                   .health = &all->health,
                                   .host = must_dup(s->host),
                                   .port = s->port,
                                   .unix_path = s->unix_path != NULL ? must_dup(str_of(s->unix_path)) : NULL,
                                   .parent = s->parent != NULL ? parent_ref(s->parent) : NULL,
                                   .client = s->tls ? tls_client_ref(s->client) : NULL,
                                   .keepalive = s->keepalive,
                                   .http2 = s->http2};
  list_init(&o->open);
  list_init(&o->idle);
  list_init(&o->shared);
  list_init(&o->waiting);
  o->expected = s->http2 == HTTP2_OFF ? 1 : PLACES_HOPED;
  list_push(&all->all, &o->link);
  return o;
}

struct origin *origin_ref(struct origin *o) {
  o->refs++;
  return o;
}

/* Idle connections of an origin that nobody refers to any more stay until their own time-out: a reload that brings the same
 * upstream back finds them. */
void origin_unref(struct origin *o) {
  assert(o->refs > 0);
  o->refs--;
  origin_maybe_free(o);
}

bool origin_down(const struct origin *o) { return o->down_until > origin_now(o); }

enum standing_news origin_failed(struct origin *o, bool behind_head) {
  return standing_failed(&o->standing, behind_head, origin_now(o));
}

enum standing_news origin_served(struct origin *o, bool whole) { return standing_served(&o->standing, whole); }

bool origin_serves(const struct origin *o) { return !origin_down(o) && !standing_out(&o->standing); }

bool origin_may_serve(struct origin *o, bool can_move) {
  return !origin_down(o) && (!standing_out(&o->standing) || standing_try(&o->standing, can_move, origin_now(o)));
}

struct parent *origin_parent(const struct origin *o) {
  return o->target.parent;
}

void origin_absolute(const struct origin *o, char out[ORIGIN_ABSOLUTE_SIZE]) {
  const struct dial_target *t = &o->target;
  struct url u = {.host = str_of(t->host), .port = t->port, .ipv6 = strchr(t->host, ':') != NULL};
  memcpy(out, "http://", 7);
  url_host_field(&u, out + 7);
}

struct origins *origin_owner(const struct origin *o) {
  return o->origins;
}
struct buf *origins_head_buffer(struct origins *o) {
  return &o->head;
}

/* --- connections --- */

static void origins_maybe_closed(struct origins *o) {
  if (o->closed == NULL) return;
  for (struct link *l = o->all.next; l != &o->all; l = l->next)
    if (CONTAINER_OF(l, struct origin, link)->connections > 0) return;
  assert(list_empty(&o->all)); /* every reference must have been given back */
  void (*closed)(void *) = o->closed;
  void *arg = o->closed_arg;
  buf_fini(&o->head);
  free(o);
  closed(arg);
}

static void on_conn_closed(struct stream *s) {
  struct origin_conn *c = s->owner;
  struct origin *o = c->origin;
  struct origins *all = o->origins;
  timeout_fini(&c->idle);
  o->connections--;
  if (c->session != NULL) all->h2->free(c);
  connect_free(c);
  free(c);
  origin_maybe_free(o);
  origins_maybe_closed(all);
}

void origin_conn_shut(struct origin_conn *c) {
  assert(c->state == ORIGIN_CLOSED);
  stream_close(&c->stream, on_conn_closed);
}

static void settle(struct origin_conn *c) {
  if (!c->unsettled) return;
  c->unsettled = false;
  c->origin->nunsettled--;
}

void origin_conn_close(struct origin_conn *c) {
  assert(c->state != ORIGIN_CLOSED);
  c->state = ORIGIN_CLOSED;
  timeout_fini(&c->idle);
  if (c->h2) c->origin->origins->counts.h2--;
  list_remove(&c->all);
  settle(c);
  if (c->session != NULL)
    c->origin->origins->h2->close(c);
  else
    origin_conn_shut(c);
}

static void idle_remove(struct origin_conn *c) {
  assert(c->origin->nidle > 0);
  list_remove(&c->link);
  c->origin->nidle--;
  c->origin->origins->counts.idle--;
}

static void idle_close(struct origin_conn *c) {
  idle_remove(c);
  origin_conn_close(c);
}

static void on_idle_read(struct stream *s, ssize_t n, const uint8_t *data) {
  (void)n, (void)data;
  idle_close(s->owner);
}
static void on_idle_due(struct timeout *t) {
  struct origin_conn *c = CONTAINER_OF(t, struct origin_conn, idle);
  struct origin *o = origin_ref(c->origin);
  idle_close(c);
  origin_dial_for_waiting(o); /* who waited for it to say how many places it has */
  origin_unref(o);
}

struct origin_conn *origin_conn_new(struct origin *o) {
  struct origin_conn *c = must_calloc(1, sizeof *c);
  c->origin = o;
  c->places = 1;
  list_init(&c->link);
  list_init(&c->all);
  timeout_init(&c->idle, o->origins->wheel, on_idle_due);
  o->connections++;
  return c;
}

void origin_conn_unmake(struct origin_conn *c) { /* its stream was never opened */
  timeout_fini(&c->idle);
  c->origin->connections--;
  free(c);
}

/* Its certificates or authorities have been read again since: what is connected with the old ones serves no new request. */
static bool outdated(const struct origin_conn *c) {
  const struct tls_client *client = c->origin->target.client;
  return client != NULL && c->fingerprint != tls_client_fingerprint(client);
}

/* Milliseconds that it may still live, at least 1; 0: it is too old. */
static uint64_t life_left(const struct origin_conn *c, uint64_t age_ms) {
  if (age_ms == 0) return UINT64_MAX;
  uint64_t age = origin_now(c->origin) - c->opened_at;
  uint64_t most = age_ms - age_ms / 10 * c->spread / UINT8_MAX;
  return age < most ? most - age : 0;
}

/* --- places --- */

static void leave_idle(struct origin_conn *c) {
  idle_remove(c);
  timeout_clear(&c->idle);
}

void origin_occupy(struct origin_conn *c, struct place *p) {
  if (c->state == ORIGIN_IDLE) leave_idle(c);
  if (c->taken++ == 0) c->origin->origins->counts.leased++;
  p->conn = c;
  if (c->taken >= c->places) {
    if (c->state == ORIGIN_SHARED) list_remove(&c->link);
    c->state = ORIGIN_FULL;
  } else if (c->state != ORIGIN_SHARED) {
    c->state = ORIGIN_SHARED;
    list_push(&c->origin->shared, &c->link);
  }
}

static void retire(struct origin_conn *c) {
  if (c->state == ORIGIN_SHARED) list_remove(&c->link);
  c->state = ORIGIN_RETIRING;
  settle(c);
}

void origin_conn_idle(struct origin_conn *c, uint64_t keep_ms, unsigned max_idle) {
  struct origin *o = c->origin;
  if (c->state == ORIGIN_SHARED) list_remove(&c->link);
  if (o->nidle >= max_idle) idle_close(CONTAINER_OF(o->idle.prev, struct origin_conn, link));
  c->state = ORIGIN_IDLE;
  list_push_front(&o->idle, &c->link);
  o->nidle++;
  o->origins->counts.idle++;
  if (c->session == NULL) { /* else that reads on: PING, SETTINGS, GOAWAY */
    c->user = NULL;
    c->stream.on_drain = NULL;
    stream_read_start(&c->stream, on_idle_read);
  }
  timeout_set(&c->idle, keep_ms);
}

void origin_got(struct place *p) {
  p->origin->down_until = 0;
  p->done(p, 0, NULL);
}

void place_give_back(struct place *p, const struct pool_terms *terms) {
  struct origin_conn *c = p->conn;
  p->conn = NULL;
  assert(c->taken > 0);
  if (--c->taken == 0) c->origin->origins->counts.leased--;
  uint64_t left = life_left(c, terms->age_ms);
  if (terms->keep_ms == 0 || terms->idle == 0 || left == 0 || outdated(c)) retire(c);
  if (c->state == ORIGIN_RETIRING) {
    struct origin *o = origin_ref(c->origin);
    if (c->taken == 0) origin_conn_close(c);
    origin_dial_for_waiting(o);
    origin_unref(o);
    return;
  }
  c->reused = true;
  if (c->taken == 0) {
    origin_conn_idle(c, terms->keep_ms < left ? terms->keep_ms : left, terms->idle);
  } else if (c->state == ORIGIN_FULL && c->taken < c->places) {
    c->state = ORIGIN_SHARED;
    list_push(&c->origin->shared, &c->link);
  }
  origin_serve_waiting(c);
}

void place_close(struct place *p) { place_give_back(p, &(struct pool_terms){0}); }

/* --- connections that lead where the name does not any more --- */

static bool leads_to(const struct origin_conn *c, const union address *v, unsigned n) {
  union address a = c->address;
  address_set_port(&a, 0);
  for (unsigned i = 0; i < n; i++)
    if (address_same(&a, &v[i])) return true;
  return false;
}

static void retire_lost(struct origin *o) {
  union address v[RESOLVE_MAX];
  const char *name = dial_name_of(&o->target);
  unsigned n = resolver_settled(o->target.resolver, name, v), lost = 0;
  for (struct link *l = o->open.next, *next; n > 0 && l != &o->open; l = next) {
    struct origin_conn *c = CONTAINER_OF(l, struct origin_conn, all);
    next = l->next;
    if (c->state == ORIGIN_RETIRING || leads_to(c, v, n)) continue;
    lost++;
    if (c->state == ORIGIN_IDLE)
      idle_close(c);
    else
      retire(c);
  }
  if (lost > 0) log_info("%s: the name has led to other addresses for a while, so connections retire: %u", name, lost);
}

static void on_sweep(struct timeout *t) {
  struct origins *all = CONTAINER_OF(t, struct origins, sweep);
  bool any = false;
  for (struct link *l = all->all.next; l != &all->all; l = l->next) {
    struct origin *o = CONTAINER_OF(l, struct origin, link);
    if (list_empty(&o->open) || o->target.unix_path != NULL) continue;
    retire_lost(o); /* closing is done later, so the list of origins stays as it is */
    any = true;
  }
  if (any) timeout_set(t, SWEEP_MS);
}

/* Whoever looks for connections of the origin, and whatever makes them end, finds it from here on. */
void origin_conn_opened(struct origin_conn *c) {
  struct origins *all = c->origin->origins;
  c->opened_at = uv_now(all->net->loop);
  c->spread = (uint8_t)rng_next(&all->rng);
  if (c->h2) all->counts.h2++;
  list_push(&c->origin->open, &c->all);
  if (c->h2) {
    c->unsettled = true;
    c->origin->nunsettled++;
    all->h2->open(c, all->wheel, all->laters);
  }
  if (all->sweep.due == 0 && all->closed == NULL) timeout_set(&all->sweep, SWEEP_MS);
}

/* --- a connection as the end of a tunnel: `user` is the pipe_end --- */

static struct stream *pipe_stream(const struct pipe_end *p) { return &((struct origin_conn *)p->carrier)->stream; }

static void on_pipe_read(struct stream *s, ssize_t n, const uint8_t *data) {
  struct pipe_end *p = ((struct origin_conn *)s->owner)->user;
  p->events->on_read(p, n, data);
}

static void on_pipe_drain(struct stream *s, int status) {
  struct pipe_end *p = ((struct origin_conn *)s->owner)->user;
  p->events->on_drain(p, status);
}

static void pipe_read(struct pipe_end *p, bool on) {
  if (on)
    stream_read_start(pipe_stream(p), on_pipe_read);
  else
    stream_read_stop(pipe_stream(p));
}

static int pipe_write(struct pipe_end *p, struct str bytes) {
  uv_buf_t b = uv_buf_of(bytes);
  return stream_write(pipe_stream(p), &b, 1, false);
}

static void pipe_shutdown(struct pipe_end *p) { stream_shutdown(pipe_stream(p)); }
static size_t pipe_queued(const struct pipe_end *p) { return stream_queued(pipe_stream(p)); }
static void pipe_close(struct pipe_end *p) {
  struct place whole = {.conn = p->carrier};
  place_close(&whole);
}

static const struct pipe_ops pipe_ops = {
    .read = pipe_read, .write = pipe_write, .shutdown = pipe_shutdown, .queued = pipe_queued, .close = pipe_close};

void origin_pipe(struct place *p, struct pipe_end *end) {
  struct origin_conn *c = p->conn;
  assert(c->places == 1); /* else a stream of it would be the end, and its protocol would make it */
  p->conn = NULL;
  *end = (struct pipe_end){.ops = &pipe_ops, .carrier = c};
  c->user = end;
  c->stream.on_drain = on_pipe_drain;
  stream_read_stop(&c->stream);
}

void place_early(struct place *p, struct buf *early) {
  *early = p->conn->early;
  buf_init(&p->conn->early);
}

/* --- what the protocol of a connection tells --- */

void origin_conn_failed(struct origin_conn *c) {
  struct origins *all = c->origin->origins;
  const struct dial_target *t = &c->origin->target;
  if (t->unix_path == NULL && t->parent == NULL) health_failed(&all->health, &c->address, uv_now(all->net->loop));
}

void origin_conn_places(struct origin_conn *c, unsigned n) {
  assert(n > 0);
  settle(c);
  c->places = c->origin->expected = n;
  if (c->state == ORIGIN_FULL && c->taken < n) {
    c->state = ORIGIN_SHARED;
    list_push(&c->origin->shared, &c->link);
  } else if (c->state == ORIGIN_SHARED && c->taken >= n) {
    list_remove(&c->link);
    c->state = ORIGIN_FULL;
  }
  origin_serve_waiting(c);
  origin_dial_for_waiting(c->origin);
}

void origin_conn_retire(struct origin_conn *c) {
  struct origin *o = origin_ref(c->origin);
  if (c->state == ORIGIN_IDLE) {
    idle_close(c);
  } else if (c->state != ORIGIN_RETIRING && c->state != ORIGIN_CLOSED) {
    retire(c);
    if (c->taken == 0) origin_conn_close(c);
  }
  origin_dial_for_waiting(o);
  origin_unref(o);
}

bool origin_conn_refused_h2(struct origin_conn *c) {
  if (c->origin->target.http2 == HTTP2_ONLY) return false;
  c->origin->h1_until = origin_now(c->origin) + H1_MS;
  return true;
}

/* --- callers --- */

/* It leads where the caller may go, by a protocol that will do. */
static bool fits(const struct origin_conn *c, struct place *p) {
  if (c->h1_asked && !p->h1_only) return false;
  if (c->session != NULL && (p->h1_only || !c->origin->origins->h2->ready(c))) return false;
  if (c->origin->target.parent != NULL) return c->relayed == dial_is_relayed(&c->origin->target, p->use);
  return p->allowed == NULL || p->allowed(p, &c->address);
}

/* One with a free place that this caller may have, or NULL: another policy, or an upstream, may have dialled those that it may not. Shared ones first,
 * so that idle ones grow old; of these the one used last. */
static struct origin_conn *free_for(struct origin *o, struct place *p) {
  for (struct link *l = o->shared.next, *next; l != &o->shared; l = next) {
    struct origin_conn *c = CONTAINER_OF(l, struct origin_conn, link);
    next = l->next;
    if (outdated(c))
      retire(c);
    else if (fits(c, p))
      return c;
  }
  for (struct link *l = o->idle.next, *next; l != &o->idle; l = next) {
    struct origin_conn *c = CONTAINER_OF(l, struct origin_conn, link);
    next = l->next;
    if (outdated(c)) {
      idle_close(c);
    } else if (fits(c, p)) {
      return c;
    }
  }
  return NULL;
}

void place_take(struct origin *o, struct place *p, uint64_t connect_ms, bool fresh) {
  p->origin = o;
  p->conn = NULL;
  p->dial = NULL;
  if (p->h1_only && o->target.http2 == HTTP2_ONLY) {
    p->done(p, ERR_UPGRADE, err_text(ERR_UPGRADE));
    return;
  }
  if (o->h1_until > 0 && o->h1_until > origin_now(o)) p->h1_only = true;
  struct origin_conn *c = fresh ? NULL : free_for(o, p);
  if (c != NULL) {
    o->origins->counts.reused++;
    origin_occupy(c, p);
    if (p->allowed == NULL) origin_spare_consider(c, connect_ms);
    origin_got(p);
  } else {
    origin_wait(p, connect_ms);
  }
}

/* --- all of a thread --- */

struct origins *origins_new(struct net *net, struct wheel *wheel, struct resolver *resolver, struct laters *laters,
                            const struct origin_protocol *h2) {
  struct origins *o = must_calloc(1, sizeof *o);
  o->net = net;
  o->wheel = wheel;
  o->resolver = resolver;
  o->laters = laters;
  o->h2 = h2;
  list_init(&o->all);
  timeout_init(&o->sweep, wheel, on_sweep);
  rng_seed(&o->rng, 0);
  buf_init(&o->head);
  o->head.sensitive = true;
  return o;
}

void origins_close(struct origins *o, void (*closed)(void *), void *arg) {
  for (struct link *l = o->all.next, *next; l != &o->all; l = next) {
    struct origin *origin = CONTAINER_OF(l, struct origin, link);
    next = l->next;
    while (!list_empty(&origin->idle)) idle_close(CONTAINER_OF(origin->idle.next, struct origin_conn, link));
    origin_spare_end(origin);
  }
  timeout_fini(&o->sweep);
  o->closed = closed;
  o->closed_arg = arg;
  origins_maybe_closed(o);
}

struct origins_counts origins_counts(const struct origins *o) {
  return o->counts;
}
