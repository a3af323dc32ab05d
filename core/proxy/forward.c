/* forward.c: see forward.h.
 *
 * A target goes the way of any request, by an upstream that is made for it: one URL, an origin of the thread's pool. What differs is who may be
 * reached. The name is looked up in the policy's list before a hook sees the request. What the name leads to is looked at when a place is taken, each address
 * by itself, at the moment before it is connected, and again when a pooled connection is taken: a name whose answer changes in between, or that
 * gives a public address beside a private one, brings nobody inside (DNS rebinding). An address that stands in the list itself was meant.
 *
 * With a parent proxy the name is the parent's to resolve, and nothing is judged but the list.
 *
 * A CONNECT has no head to send and no token to carry: its connection is always a new one, and becomes a tunnel. A client that is refused loses its
 * connection, since what it may have sent ahead is not HTTP to us. Owned by the worker's thread. */
#include "proxy/forward.h"

#include <assert.h>

#include "base/err.h"
#include "base/log.h"
#include "http/forwarded.h"
#include "proxy/steps.h"
#include "proxy/tunnel.h"
#include "proxy/worker_state.h"
#include "token/audience.h"

struct forward_target { /* in the exchange's arena */
  struct exchange *ex;
  struct url url; /* scheme, host and port */
  bool literal;   /* the host is an address */
  struct str credentials;
  struct upstream upstream; /* stands for it */
  struct place place;       /* CONNECT: until the tunnel has it */
  bool waiting;             /* for it */
};

/* --- the target --- */

static enum verdict refuse(struct exchange *ex, int status, int code, const char *told) {
  ex->failure.told = told;
  return exchange_fail(ex, status, code, told);
}

static struct str lower_case(struct arena *a, struct str s) {
  char *out = arena_alloc(a, s.n + 1);
  for (size_t i = 0; i < s.n; i++) out[i] = char_lower(s.p[i]);
  out[s.n] = '\0';
  return (struct str){out, s.n};
}

/* The parser has judged the authority's form. One spelling of the name makes one pool. */
static void read_target(struct forward_target *t, const struct request *r) {
  struct url *u = &t->url;
  bool split = host_split(r->authority, &u->host, &u->port);
  assert(split);
  (void)split;
  u->host = lower_case(&t->ex->arena, u->host);
  u->tls = !r->is_connect && r->https;
  u->port_given = u->port != 0;
  if (!u->port_given) u->port = u->tls ? 443 : 80;
  u->ipv6 = r->authority.p[0] == '[';
  u->path = STR("");
  struct address_range itself;
  t->literal = range_parse(u->host, &itself) == RANGE_FINE;
}

static struct forward_target *target_new(struct exchange *ex) {
  struct forward_target *t = arena_alloc(&ex->arena, sizeof *t);
  *t = (struct forward_target){.ex = ex};
  read_target(t, &ex->request);
  const struct header *h = headers_find_id(&ex->request.headers, H_PROXY_AUTHORIZATION);
  if (h != NULL) t->credentials = h->value;
  return t;
}

bool forward_meant(const struct exchange *ex) {
  const struct request *r = &ex->request;
  const struct policy *p = ex->runtime->policy;
  struct str host;
  uint16_t port;
  if (r->is_connect || r->absolute_form) return true;
  if (r->version != HTTP_2 || p->forward == NULL || p->forward->hosts == NULL) return false;
  if (!p->has_default) return true;
  if (!host_split(r->authority, &host, &port)) return false;
  return audience_allows(p->forward->hosts, r->https, lower_case(ex->request.headers.arena, host),
                         port != 0  ? port
                         : r->https ? 443
                                    : 80);
}

enum verdict forward_admit(struct exchange *ex) {
  const struct forward_conf *f = ex->runtime->policy->forward;
  bool connect = ex->request.is_connect;
  if (!connect)
    headers_set(&ex->request.headers, STR("Host"), ex->request.authority); /* the only one that hooks shall see */
  if (connect && (f == NULL || f->connect == NULL))
    return refuse(ex, 405, ERR_FORBIDDEN, "CONNECT is not served here: the policy allows it nowhere");
  if (f == NULL) return NEXT;
  struct forward_target *t = target_new(ex);
  const struct audience *list = connect ? f->connect : f->hosts;
  if (list == NULL || !audience_allows(list, connect || t->url.tls, t->url.host, t->url.port))
    return refuse(ex, 403, ERR_FORBIDDEN, "the policy does not forward to this host and port");
  ex->forward = t;
  return NEXT;
}

