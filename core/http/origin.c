/* origin.c: see origin.h. Owned by one loop's thread.
 *
 * An idle connection keeps reading: bytes or an end that nobody asked for close it at once, so that a connection taken from the pool
 * is one whose peer has been silent (RFC 9112 section 9.3, CVE-2026-48931), and leasing costs no system call.
 *
 * A connection is in one of three places: dialing (a lease points to it), leased (its user's), idle (in origin->idle).
 * It is freed in its stream's close callback only. An origin lives while somebody refers to it or it has connections. */
#include "http/origin.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

enum { FAIL_TIMEOUT_MS = 10 * 1000 };

struct health { /* one address that failed lately */
  union address address;
  uint64_t until; /* on uv_now's clock */
};
struct origin {
  struct link link;
  struct origins *origins;
  unsigned refs, connections;
  bool tls;
  uint16_t port;
  char *host, *unix_path;
  struct tls_client *client;
  struct link idle; /* origin_conn, used last first */
  unsigned nidle;
  unsigned turn; /* round robin */
  struct health failed[RESOLVE_MAX];
  uint64_t down_until; /* on uv_now's clock */
};
struct origins {
  struct net *net;
  struct wheel *wheel;
  struct resolver *resolver;
  struct link all;
  struct origins_counts counts;
  struct buf head;
  void (*closed)(void *);
  void *closed_arg;
};

static void lease_try(struct origin_lease *l);

/* --- life of an origin --- */

static bool same_settings(const struct origin *o, const struct origin_settings *s) {
  const char *path = s->unix_path != NULL ? s->unix_path : "";
  if (o->tls != s->tls || o->port != s->port || !str_eq(str_of(o->host), s->host) ||
      strcmp(o->unix_path != NULL ? o->unix_path : "", path) != 0)
    return false;
  return !o->tls || tls_client_fingerprint(o->client) == tls_client_fingerprint(s->client);
}

static char *dup_str(struct str s) {
  char *z = malloc(s.n + 1);
  if (z == NULL) abort();
  if (s.n > 0) memcpy(z, s.p, s.n);
  z[s.n] = '\0';
  return z;
}

static void origin_maybe_free(struct origin *o) {
  if (o->refs > 0 || o->connections > 0) return;
  list_remove(&o->link);
  if (o->client != NULL) tls_client_unref(o->client);
  free(o->host);
  free(o->unix_path);
  free(o);
}

struct origin *origin_get(struct origins *all, const struct origin_settings *s) {
  for (struct link *l = all->all.next; l != &all->all; l = l->next) {
    struct origin *o = CONTAINER_OF(l, struct origin, link);
    if (same_settings(o, s)) return origin_ref(o);
  }
  struct origin *o = calloc(1, sizeof *o);
  if (o == NULL) abort();
  o->origins = all;
  o->refs = 1;
  o->tls = s->tls;
  o->port = s->port;
  o->host = dup_str(s->host);
  o->unix_path = s->unix_path != NULL ? dup_str(str_of(s->unix_path)) : NULL;
  o->client = s->tls ? tls_client_ref(s->client) : NULL;
  list_init(&o->idle);
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

bool origin_down(const struct origin *o) { return o->down_until > uv_now(o->origins->net->loop); }
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
  free(c);
  origin_maybe_free(o);
  origins_maybe_closed(all);
}

static void conn_close(struct origin_conn *c) {
  timeout_fini(&c->idle);
  stream_close(&c->stream, on_conn_closed);
}

static void idle_remove(struct origin_conn *c) {
  assert(c->origin->nidle > 0);
  list_remove(&c->link);
  c->origin->nidle--;
  c->origin->origins->counts.idle--;
}

static void idle_close(struct origin_conn *c) {
  idle_remove(c);
  conn_close(c);
}

static void on_idle_read(struct stream *s, ssize_t n, const uint8_t *data) {
  (void)n, (void)data;
  idle_close(s->owner);
}
static void on_idle_due(struct timeout *t) { idle_close(CONTAINER_OF(t, struct origin_conn, idle)); }

