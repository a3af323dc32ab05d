/* origin.h: this thread's connections to one server (scheme, host, port, TLS settings): the pool, its addresses and their health.
 *
 * A caller does not get a connection but a *place* on one: the right to have one request at a time under way there. A connection of HTTP/1.1 has one
 * place; one that carries many streams has as many as its peer allows, and callers share it. A place is asked for by place_take, told by `done`, and
 * ends by exactly one of place_give_back, place_close and origin_pipe.
 *
 * A caller who finds no free place has a connection dialled for it, or waits for one that is being dialled already: for each origin it is known how many
 * places the last dial brought (`expected`), so as many may wait for a dial as it is likely to serve besides the one that it was begun for. With HTTP/1.1 that is nobody:
 * every caller dials. Where places are many, one more connection is dialled for nobody when most of them are taken (origin_spare.c).
 *
 * Whom connections go through (parent.h) is a part of what makes an origin, so one that was made through one parent, or as one user, serves nobody else.
 *
 * Belongs to the thread, not to a policy: a reload keeps every connection. An origin nobody refers to and that has no connection is dropped.
 *
 * No connection is kept for ever. One retires, which means that it closes with its last place, when it is as old as the policy allows (pool_terms), and when the
 * name has settled on other addresses than its own (resolver_settled): while there are connections, the name is looked up every RESOLVE_FRESH_MS. */
#ifndef JETON_HTTP_ORIGIN_H
#define JETON_HTTP_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/str.h"
#include "base/wheel.h"
#include "http/message.h"
#include "http/origin_conn.h"
#include "http/parent.h"
#include "http/standing.h"
#include "net/address.h"
#include "net/keepalive.h"
#include "net/pipe.h"
#include "net/resolver.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/url.h"

struct origins; /* one a thread */
struct origin;

/* laters, h2: for connections that speak HTTP/2. Both NULL: no origin's settings say so. */
struct origins *origins_new(struct net *net, struct wheel *wheel, struct resolver *resolver, struct laters *laters,
                            const struct origin_protocol *h2);
/* Closes what is idle, and ends dials that nobody waits for. When the last connection has closed, by which time nobody refers to an origin any more, it frees all and calls `closed`. */
void origins_close(struct origins *o, void (*closed)(void *), void *arg);

struct origin_settings {
  bool tls;
  struct str host; /* name or literal, or with unix_path set what stands in Host */
  uint16_t port;
  const char *unix_path;     /* NULL: TCP */
  struct parent *parent;     /* whom connections go through; NULL: nobody. Not with unix_path. A reference is taken */
  struct tls_client *client; /* when tls */
  struct keepalive keepalive;
  enum http2_mode http2; /* with `tls` alone: HTTP2_AUTO */
};
/* Finds or makes; a new reference. */
struct origin *origin_get(struct origins *o, const struct origin_settings *s);
struct origin *origin_ref(struct origin *o);
void origin_unref(struct origin *o);
/* The last connection attempt failed on every address, less than ORIGIN_DOWN_MS ago: another server is the better choice. */
bool origin_down(const struct origin *o);
/* What requests tell (standing.h), for whoever has several servers to choose from. */
enum standing_news origin_failed(struct origin *o, bool behind_head);
enum standing_news origin_served(struct origin *o, bool whole);
/* It is neither down nor out. And the same, or it is this request's turn to find out whether it still is. */
bool origin_serves(const struct origin *o);
bool origin_may_serve(struct origin *o, bool can_move);
enum { ORIGIN_DOWN_MS = 10 * 1000 };

/* How long a connection may be kept, and how many idle ones. */
struct pool_terms {
  uint64_t keep_ms; /* idle; 0: not at all */
  uint64_t age_ms;  /* since it was opened, less up to a tenth, so that not all go at once; 0: any */
  unsigned idle;    /* of this origin, on this thread */
};

struct dialing;
struct place { /* embedded in who wants one */
  /* set by the caller before place_take */
  /* status 0: `conn` is there, and the place is the caller's. Else there is none: UV_ECONNREFUSED, UV_ETIMEDOUT, ERR_TLS, …, and reason is a sentence, valid during
   * the call. Called once, unless place_cancel comes first; maybe before place_take returns. The place's memory may go from inside. */
  void (*done)(struct place *p, int status, const char *reason);
  /* NULL: any address. With a parent, whose own addresses nobody judges, it is not asked. Else asked of each address that the name has now, and of that of a connection which is there; the others are passed over. When none is
   * left, `done` gets ERR_FORBIDDEN. Who judges waits for nobody else's dial. */
  bool (*allowed)(struct place *p, const union address *a);
  /* Only a connection of HTTP/1.1 will do (Upgrade). Where HTTP2_ONLY holds, `done` gets ERR_UPGRADE. Who says so waits for nobody else's dial. */
  bool h1_only;
  enum place_use use;
  /* the origin's */
  struct origin_conn *conn; /* NULL: not there yet, or not any more. May be read. */
  struct origin *origin;
  struct dialing *dial; /* begun for it, while it waits */
  struct link link;     /* among those who wait for another's dial */
  struct timeout timeout;
};
/* fresh: on a connection that has served nothing before (the retry after a stale one). connect_ms: limit for DNS, connect and handshake together. */
void place_take(struct origin *o, struct place *p, uint64_t connect_ms, bool fresh);
void place_cancel(struct place *p); /* while it waits: `done` is not called any more */
/* The message ended cleanly, and the connection may serve another on these terms. Who waits for a place may get this one before this returns. */
void place_give_back(struct place *p, const struct pool_terms *terms);
/* It may not: it gives no new place, and closes with this place or, if others are taken, with the last. */
void place_close(struct place *p);
/* With HTTP/1.1: the connection becomes one end of a tunnel, and goes with the pipe's close. The place is the caller's no more; reading has stopped. */
void origin_pipe(struct place *p, struct pipe_end *end);

/* Behind `done` of a PLACE_RAW: what the server has said already, to be passed on before the pipe is read. The caller's to buf_fini. */
void place_early(struct place *p, struct buf *early);

/* Through whom it is reached, or NULL. Borrowed from the origin. */
struct parent *origin_parent(const struct origin *o);
/* "http://example.com:8080": what stands before the path of a request on a connection that a parent reads (origin_conn.relayed). */
enum { ORIGIN_ABSOLUTE_SIZE = 7 + URL_HOST_SIZE };
void origin_absolute(const struct origin *o, char out[ORIGIN_ABSOLUTE_SIZE]);

struct origins_counts {
  unsigned idle, leased; /* connections: without and with a place taken */
  unsigned h2;           /* of both, those that speak HTTP/2 */
  uint64_t dialed, reused;
};
struct origins_counts origins_counts(const struct origins *o);
struct origins *origin_owner(const struct origin *o);
/* A sensitive buffer that every head of this thread is written in, one at a time. */
struct buf *origins_head_buffer(struct origins *o);

#endif
