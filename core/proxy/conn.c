/* conn.c: see conn.h: accepting, the TLS handshake, who speaks, and the end.
 *
 * A connection is counted and listed from the moment it is accepted, and everything that it holds is given back in on_closed. What happens between is its
 * protocol's, which is chosen once: when the connection is open, by ALPN; without TLS, where both are spoken, by its first bytes (sniff.c).
 *
 * Handshakes are bounded in number (limits.handshakes) and in time. Places are taken by those who stall, not by those who hurry: when half of them are taken,
 * the others may keep us waiting for a short while only. What we keep them waiting is not counted. Evicting the oldest was considered instead: under
 * a real crowd nobody would finish. */
#include "proxy/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/must.h"
#include "net/tls.h"
#include "proxy/client.h"
#include "proxy/h1_message.h"
#include "proxy/h2_conn.h"
#include "proxy/listener.h"
#include "proxy/worker_state.h"

enum { CROWDED_MS = 2000 };

static const struct conn_protocol *const protocols[CONN_PROTOCOLS] = {
    [CONN_HTTP1] = &h1_protocol, [CONN_HTTP2] = &h2_protocol, [CONN_EITHER] = &sniff_protocol};
static const struct conn_protocol *protocol(const struct conn *c) { return protocols[c->speaks]; }

/* --- closing --- */

static void on_closed(struct stream *s) {
  struct conn *c = s->owner;
  timeout_fini(&c->timeout);
  protocol(c)->fini(c);
  if (c->counted) addresses_leave(c->worker->addresses, c->address);
  worker_conn_gone(c->worker, c);
  free(c);
}

static void close_with(struct conn *c, void (*how)(struct stream *, stream_closed_fn)) {
  if (c->phase == CONN_CLOSED) return;
  bool open = c->phase == CONN_OPEN;
  if (!open) c->worker->handshakes--;
  c->phase = CONN_CLOSED;
  conn_become_busy(c); /* not among those that make room any more */
  if (open) protocol(c)->lost(c);
  timeout_clear(&c->timeout);
  how(&c->stream, on_closed);
}
void conn_close(struct conn *c) { close_with(c, stream_close); }
void conn_reset(struct conn *c) { close_with(c, stream_reset); }

void conn_abandon(struct conn *c) {
  if (c->phase == CONN_OPEN && protocol(c)->looks_whole(c))
    conn_reset(c);
  else
    conn_close(c);
}

void conn_drain(struct conn *c) {
  if (c->phase == CONN_HANDSHAKE)
    conn_close(c);
  else if (c->phase == CONN_OPEN)
    protocol(c)->drain(c);
}

void conn_become_idle(struct conn *c) {
  list_remove(&c->link);
  list_push(&c->worker->idle, &c->link);
  listeners_want_room(c->worker);
}

void conn_become_busy(struct conn *c) {
  list_remove(&c->link);
  list_push(&c->worker->busy, &c->link);
}

enum { SHED_TRIES = 16 };

/* What has come since this turn of the loop began to wait is read in it. */
static bool is_silent(const struct conn *c) { return !stream_unread(&c->stream); }

struct conn *conn_to_shed(struct worker *w) {
  uint64_t patience = w->runtime->policy->timeouts.head;
  uint32_t now = (uint32_t)uv_now(&w->services.loop);
  unsigned tries = SHED_TRIES;
  for (struct link *l = w->idle.next; l != &w->idle && tries > 0; l = l->next, tries--) {
    struct conn *c = CONTAINER_OF(l, struct conn, link);
    if (is_silent(c)) return c;
  }
  for (struct link *l = w->fresh.next; l != &w->fresh && patience > 0 && tries > 0; l = l->next, tries--) {
    struct conn *c = CONTAINER_OF(l, struct conn, link);
    if (now - c->accepted < patience) break; /* and so is what comes behind it */
    if (is_silent(c)) return c;
  }
  return NULL;
}

/* --- opening --- */

static void open_conn(struct conn *c) {
  c->phase = CONN_OPEN;
  if (c->tls && stream_tls_is_h2(&c->stream)) c->speaks = CONN_HTTP2;
  protocol(c)->begin(c);
}

void conn_speaks(struct conn *c, enum conn_speaks who, struct str had, struct str bytes) {
  assert(c->speaks == CONN_EITHER && who != CONN_EITHER);
  c->speaks = (uint8_t)who;
  protocol(c)->begin(c);
  if (had.n > 0) protocol(c)->take(c, had);
  if (c->phase == CONN_OPEN) protocol(c)->take(c, bytes);
}

