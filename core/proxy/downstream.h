/* downstream.h: the way from an exchange to its client, whichever protocol the client speaks.
 *
 * An exchange tells its client through one table of functions, and is told through exchange_begin, _start, _refuse, _body, _body_end, _body_passed,
 * _drained and _abort (exchange.h). The connection of HTTP/1 (h1_conn.c, h1_reply.c) is one implementation; a stream of HTTP/2 is the next.
 *
 * Order: interim replies; head; then body, passed and flush any number of times; then end. Instead of what is left of it, at any time, reset or (after the
 * head) take_over. After end, reset, take_over or exchange_abort nothing, and `exchange` is NULL. Whatever the client does before that changes nothing: an
 * exchange may say all of it to a client whose end it has not been told yet, and nothing comes of it.
 *
 * No function here calls exchange_* from inside. That a client has gone, or that body it has sent waits to be taken, is told from the loop; that it has gone
 * once, by exchange_abort. So the exchange's steps never nest, and no step has to look whether its exchange is still there.
 *
 * How the reply ended stands in `ended` before the exchange is over, for its line in the log: `sent` is then what really went.
 *
 * Ownership: whoever makes the exchange embeds the downstream, and keeps it for the rest of the callback in which it ended. Worker's thread. */
#ifndef JETON_PROXY_DOWNSTREAM_H
#define JETON_PROXY_DOWNSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "http/message.h"

struct conn;
struct downstream;
struct exchange;
struct pipe_end;
struct stream;

/* What of a reply's head does not depend on the protocol. Valid during the call of `head`. */
struct reply {
  int status;
  struct str reason;             /* .p NULL, or not fit: the standard phrase, where the protocol has one */
  const struct headers *headers; /* hop-by-hop fields, framing and secrets in it are passed over */
  struct framing
      framing;   /* FRAMING_NONE, FRAMING_LENGTH, or FRAMING_CHUNKED for a body whose length is not known yet */
  bool no_body;  /* HEAD, 204, 304 and the like: the framing tells what a GET would have got (RFC 9110 section 8.6) */
  bool trailers; /* fields come behind the body, where the client can be given any */
  bool tunnel;   /* 101, or 2xx to a CONNECT: take_over follows */
  struct str upgrade; /* of 101 and 426: what Upgrade names (HTTP/1 only) */
};

/* A reply's end, as its client has it. */
enum reply_ended {
  REPLY_WHOLE,  /* or it has not ended */
  REPLY_CUT,    /* from here: the upstream broke off, a time limit, the end of the program */
  REPLY_ABORTED /* by the client, which has left, or takes nothing any more */
};

struct downstream_ops {
  /* 100 (headers NULL): only if the client waits for it, and once. 103: where the client can understand it. Leaves at once. */
  void (*interim)(struct downstream *d, int status, const struct headers *headers);
  /* Waits for flush, take_back, or end. */
  void (*head)(struct downstream *d, const struct reply *r);
  /* True: no byte of the reply has left, and what waited is forgotten: another head may be said. False: it is too late. */
  bool (*take_back)(struct downstream *d);
  /* Stays where it is until the next flush or end, which has to come before this turn of the loop is over. */
  void (*body)(struct downstream *d, struct str span);
  /* n bytes of the body went to raw's stream by themselves. */
  void (*passed)(struct downstream *d, size_t n);
  /* What has been said goes out now, or into the client's queue. */
  void (*flush)(struct downstream *d);
  /* The reply is complete; flushes. */
  void (*end)(struct downstream *d, const struct headers *trailers);
  /* It is not, and the client must see that. */
  void (*reset)(struct downstream *d);
  /* The exchange may want body again (exchange_wants_body): it is offered from the loop. */
  void (*want)(struct downstream *d);
  /* Where the rest of the body may be spliced to as it is, if nothing waits for flush; NULL: nowhere. */
  struct stream *(*raw)(struct downstream *d);
  /* Bytes that the client has not taken yet. */
  size_t (*queued)(const struct downstream *d);
  /* After the head of a tunnel, flushed: its bytes are `end`'s from here on, and those that have come already are moved to *rest, which is then the caller's.
   * False: the client has gone, and nothing of it has happened. */
  bool (*take_over)(struct downstream *d, struct pipe_end *end, struct buf *rest);
};
struct downstream {
  const struct downstream_ops *ops;
  struct exchange *exchange; /* from exchange_begin to the end of the exchange; NULL: none */
  struct conn *conn;         /* the connection that it comes by: for what is known of the client (conn.h); never NULL */
  /* of the present exchange, kept until the next one begins */
  uint64_t sent;          /* bytes of its reply that have left */
  enum reply_ended ended; /* written by the protocol alone */
};

#endif