static struct origin_conn *conn_new(struct origin *o) {
  struct origin_conn *c = calloc(1, sizeof *c);
  if (c == NULL) abort();
  c->origin = o;
  list_init(&c->link);
  timeout_init(&c->idle, o->origins->wheel, on_idle_due);
  o->connections++;
  return c;
}

static void conn_unmake(struct origin_conn *c) { /* its stream was never opened */
  timeout_fini(&c->idle);
  c->origin->connections--;
  free(c);
}

/* Its certificates or authorities have been read again since: what is connected with the old ones serves no new request. */
static bool outdated(const struct origin_conn *c) {
  return c->origin->tls && c->fingerprint != tls_client_fingerprint(c->origin->client);
}

void origin_release(struct origin_conn *c, uint64_t keep_ms, unsigned max_idle) {
  struct origin *o = c->origin;
  o->origins->counts.leased--;
  c->user = NULL;
  if (keep_ms == 0 || max_idle == 0 || stream_queued(&c->stream) > 0 || outdated(c)) {
    conn_close(c);
    return;
  }
  if (o->nidle >= max_idle) idle_close(CONTAINER_OF(o->idle.prev, struct origin_conn, link));
  c->reused = true;
  c->stream.on_drain = NULL;
  list_push_front(&o->idle, &c->link);
  o->nidle++;
  o->origins->counts.idle++;
  stream_read_start(&c->stream, on_idle_read);
  timeout_set(&c->idle, keep_ms);
}

void origin_discard(struct origin_conn *c) {
  c->origin->origins->counts.leased--;
  c->user = NULL;
  conn_close(c);
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
  uv_buf_t b = uv_buf_init((char *)(uintptr_t)bytes.p, (unsigned)bytes.n);
  return stream_write(pipe_stream(p), &b, 1, false);
}

static void pipe_shutdown(struct pipe_end *p) { stream_shutdown(pipe_stream(p)); }
static size_t pipe_queued(const struct pipe_end *p) { return stream_queued(pipe_stream(p)); }
static void pipe_close(struct pipe_end *p) { origin_discard(p->carrier); }

static const struct pipe_ops pipe_ops = {
    .read = pipe_read, .write = pipe_write, .shutdown = pipe_shutdown, .queued = pipe_queued, .close = pipe_close};

void origin_pipe(struct origin_conn *c, struct pipe_end *end) {
  *end = (struct pipe_end){.ops = &pipe_ops, .carrier = c};
  c->user = end;
  c->stream.on_drain = on_pipe_drain;
  stream_read_stop(&c->stream);
}

/* --- health of addresses --- */

static bool same_address(const union address *a, const union address *b) {
  return address_len(a) == address_len(b) && memcmp(a, b, address_len(a)) == 0;
}

static bool is_failed(const struct origin *o, const union address *a) {
  uint64_t now = uv_now(o->origins->net->loop);
  for (unsigned i = 0; i < RESOLVE_MAX; i++)
    if (o->failed[i].until > now && same_address(&o->failed[i].address, a)) return true;
  return false;
}

static void mark_failed(struct origin *o, const union address *a) {
  struct health *oldest = &o->failed[0];
  for (unsigned i = 0; i < RESOLVE_MAX; i++) {
    if (o->failed[i].until != 0 && same_address(&o->failed[i].address, a)) {
      oldest = &o->failed[i];
      break;
    }
    if (o->failed[i].until < oldest->until) oldest = &o->failed[i];
  }
  oldest->address = *a;
  oldest->until = uv_now(o->origins->net->loop) + FAIL_TIMEOUT_MS;
}

void origin_conn_failed(struct origin_conn *c) {
  if (c->origin->unix_path == NULL) mark_failed(c->origin, &c->address);
}

static const union address *pick(struct origin *o, const union address *v, unsigned n) {
  unsigned first = o->turn++;
  for (unsigned i = 0; i < n; i++) {
    const union address *a = &v[(first + i) % n];
    if (!is_failed(o, a)) return a;
  }
  return &v[first % n]; /* all failed lately: one has to be tried */
}

