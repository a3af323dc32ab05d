/* origin_conn.h: a connection to an origin: made by a dial (dial.h), kept and shared out by its origin (origin.h). */
#ifndef JETON_HTTP_ORIGIN_CONN_H
#define JETON_HTTP_ORIGIN_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/stream.h"

struct connecting;  /* http/connect.h */
struct h2_upstream; /* http/h2_upstream.h */
struct laters;
struct origin;

/* What a caller wants a place for; where there is no parent proxy, all are one. */
enum place_use {
  PLACE_SECRET, /* in a tunnel through the parent: what it carries is not the parent's to read */
  PLACE_OPEN,   /* over plain http the parent may be given the request as it is */
  PLACE_RAW     /* a tunnel of bytes, whose server may speak first: place_early */
};

enum origin_conn_state {
  ORIGIN_DIALING,  /* not open yet; a dial's */
  ORIGIN_IDLE,     /* no place is taken: in the origin's pool until its time is up */
  ORIGIN_SHARED,   /* some places are taken and some are free; never with HTTP/1.1 */
  ORIGIN_FULL,     /* all places are taken */
  ORIGIN_RETIRING, /* gives no new place, and closes when the last one is given back */
  ORIGIN_CLOSED    /* its stream's close callback is all that will come */
};

/* Who speaks on it owns the stream's on_read and on_drain: with HTTP/1.1 the one who has the place, and `user` with them; with HTTP/2 the session, all the time. Before, `user` is the
 * dial. */
struct origin_conn {
  struct stream stream; /* stream.owner is the origin_conn */
  struct link link;     /* the dial's list of attempts, then the origin's of idle or of shared ones */
  struct link all;      /* the origin's list of open ones */
  struct origin *origin;
  struct timeout idle;
  void *user;
  struct connecting *connecting; /* to a parent, while it is asked for a tunnel; NULL: it is not, or no more */
  struct buf early;              /* what the server said right behind the parent's answer, and nobody has read */
  struct h2_upstream *session;   /* of HTTP/2, from the dial's end to the stream's; NULL: it speaks HTTP/1.1 */
  enum origin_conn_state state;
  unsigned places, taken;
  union address address; /* what it is connected to */
  uint64_t fingerprint;  /* of the TLS settings and files that it was made with */
  unsigned how, hows;    /* of its handshake (enum tls_how); 1 << how of each that was tried at this address */
  uint64_t opened_at;    /* on uv_now's clock */
  uint8_t spread;        /* by which part of a tenth it grows less old than the policy allows */
  bool met;              /* its address has accepted: what fails from then on may be another's fault, behind a parent */
  bool relayed;          /* a parent reads its heads (dial_is_relayed) */
  bool h2;               /* it speaks HTTP/2; else HTTP/1.1 */
  bool unsettled;        /* it does, and has not said yet how many places there are */
  bool h1_asked;         /* it speaks HTTP/1.1 since that was asked for, while others may get HTTP/2: not for those */
  bool reused;           /* has served a request before: a failure before any byte of the reply may be staleness */
};

/* --- what speaks HTTP/2 on it: h2_upstream_protocol, which origins_new is given --- */

struct origin_protocol {
  /* A dial has brought it. Makes c->session. Until the peer has said more it has one place. */
  void (*open)(struct origin_conn *c, struct wheel *w, struct laters *l);
  /* May a new caller be given a place, or is it doubtful whether anybody is there? */
  bool (*ready)(const struct origin_conn *c);
  /* No place is taken, and none will be: says so to the peer, and calls origin_conn_shut: at once, or when it is done with what it is at. */
  void (*close)(struct origin_conn *c);
  void (*free)(struct origin_conn *c); /* the session: nothing of it is on any stack, or in any list, by now */
};

/* What it tells the origin, which may call close before these return, or give places to those who wait. */

/* As many places from now on (n > 0), in `open` or later. */
void origin_conn_places(struct origin_conn *c, unsigned n);
/* No new place: it closes with its last one. Fine when it is retiring. */
void origin_conn_retire(struct origin_conn *c);
/* Its server wants HTTP/1.1, so where HTTP2_AUTO holds new connections speak that for a while. False: HTTP2_ONLY holds. */
bool origin_conn_refused_h2(struct origin_conn *c);
/* Its peer failed without a valid reply: other addresses of the server are tried first for a while. */
void origin_conn_failed(struct origin_conn *c);
/* Closes the stream: the end of `close`. */
void origin_conn_shut(struct origin_conn *c);

#endif