void forward_keep_credentials(struct exchange *ex) {
  if (ex->forward->credentials.p != NULL)
    headers_add(&ex->request.headers, STR("Proxy-Authorization"), ex->forward->credentials);
}

enum verdict forward_refuse_origin_form(struct exchange *ex) {
  return refuse(ex, 400, ERR_PROTOCOL, "this is a forward proxy: the request's target must be an absolute URL");
}

void forward_sign(struct exchange *ex, struct response *r) {
  if (ex->runtime->policy->via) via_add(&r->headers, &ex->arena, r->version);
}

void forward_tell_forbidden(struct exchange *ex) {
  ex->failure.told = "the host leads to no address that the policy forwards to";
}

const struct url *forward_url(const struct forward_target *t) { return &t->url; }

/* --- its addresses --- */

static bool may_connect(const struct forward_target *t, const union address *a) {
  const struct forward_conf *f = t->ex->runtime->policy->forward;
  if (t->literal || !address_is_private(a)) return true;
  for (size_t i = 0; i < f->nallows; i++)
    if (range_holds(&f->allows[i], a)) return true;
  return false;
}

static bool call_allowed(struct call *c, const union address *a) {
  const struct exchange *ex = c->owner;
  return may_connect(ex->forward, a);
}

static bool connect_allowed(struct place *p, const union address *a) {
  return may_connect(CONTAINER_OF(p, struct forward_target, place), a);
}

/* --- its connection --- */

static void unref_origin(void *o) { origin_unref(o); }

static struct origin *target_origin(struct forward_target *t, const struct upstream_conf *conf) {
  struct exchange *ex = t->ex;
  const bool encrypted = t->url.tls || ex->request.is_connect; /* what goes through CONNECT most often is */
  struct origin_settings s = {.tls = t->url.tls,
                              .host = t->url.host,
                              .port = t->url.port,
                              .parent = parents_for(conf->parents, encrypted, t->url.host, t->url.port),
                              .client = t->url.tls ? conf->tls : NULL,
                              .keepalive = conf->tcp_keepalive,
                              .http2 = t->ex->request.is_connect ? HTTP2_OFF : http2_for(conf->http2, t->url.tls)};
  struct origin *o = origin_get(ex->worker->services.origins, &s);
  arena_defer(&ex->arena, unref_origin, o);
  return o;
}

static void on_place(struct place *p, int status, const char *reason) {
  struct forward_target *t = CONTAINER_OF(p, struct forward_target, place);
  struct exchange *ex = t->ex;
  t->waiting = false;
  if (status == 0) {
    exchange_resume(ex, STEP_TUNNEL);
    return;
  }
  COUNT(ex->worker, upstream_errors, 1);
  log_warn("CONNECT %.*s: %s", STR_FMT(ex->request.authority), reason);
  if (status == ERR_FORBIDDEN) forward_tell_forbidden(ex);
  exchange_fail_now(ex, status == UV_ETIMEDOUT ? 504 : status == ERR_FORBIDDEN ? 403 : 502, status, reason);
}

enum verdict forward_route(struct exchange *ex) {
  struct forward_target *t = ex->forward;
  t->upstream.conf = &ex->runtime->policy->forward->conf;
  ex->upstream = &t->upstream;
  ex->url = &t->url;
  ex->host_field = ex->request.authority; /* RFC 9112 section 3.2.2 */
  ex->origin = target_origin(t, t->upstream.conf);
  ex->call.allowed = call_allowed;
  if (!ex->request.is_connect) return NEXT;
  t->place.done = on_place;
  t->place.allowed = connect_allowed;
  t->place.use = PLACE_RAW;
  t->waiting = true;
  ex->asked = ex->upstream;
  place_take(ex->origin, &t->place, t->upstream.conf->timeouts.connect, true);
  return WAIT;
}

void forward_cancel(struct forward_target *t) {
  if (t->waiting) place_cancel(&t->place);
  t->waiting = false;
  if (t->place.conn != NULL) place_close(&t->place);
}

void forward_take_over(struct forward_target *t, struct pipe_end *end, struct buf *early) {
  place_early(&t->place, early);
  origin_pipe(&t->place, end);
}

enum verdict step_tunnel(struct exchange *ex) {
  if (tunnel_begin_connect(ex)) return TUNNELLED;
  forward_cancel(ex->forward);
  return exchange_fail(ex, 502, UV_ECONNRESET, "the client left before its tunnel was there");
}
