/* origin_conn.h: a connection to an origin: made by a dial (dial.h), kept and shared out by its origin (origin.h). */
#ifndef JETON_HTTP_ORIGIN_CONN_H
#define JETON_HTTP_ORIGIN_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/stream.h"

struct origin;

enum origin_conn_state {
  ORIGIN_DIALING,  /* not open yet; a dial's */
  ORIGIN_IDLE,     /* no place is taken: in the origin's pool until its time is up */
  ORIGIN_SHARED,   /* some places are taken and some are free; never with HTTP/1.1 */
  ORIGIN_FULL,     /* all places are taken */
  ORIGIN_RETIRING, /* gives no new place, and closes when the last one is given back */
  ORIGIN_CLOSED    /* its stream's close callback is all that will come */
};

/* While a place is taken, who speaks on it owns `user` and the stream's on_read and on_drain: with HTTP/1.1 the one who has the place. Before, `user` is the dial. */
struct origin_conn {
  struct stream stream; /* stream.owner is the origin_conn */
  struct link link;     /* the dial's list of attempts, then the origin's of idle or of shared ones */
  struct link all;      /* the origin's list of open ones */
  struct origin *origin;
  struct timeout idle;
  void *user;
  enum origin_conn_state state;
  unsigned places, taken;
  union address address; /* what it is connected to */
  uint64_t fingerprint;  /* of the TLS settings and files that it was made with */
  unsigned how, hows;    /* of its handshake (enum tls_how); 1 << how of each that was tried at this address */
  uint64_t opened_at;    /* on uv_now's clock */
  uint8_t spread;        /* by which part of a tenth it grows less old than the policy allows */
  bool h2;               /* it speaks HTTP/2; else HTTP/1.1 */
  bool reused;           /* has served a request before: a failure before any byte of the reply may be staleness */
};

#endif