/* --- leases --- */

static void lease_end(struct origin_lease *l, struct origin_conn *c, int status, const char *reason) {
  timeout_fini(&l->timeout);
  l->dialing = NULL;
  if (status != ERR_FORBIDDEN) /* says nothing of the server */
    l->origin->down_until = c != NULL ? 0 : uv_now(l->origin->origins->net->loop) + FAIL_TIMEOUT_MS;
  l->done(l, c, status, reason);
}

static void lease_give(struct origin_lease *l, struct origin_conn *c) {
  c->origin->origins->counts.leased++;
  c->user = NULL;
  lease_end(l, c, 0, NULL);
}

static void dial(struct origin_lease *l, const union address *a);

/* The address did not work. Another one is tried while there is one that this lease has not. */
static void dial_failed(struct origin_lease *l, struct origin_conn *c, int status, const char *reason) {
  struct origin *o = l->origin;
  l->status = status;
  l->tried++;
  l->dialing = NULL;
  if (o->unix_path == NULL) mark_failed(o, &c->address);
  bool retry = o->unix_path == NULL && status != ERR_TLS;
  char text[256];
  snprintf(text, sizeof text, "%s", reason);
  conn_close(c);
  if (retry)
    lease_try(l);
  else
    lease_end(l, NULL, status, text);
}

/* 3.6 offers a saved session with that session's version of TLS alone, so a server that has another one since, or one of several behind an address,
 * refuses it. Not a byte of a request has been sent: the same address once more, with a full handshake. */
static void dial_in_full(struct origin_lease *l, struct origin_conn *c) {
  union address a = c->address;
  l->in_full = true;
  l->dialing = NULL;
  conn_close(c);
  dial(l, &a);
}

static void on_tls_open(struct stream *s, int status) {
  struct origin_conn *c = s->owner;
  struct origin_lease *l = c->user;
  if (status != 0 && !l->in_full && stream_tls_session_failed(s))
    dial_in_full(l, c);
  else if (status != 0)
    dial_failed(l, c, ERR_TLS, stream_reason(s));
  else
    lease_give(l, c);
}

static void on_open(struct stream *s, int status) {
  struct origin_conn *c = s->owner;
  struct origin_lease *l = c->user;
  if (status == 0 && c->origin->tls) {
    c->fingerprint = tls_client_fingerprint(c->origin->client);
    status = stream_start_tls_client(s, c->origin->client, c->origin->host, !l->in_full, on_tls_open);
    if (status == 0) return;
  }
  if (status != 0) {
    dial_failed(l, c, status, err_text(status));
    return;
  }
  stream_nodelay(s);
  lease_give(l, c);
}

static void dial(struct origin_lease *l, const union address *a) {
  struct origin *o = l->origin;
  struct origin_conn *c = conn_new(o);
  struct net *net = o->origins->net;
  int rc;
  if (a == NULL) {
    rc = stream_init_connect_unix(&c->stream, net, o->unix_path, on_open);
  } else {
    c->address = *a;
    rc = stream_init_connect(&c->stream, net, &a->sa, on_open);
  }
  o->origins->counts.dialed++;
  c->stream.owner = c;
  c->user = l;
  l->dialing = c;
  if (rc == 0) return;
  l->status = rc;
  l->tried++;
  l->dialing = NULL;
  if (a != NULL) mark_failed(o, a);
  conn_unmake(c);
  if (a != NULL)
    lease_try(l);
  else
    lease_end(l, NULL, rc, err_text(rc));
}

/* Those of v that may be connected, into out; how many. */
static unsigned only_allowed(struct origin_lease *l, const union address *v, unsigned n, union address *out) {
  unsigned kept = 0;
  for (unsigned i = 0; i < n && kept < RESOLVE_MAX; i++)
    if (l->allowed(l, &v[i])) out[kept++] = v[i];
  return kept;
}

