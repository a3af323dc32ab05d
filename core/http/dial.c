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

static void give_up(struct dial *d, struct origin_conn *c, bool silent) {
  leave(d, c);
  if (silent && d->target->unix_path == NULL) health_slow(d->target->health, &c->address, now_of(d));
  d->events->close(c);
}

static void stop(struct dial *d, bool silent) {
  timeout_fini(&d->next);
  if (d->name == DIAL_ASKED || d->name == DIAL_ASKED_AGAIN) resolver_cancel(&d->resolve);
  while (d->nattempts > 0) give_up(d, oldest(d), silent);
}

void dial_cancel(struct dial *d) { stop(d, false); }

const char *dial_time_out(struct dial *d) {
  bool resolving = d->name == DIAL_ASKED;
  stop(d, true);
  return resolving ? "the name was not resolved in time" : "no connection in time";
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

static void note_failure(struct dial *d, const union address *a, int status, const char *reason) {
  if (d->target->unix_path == NULL) health_failed(d->target->health, a, now_of(d));
  if (d->status == ERR_TLS && status != ERR_TLS) return;
  d->status = status;
  snprintf(d->reason, sizeof d->reason, "%s", reason);
}

static void failed(struct dial *d, struct origin_conn *c, int status, const char *reason) {
  note_failure(d, &c->address, status, reason);
  give_up(d, c, false);
  begin_next(d);
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

static void on_open(struct stream *s, int status) {
  struct origin_conn *c = s->owner;
  struct dial *d = c->user;
  const struct dial_target *t = d->target;
  if (status == 0) stream_keepalive(s, &t->keepalive);
  if (status == 0)
    stream_nodelay(s); /* over TLS too: a request must not wait for the ACK of the one before it on its connection */
  if (status == 0 && t->client != NULL) {
    c->fingerprint = tls_client_fingerprint(t->client);
    c->hows |= 1U << c->how;
    status = stream_start_tls_client(s, t->client, t->host, c->how, alpn(d), on_tls_open);
    if (status == 0) {
      timeout_set(&d->next, DIAL_TLS_MS);
      return;
    }
  }
  if (status != 0) {
    failed(d, c, status, err_text(status));
    return;
  }
  c->h2 = t->http2 == HTTP2_ONLY;
  win(d, c);
}

/* a NULL: the Unix socket. how, hows: of its handshake, and of those before at this address. False: it failed at once. */
static bool begin(struct dial *d, const union address *a, unsigned how, unsigned hows) {
  const struct dial_target *t = d->target;
  struct origin_conn *c = d->events->make(d);
  c->how = how;
  c->hows = hows;
  if (a != NULL) c->address = *a;
  int rc = a == NULL ? stream_init_connect_unix(&c->stream, t->net, t->unix_path, on_open)
                     : stream_init_connect(&c->stream, t->net, &c->address.sa, on_open);
  if (rc != 0) {
    note_failure(d, &c->address, rc, err_text(rc));
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

static void ask_again(struct dial *d) {
  d->name = DIAL_ASKED_AGAIN;
  d->resolve.done = on_asked_again;
  d->resolve.beyond = d->resolve.number;
  resolver_lookup(d->target->resolver, &d->resolve, d->target->host, d->target->port);
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
    finish(d, status, err_text(status));
    return;
  }
  add_addresses(d, v, n);
  if (d->n == 0)
    finish(d, ERR_FORBIDDEN, "the name leads to no address that the policy allows");
  else
    begin_next(d);
}

void dial_start(struct dial *d, struct dial_target *t, bool h1_only, const struct dial_events *e) {
  *d = (struct dial){
      .target = t, .events = e, .h1_only = h1_only, .name = t->unix_path != NULL ? DIAL_FINAL : DIAL_ASKED};
  list_init(&d->attempts);
  timeout_init(&d->next, t->wheel, on_next);
  if (t->unix_path != NULL) {
    if (!begin(d, NULL, TLS_RESUME | t->how, 0)) begin_next(d);
    return;
  }
  d->resolve.done = on_resolved;
  resolver_lookup(t->resolver, &d->resolve, t->host, t->port);
}
