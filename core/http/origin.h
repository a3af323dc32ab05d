/* origin.h: this thread's connections to one server (scheme, host, port, TLS settings): the idle pool, its addresses and their health.
 *
 * Belongs to the thread, not to a policy: a reload keeps every connection. An origin nobody refers to and that has no connection is dropped.
 * Addresses are taken round robin; one that failed to connect is passed over for FAIL_TIMEOUT_MS while another is left. */
#ifndef JETON_HTTP_ORIGIN_H
#define JETON_HTTP_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/str.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/pipe.h"
#include "net/resolver.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/url.h"

struct origins; /* one a thread */
struct origin;

struct origins *origins_new(struct net *net, struct wheel *wheel, struct resolver *resolver);
void origins_close(struct origins *o, void (*closed)(void *),
                   void *arg); /* closes every idle connection; frees when all are closed */

struct origin_settings {
  bool tls;
  struct str host; /* name or literal, or with unix_path set what stands in Host */
  uint16_t port;
  const char *unix_path;     /* NULL: TCP */
  struct tls_client *client; /* when tls */
};
/* Finds or makes; a new reference. */
struct origin *origin_get(struct origins *o, const struct origin_settings *s);
struct origin *origin_ref(struct origin *o);
void origin_unref(struct origin *o);
/* The last connection attempt failed on every address, less than FAIL_TIMEOUT_MS ago: another server is the better choice. */
bool origin_down(const struct origin *o);

/* A connection to an origin. While it is leased its user owns on_read and on_drain of the stream. */
struct origin_conn {
  struct stream stream; /* stream.owner is the origin_conn */
  struct link link;     /* idle list, or the leased list */
  struct origin *origin;
  struct timeout idle;
  void *user;            /* the lease's */
  union address address; /* what it is connected to */
  uint64_t fingerprint;  /* of the TLS settings and files that it was made with */
  bool reused;           /* has served a request before: a failure before any byte of the reply may be staleness */
};

struct origin_lease { /* a request for a connection, embedded in who wants one */
  struct link link;
  struct origin *origin;
  /* conn non-NULL: leased. Else status tells: UV_ECONNREFUSED, UV_ETIMEDOUT, ERR_TLS, … and reason is a sentence. May be called before
   * origin_lease returns (a pooled connection). */
  void (*done)(struct origin_lease *l, struct origin_conn *c, int status, const char *reason);
  struct origin_conn *dialing;
  struct resolve resolve;
  struct timeout timeout;
  unsigned tried; /* addresses that failed for this lease */
  int status;     /* of the last failure */
  bool resolving;
  bool in_full; /* no saved session is offered any more */
  /* NULL: any address. Else asked of each address that the name has now, and of the one that a pooled connection has; the others are passed
   * over. When none is left, the lease ends with ERR_FORBIDDEN. */
  bool (*allowed)(struct origin_lease *l, const union address *a);
};
/* fresh: no pooled connection (the retry after a stale one). connect_ms: limit for DNS, connect and handshake together. */
void origin_lease(struct origin *o, struct origin_lease *l, uint64_t connect_ms, bool fresh);
void origin_lease_cancel(struct origin_lease *l); /* done is not called */
/* Gives back a connection whose message ended cleanly (keep_ms 0, or the pool is full: closed). */
void origin_release(struct origin_conn *c, uint64_t keep_ms, unsigned max_idle);
void origin_discard(struct origin_conn *c); /* closes it */
/* A leased connection becomes one end of a tunnel: it is the pipe's from here on, and goes with the pipe's close. Reading has stopped. */
void origin_pipe(struct origin_conn *c, struct pipe_end *end);
/* Passive marking: the peer of this connection failed without a valid reply; others are taken first for a while. */
void origin_conn_failed(struct origin_conn *c);

struct origins_counts {
  unsigned idle, leased;
  uint64_t dialed, reused;
};
struct origins_counts origins_counts(const struct origins *o);
struct origins *origin_owner(const struct origin *o);
/* A sensitive buffer that every head of this thread is written in, one at a time. */
struct buf *origins_head_buffer(struct origins *o);

#endif