static void on_resolved(struct resolve *r, int status, const union address *v, unsigned n) {
  struct origin_lease *l = CONTAINER_OF(r, struct origin_lease, resolve);
  union address kept[RESOLVE_MAX];
  l->resolving = false;
  if (status != 0 || n == 0) {
    lease_end(l, NULL, status != 0 ? status : UV_EAI_NONAME, err_text(status != 0 ? status : UV_EAI_NONAME));
    return;
  }
  if (l->allowed != NULL) {
    n = only_allowed(l, v, n, kept);
    v = kept;
    if (n == 0) {
      lease_end(l, NULL, ERR_FORBIDDEN, "the name leads to no address that the policy allows");
      return;
    }
  }
  if (l->tried >= n) { /* every address has been tried */
    lease_end(l, NULL, l->status, err_text(l->status));
    return;
  }
  dial(l, pick(l->origin, v, n));
}

static void lease_try(struct origin_lease *l) {
  if (l->origin->unix_path != NULL) {
    dial(l, NULL);
    return;
  }
  l->resolving = true;
  l->resolve.done = on_resolved;
  l->resolve.owner = l;
  resolver_lookup(l->origin->origins->resolver, &l->resolve, l->origin->host, l->origin->port);
}

static void lease_abandon(struct origin_lease *l) {
  if (l->resolving) resolver_cancel(&l->resolve);
  if (l->dialing != NULL) conn_close(l->dialing);
  l->resolving = false;
  l->dialing = NULL;
}

static void on_lease_due(struct timeout *t) {
  struct origin_lease *l = CONTAINER_OF(t, struct origin_lease, timeout);
  const char *reason = l->resolving ? "the name was not resolved in time" : "no connection in time";
  if (l->dialing != NULL && l->origin->unix_path == NULL) mark_failed(l->origin, &l->dialing->address);
  lease_abandon(l);
  lease_end(l, NULL, UV_ETIMEDOUT, reason);
}

/* The one used last that this lease may have, or NULL: another policy, or an upstream, may have dialled those that it may not. */
static struct origin_conn *idle_for(struct origin *o, struct origin_lease *l) {
  for (struct link *i = o->idle.next, *next; i != &o->idle; i = next) {
    struct origin_conn *c = CONTAINER_OF(i, struct origin_conn, link);
    next = i->next;
    if (outdated(c))
      idle_close(c);
    else if (l->allowed == NULL || l->allowed(l, &c->address))
      return c;
  }
  return NULL;
}

void origin_lease(struct origin *o, struct origin_lease *l, uint64_t connect_ms, bool fresh) {
  l->origin = o;
  l->dialing = NULL;
  l->tried = 0;
  l->in_full = false;
  l->status = 0;
  l->resolving = false;
  timeout_init(&l->timeout, o->origins->wheel, on_lease_due);
  struct origin_conn *c = fresh ? NULL : idle_for(o, l);
  if (c != NULL) {
    idle_remove(c);
    timeout_clear(&c->idle);
    o->origins->counts.reused++;
    lease_give(l, c);
    return;
  }
  timeout_set(&l->timeout, connect_ms);
  lease_try(l);
}

void origin_lease_cancel(struct origin_lease *l) {
  lease_abandon(l);
  timeout_fini(&l->timeout);
}

/* --- all of a thread --- */

struct origins *origins_new(struct net *net, struct wheel *wheel, struct resolver *resolver) {
  struct origins *o = calloc(1, sizeof *o);
  if (o == NULL) abort();
  o->net = net;
  o->wheel = wheel;
  o->resolver = resolver;
  list_init(&o->all);
  buf_init(&o->head);
  o->head.sensitive = true;
  return o;
}

void origins_close(struct origins *o, void (*closed)(void *), void *arg) {
  for (struct link *l = o->all.next; l != &o->all; l = l->next) {
    struct origin *origin = CONTAINER_OF(l, struct origin, link);
    while (!list_empty(&origin->idle)) idle_close(CONTAINER_OF(origin->idle.next, struct origin_conn, link));
  }
  o->closed = closed;
  o->closed_arg = arg;
  origins_maybe_closed(o);
}

struct origins_counts origins_counts(const struct origins *o) {
  return o->counts;
}
