/* dial.c: see dial.h.
 *
 * An attempt is an origin_conn in the dial's list, from `begin` until it has won, failed or been overtaken. At most DIAL_ATTEMPTS are under way: beyond that the oldest, which has been
 * silent longest, makes room, so that a name with many dead addresses costs a bounded number of sockets, and every address gets its try.
 *
 * Marks: an address that failed is poor for a short while, one that was begun before the winner and is still silent for a longer one (health.h). A dial that
 * is cancelled marks nothing, since nobody knows what would have come.
 *
 * Why a TLS failure does not end the dial: where one of several addresses has another's certificate, or a broken server, the others are as good as before, and each is
 * verified by itself. It is the failure that is reported, though, since it says most.
 *
 * Every function that may reach `finish` is the last thing that its caller does: the dial's memory may be gone. */
#include "http/dial.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "http/connect.h"

static void begin_next(struct dial *d);

static uint64_t now_of(const struct dial *d) { return uv_now(d->target->net->loop); }

/* --- ends --- */

static struct origin_conn *oldest(const struct dial *d) {
  return CONTAINER_OF(d->attempts.next, struct origin_conn, link);
}

static void leave(struct dial *d, struct origin_conn *c) {
  list_remove(&c->link);
  d->nattempts--;
}

/* What became of c tells something of its address: it was connected to a server, or a parent has not even accepted. */
static bool tells_of_address(const struct dial *d, const struct origin_conn *c) {
  return d->target->unix_path == NULL && (d->target->parent == NULL || !c->met);
}

static void give_up(struct dial *d, struct origin_conn *c, bool silent) {
  leave(d, c);
  if (silent && tells_of_address(d, c)) health_slow(d->target->health, &c->address, now_of(d));
  d->events->close(c);
}

static void stop(struct dial *d, bool silent) {
  timeout_fini(&d->next);
  if (d->name == DIAL_ASKED || d->name == DIAL_ASKED_AGAIN) resolver_cancel(&d->resolve);
  while (d->nattempts > 0) give_up(d, oldest(d), silent);
}

void dial_cancel(struct dial *d) { stop(d, false); }

const char *dial_time_out(struct dial *d) {
  const bool resolving = d->name == DIAL_ASKED, parent = d->target->parent != NULL;
  bool met = false;
  for (const struct link *l = d->attempts.next; l != &d->attempts; l = l->next)
    met = met || CONTAINER_OF(l, struct origin_conn, link)->met;
  stop(d, true);
  if (!parent) return resolving ? "the name was not resolved in time" : "no connection in time";
  return resolving ? "the parent proxy's name was not resolved in time"
         : met     ? "no connection through the parent proxy in time"
                   : "no connection to the parent proxy in time";
}

static void finish(struct dial *d, int status, const char *reason) {
  char text[sizeof d->reason]; /* the reason may live in the dial, which goes */
  snprintf(text, sizeof text, "%s", reason);
  stop(d, false);
  d->events->done(d, NULL, status, text);
}

static void win(struct dial *d, struct origin_conn *c) {
  while (oldest(d) != c) give_up(d, oldest(d), true);
  leave(d, c);
  stop(d, false);
  c->user = NULL;
  if (d->target->unix_path == NULL) health_good(d->target->health, &c->address);
  d->events->done(d, c, 0, NULL);
}

/* --- an attempt --- */

/* They say more of what is wrong than that an address does not answer. */
static bool tells_most(int status) { return status == ERR_TLS || status == ERR_PROXY; }

static void note_failure(struct dial *d, const struct origin_conn *c, int status, const char *reason) {
  if (tells_of_address(d, c)) health_failed(d->target->health, &c->address, now_of(d));
  if (tells_most(d->status) && !tells_most(status)) return;
  d->status = status;
  snprintf(d->reason, sizeof d->reason, "%s", reason);
}

static void failed(struct dial *d, struct origin_conn *c, int status, const char *reason) {
  note_failure(d, c, status, reason);
  give_up(d, c, false);
  begin_next(d);
}

