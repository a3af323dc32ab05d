/* h2_call.h: a call over HTTP/2: what it remembers of its stream, as a part of struct call. */
#ifndef JETON_HTTP_H2_CALL_H
#define JETON_HTTP_H2_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/later.h"
#include "base/list.h"
#include "http/h2_fields.h"
#include "http/h2_session.h"

struct call;
struct call_ops;

/* What has become of the stream for the call. It leaves OPEN once in each try of the call, and h2_call.c alone writes it: what comes first holds. */
enum h2_call_state {
  H2_CALL_OPEN, /* more of the reply is to come, or waits for the owner in `stream` */
  /* All of the reply has come. Its end is told when the owner goes on, behind `rest`; what becomes of the stream does not matter any more. */
  H2_CALL_WHOLE,
  H2_CALL_RESET, /* before that it closed by the peer's RST_STREAM: see `code` */
  H2_CALL_LOST /* before that it closed by GOAWAY, by a fault that the library found, or with its connection: see `code` */
};
struct h2_call {
  struct h2_stream stream;
  struct h2_block block; /* of the reply, while it is read */
  struct link put_off;   /* of those whose heads are made behind the feed (h2_upstream.h) */
  struct later
      later; /* tells from the loop what a write has found: that the stream has closed, if it has; else that it has drained */
  struct buf rest; /* body that came before the stream ended, for an owner that is paused */
  bool *over;      /* set when the stream is left, while a loop of ours is on the stack */
  uint8_t state;   /* enum h2_call_state */
  uint8_t code;    /* enum h2_error, of RESET and LOST. REFUSED_STREAM: the peer has not processed the request */
  uint64_t taken;  /* stalls (net/stall.h), of the stream */
  unsigned quiet;
};
extern const struct call_ops h2_call_ops;     /* http/call_ops.h */
extern const struct h2_events h2_call_events; /* of a session whose streams are calls */

/* The place on c's connection is there. True: that is within a feed, which makes the head when it is over. */
bool h2_call_put_off(struct call *c);
/* That is now. `lost`: the connection has ended meanwhile. */
void h2_call_go_on(struct link *put_off, bool lost);

#endif
