/* dial.h: from a server's name to one open connection: its addresses, who of them is tried when, TLS.
 *
 * Happy Eyeballs (RFC 8305). The addresses are tried in the order of health.h. The next one is begun when the one before has failed, or has said nothing for
 * DIAL_NEXT_MS (an address that has accepted gets DIAL_TLS_MS for its handshake); the first that is open, TLS included, is the dial's, and the others are closed. When every
 * address has been tried without success the name is asked anew, once, and what is new in the answer is tried, too: a server may have moved since.
 *
 * With a parent proxy (parent.h) the addresses are the parent's, whom no `allowed` judges: the server's name is the parent's to resolve. An attempt is open when the parent has made its tunnel and TLS
 * in it is up; or, for a request that the parent may read (PLACE_OPEN), when the parent has accepted.
 *
 * A dial has no limit of its own: its owner ends it by dial_time_out. Everything happens on the thread of the target. */
#ifndef JETON_HTTP_DIAL_H
#define JETON_HTTP_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/wheel.h"
#include "http/health.h"
#include "http/message.h"
#include "http/origin_conn.h"
#include "http/parent.h"
#include "net/keepalive.h"
#include "net/resolver.h"
#include "net/tls.h"

enum {
  DIAL_NEXT_MS = 250,
  DIAL_TLS_MS = 1000,
  DIAL_PARENT_MS = 3000, /* of a parent that has accepted: it resolves the server's name, and connects */
  DIAL_ATTEMPTS = 6      /* of one dial, under way at once */
};

struct dial_target { /* outlives its dials; immutable, but for what is below */
  struct net *net;
  struct wheel *wheel;
  struct resolver *resolver;
  struct health *health;
  char *host; /* name or literal, or with unix_path set what stands in Host */
  uint16_t port;
  char *unix_path;           /* NULL: TCP */
  struct parent *parent;     /* NULL: the server itself is connected */
  struct tls_client *client; /* NULL: plain */
  struct keepalive keepalive;
  enum http2_mode http2;
  unsigned turn; /* round robin */
  unsigned how;  /* of enum tls_how: TLS_CAPPED and TLS_NO_H2 if its server had to be dialled so the last time */
};

struct dial;
struct dial_events {
  /* Memory for one more attempt. The dial sets stream, address, fingerprint, h2 and user. */
  struct origin_conn *(*make)(struct dial *d);
  /* An attempt whose stream was never opened; and one that has a stream, which is to be closed. */
  void (*unmake)(struct origin_conn *c);
  void (*close)(struct origin_conn *c);
  /* May this address be connected? Asked of each one once. */
  bool (*allowed)(struct dial *d, const union address *a);
  /* The last event. status 0: c is open, and the owner's. Else there is none: UV_ECONNREFUSED, ERR_TLS, the name's failure, …, or ERR_FORBIDDEN when `allowed` left no address;
   * reason is a sentence, valid during the call. Maybe before dial_start returns. The dial's memory may go from inside. */
  void (*done)(struct dial *d, struct origin_conn *c, int status, const char *reason);
};
enum dial_name {                   /* what is known of the name's addresses */
                 DIAL_ASKED,       /* nothing yet */
                 DIAL_KNOWN,       /* an answer is there */
                 DIAL_ASKED_AGAIN, /* all of them have been tried: is there a newer answer? */
                 DIAL_FINAL        /* there will be no other */
};
struct dial { /* embedded; dial.c's */
  struct dial_target *target;
  const struct dial_events *events;
  bool h1_only; /* HTTP/1.1, whatever the target's http2 says */
  enum place_use use;
  enum dial_name name;
  struct resolve resolve;
  struct link attempts; /* struct origin_conn, first begun first */
  unsigned nattempts;
  struct timeout next;          /* then another address is begun */
  union address v[RESOLVE_MAX]; /* those before `at` have been begun */
  unsigned n, at;
  int status; /* of the failure that tells most so far; 0: none */
  char reason[256];
};

/* h1_only: not with a target of HTTP2_ONLY. */
void dial_start(struct dial *d, struct dial_target *t, bool h1_only, enum place_use use, const struct dial_events *e);
/* The name whose addresses are connected. */
static inline const char *dial_name_of(const struct dial_target *t) {
  return t->parent != NULL ? parent_host(t->parent) : t->host;
}
/* A parent reads the heads of what is sent on connections for such a use: the server is named in them. */
static inline bool dial_is_relayed(const struct dial_target *t, enum place_use use) {
  return use == PLACE_OPEN && t->parent != NULL && t->client == NULL && t->http2 == HTTP2_OFF;
}
void dial_cancel(struct dial *d); /* ends it without an event */
/* As dial_cancel, since it took too long: the addresses that were silent are remembered. Returns what it waited for, as a sentence. */
const char *dial_time_out(struct dial *d);

#endif