/* Whose failure it is, where it is not the server's. */
static const char *whose(const struct dial *d, int status, char text[256]) {
  const struct parent *p = d->target->parent;
  if (p == NULL) return err_text(status);
  (void)snprintf(text, 256, "proxy %.150s: %s", parent_where(p), err_text(status));
  return text;
}

static bool begin(struct dial *d, const union address *a, unsigned how, unsigned hows);

/* The handshake has failed, and another one may do better (tls.h): the same address once more, since not a byte of a request has been sent. Each way is tried
 * once. False: there is no other. */
static bool again_otherwise(struct dial *d, const struct origin_conn *c) {
  unsigned how = stream_tls_other_how(&c->stream);
  if ((c->hows & 1U << how) != 0) return false;
  if (begin(d, d->target->unix_path == NULL ? &c->address : NULL, how, c->hows)) timeout_set(&d->next, DIAL_NEXT_MS);
  return true;
}

static void on_tls_open(struct stream *s, int status) {
  struct origin_conn *c = s->owner;
  struct dial *d = c->user;
  if (status == 0) {
    d->target->how = c->how & (TLS_CAPPED | TLS_NO_H2);
    c->h2 = stream_tls_is_h2(s);
    win(d, c);
  } else if (again_otherwise(d, c)) {
    give_up(d, c, false);
    if (d->nattempts == 0) begin_next(d); /* it could not be begun */
  } else {
    failed(d, c, ERR_TLS, stream_reason(s));
  }
}

static enum tls_alpn alpn(const struct dial *d) {
  if (d->h1_only || d->target->http2 == HTTP2_OFF) return TLS_ALPN_H1;
  return d->target->http2 == HTTP2_ONLY ? TLS_ALPN_H2 : TLS_ALPN_H2_H1;
}

/* Bytes go both ways between us and the server, or a parent that reads them: TLS, if there is any, or that is all. */
static void reached(struct dial *d, struct origin_conn *c) {
  const struct dial_target *t = d->target;
  if (t->client == NULL) {
    c->h2 = t->http2 == HTTP2_ONLY;
    win(d, c);
    return;
  }
  c->fingerprint = tls_client_fingerprint(t->client);
  c->hows |= 1U << c->how;
  int status = stream_start_tls_client(&c->stream, t->client, t->host, c->how, alpn(d), on_tls_open);
  if (status == 0)
    timeout_set(&d->next, DIAL_TLS_MS);
  else
    failed(d, c, status, err_text(status));
}

/* Else it has to be asked first, and what has come is of the parent's making. */
static bool server_may_speak_first(const struct dial *d) {
  return d->use == PLACE_RAW || (d->target->client == NULL && d->target->http2 == HTTP2_ONLY);
}

static void on_tunnel(struct origin_conn *c, int status, const char *reason) {
  struct dial *d = c->user;
  char text[256];
  if (status == 0 && c->early.n > 0 && !server_may_speak_first(d)) {
    status = ERR_PROXY;
    (void)snprintf(text, sizeof text,
                   "proxy %.150s: bytes behind its answer to CONNECT, where the server has no word yet",
                   parent_where(d->target->parent));
    reason = text;
  }
  if (status == 0)
    reached(d, c);
  else
    failed(d, c, status, reason);
}

static void ask_parent(struct dial *d, struct origin_conn *c) {
  const struct dial_target *t = d->target;
  char why[256];
  int status = connect_start(c, t->parent, t->host, t->port, on_tunnel, why, sizeof why);
  if (status == 0)
    timeout_set(&d->next, DIAL_PARENT_MS);
  else
    failed(d, c, status, why);
}

static void on_open(struct stream *s, int status) {
  struct origin_conn *c = s->owner;
  struct dial *d = c->user;
  const struct dial_target *t = d->target;
  char text[256];
  if (status != 0) {
    failed(d, c, status, whose(d, status, text));
    return;
  }
  c->met = true;
  stream_keepalive(s, &t->keepalive);
  stream_nodelay(s); /* over TLS too: a request must not wait for the ACK of the one before it on its connection */
  if (t->parent != NULL && !c->relayed)
    ask_parent(d, c);
  else
    reached(d, c);
}