/* Whoever shows a certificate means to be let in and should be told of in the log; scanners show none. */
static void handshake_failed(struct conn *c, const char *reason) {
  struct tls_peer peer;
  bool shown = client_tls(c, &peer) && peer.shown;
  COUNT(c->worker, handshakes_failed, 1);
  if (shown || log_wants(LOG_DEBUG))
    log_line(shown ? LOG_INFO : LOG_DEBUG, "TLS handshake with %s failed: %s", client_address(c).p, reason);
}

static void on_handshake(struct stream *s, int status) {
  struct conn *c = s->owner;
  if (status == 0) {
    c->worker->handshakes--;
    open_conn(c);
    listeners_resume(c->worker);
    return;
  }
  handshake_failed(c, stream_reason(s));
  stream_tls_answer_text(s, h1_https_only(&c->worker->outs));
  conn_close(c);
}

static void on_handshake_due(struct conn *c) {
  uint64_t now = uv_now(&c->worker->services.loop), stalled = stream_tls_stalled(&c->stream),
           end = c->h1.limit.handshake_end;
  if (now >= end || stalled >= CROWDED_MS) {
    handshake_failed(c, "it took too long");
    conn_close(c);
    return;
  }
  uint64_t left = end - now, patience = CROWDED_MS - stalled;
  timeout_set(&c->timeout, left < patience ? left : patience);
}

static void on_due(struct timeout *t) {
  struct conn *c = CONTAINER_OF(t, struct conn, timeout);
  if (c->phase == CONN_HANDSHAKE)
    on_handshake_due(c);
  else
    protocol(c)->due(c);
}

static void begin_handshake(struct conn *c) {
  struct worker *w = c->worker;
  uint64_t limit = w->runtime->policy->timeouts.handshake;
  bool crowded = 2 * w->handshakes >= w->runtime->policy->limits.handshakes;
  c->phase = CONN_HANDSHAKE;
  w->handshakes++;
  c->h1.limit.handshake_end = limit > 0 ? uv_now(&w->services.loop) + limit : UINT64_MAX;
  timeout_set(&c->timeout, crowded && (limit == 0 || limit > CROWDED_MS) ? CROWDED_MS : limit);
}

/* Reset: a flood must leave no TIME-WAIT. */
static void turn_away(struct worker *w, int fd) {
  COUNT(w, over_address_limit, 1);
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1, .l_linger = 0}, sizeof(struct linger));
  close(fd);
}

bool conn_accept(struct worker *w, int fd, const union address *peer, const struct conn_settings *settings) {
  struct address_key address = {0};
  uint32_t limit = w->runtime->policy->limits.connections_per_address;
  bool counted = limit > 0 && address_key(peer, &address);
  if (counted && !addresses_enter(w->addresses, address, limit)) {
    turn_away(w, fd);
    return false;
  }
  struct conn *c = must_calloc(1, sizeof *c);
  stream_init_socket(&c->stream, &w->services.net, fd, peer->sa.sa_family == AF_UNIX);
  c->stream.owner = c;
  c->counted = counted;
  c->address = address;
  address_host(peer, c->peer);
  c->worker = w;
  c->tls = settings->tls != NULL;
  c->half_close = settings->half_close;
  c->speaks = settings->http2 && !c->tls ? CONN_EITHER : CONN_HTTP1; /* over TLS it is agreed on (ALPN) */
  h1_init(c);
  timeout_init(&c->timeout, &w->services.wheel, on_due);
  c->accepted = (uint32_t)uv_now(&w->services.loop);
  worker_conn_new(w, c);
  stream_nodelay(&c->stream);
  if (!c->tls) {
    open_conn(c);
    return true;
  }
  enum tls_alpn alpn = settings->http2 ? TLS_ALPN_H2_H1 : TLS_ALPN_H1;
  begin_handshake(c);
  if (stream_start_tls_server(&c->stream, settings->tls, alpn, on_handshake) != 0) conn_close(c);
  return true;
}

/* --- client.h --- */

struct str client_address(const struct conn *c) {
  return str_of(c->peer);
}
bool client_has_tls(const struct conn *c) { return c->tls; }
bool client_tls(const struct conn *c, struct tls_peer *out) { return stream_tls_peer(&c->stream, out); }