/* a NULL: the Unix socket. how, hows: of its handshake, and of those before at this address. False: it failed at once. */
static bool begin(struct dial *d, const union address *a, unsigned how, unsigned hows) {
  const struct dial_target *t = d->target;
  struct origin_conn *c = d->events->make(d);
  c->how = how;
  c->hows = hows;
  c->relayed = dial_is_relayed(t, d->use);
  if (a != NULL) c->address = *a;
  int rc = a == NULL ? stream_init_connect_unix(&c->stream, t->net, t->unix_path, on_open)
                     : stream_init_connect(&c->stream, t->net, &c->address.sa, on_open);
  if (rc != 0) {
    char text[256];
    note_failure(d, c, rc, whose(d, rc, text));
    d->events->unmake(c);
    return false;
  }
  c->stream.owner = c;
  c->user = d;
  list_push(&d->attempts, &c->link);
  d->nattempts++;
  return true;
}

/* --- the addresses --- */

static bool has_been_tried(const struct dial *d, const union address *a) {
  for (unsigned i = 0; i < d->n; i++)
    if (address_same(&d->v[i], a)) return true;
  return false;
}

/* Behind those that are there: what of v is new and allowed. */
static void add_addresses(struct dial *d, const union address *v, unsigned n) {
  unsigned before = d->n;
  for (unsigned i = 0; i < n && d->n < RESOLVE_MAX; i++) {
    if (has_been_tried(d, &v[i])) continue;
    if (d->events->allowed(d, &v[i])) d->v[d->n++] = v[i];
  }
  health_order(d->target->health, &d->v[before], d->n - before, d->target->turn++, now_of(d));
}

static void on_asked_again(struct resolve *r, int status, const union address *v, unsigned n) {
  struct dial *d = CONTAINER_OF(r, struct dial, resolve);
  d->name = DIAL_FINAL;
  if (status == 0) add_addresses(d, v, n);
  begin_next(d);
}

static void look_up(struct dial *d) {
  const struct dial_target *t = d->target;
  resolver_lookup(t->resolver, &d->resolve, dial_name_of(t), t->parent != NULL ? parent_port(t->parent) : t->port);
}

static void ask_again(struct dial *d) {
  d->name = DIAL_ASKED_AGAIN;
  d->resolve.done = on_asked_again;
  d->resolve.beyond = d->resolve.number;
  look_up(d);
}

static void begin_next(struct dial *d) {
  timeout_clear(&d->next);
  while (d->at < d->n) {
    if (d->nattempts == DIAL_ATTEMPTS) give_up(d, oldest(d), true);
    if (!begin(d, &d->v[d->at++], TLS_RESUME | d->target->how, 0)) continue;
    timeout_set(&d->next, DIAL_NEXT_MS);
    return;
  }
  if (d->name == DIAL_KNOWN)
    ask_again(d);
  else if (d->name == DIAL_FINAL && d->nattempts == 0)
    finish(d, d->status, d->reason);
}

static void on_next(struct timeout *t) { begin_next(CONTAINER_OF(t, struct dial, next)); }

static void on_resolved(struct resolve *r, int status, const union address *v, unsigned n) {
  struct dial *d = CONTAINER_OF(r, struct dial, resolve);
  d->name = status == 0 && r->number != 0 ? DIAL_KNOWN : DIAL_FINAL;
  if (status != 0) {
    char text[256];
    finish(d, status, whose(d, status, text));
    return;
  }
  add_addresses(d, v, n);
  if (d->n == 0)
    finish(d, ERR_FORBIDDEN, "the name leads to no address that the policy allows");
  else
    begin_next(d);
}

void dial_start(struct dial *d, struct dial_target *t, bool h1_only, enum place_use use, const struct dial_events *e) {
  *d = (struct dial){
      .target = t, .events = e, .h1_only = h1_only, .use = use, .name = t->unix_path != NULL ? DIAL_FINAL : DIAL_ASKED};
  list_init(&d->attempts);
  timeout_init(&d->next, t->wheel, on_next);
  if (t->unix_path != NULL) {
    if (!begin(d, NULL, TLS_RESUME | t->how, 0)) begin_next(d);
    return;
  }
  d->resolve.done = on_resolved;
  look_up(d);
}
