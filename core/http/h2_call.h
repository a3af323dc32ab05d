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
struct h2_call {
  struct h2_stream stream;
  struct h2_block block; /* of the reply, while it is read */
  struct link put_off;   /* of those whose heads are made behind the feed (h2_upstream.h) */
  struct later later;    /* what a write has said of the stream is told from the loop */
  struct buf rest;       /* body that came before the connection ended, for an owner that is paused */
  bool *over;            /* set when the stream is left, while a loop of ours is on the stack */
  bool whole;            /* all of the reply has come; it is told when the owner goes on */
  bool drained, closed;  /* to be told by `later` */
  bool by_peer, processed;
  uint8_t code;   /* enum h2_error: how it closed */
  uint64_t taken; /* stalls (net/stall.h), of the stream */
  unsigned quiet;
};
extern const struct call_ops h2_call_ops;     /* http/call_ops.h */
extern const struct h2_events h2_call_events; /* of a session whose streams are calls */

/* The place on c's connection is there. True: that is within a feed, which makes the head when it is over. */
bool h2_call_put_off(struct call *c);
/* That is now. `lost`: the connection has ended meanwhile. */
void h2_call_go_on(struct link *put_off, bool lost);
/* The connection has ended. What of the reply its owner has not taken is kept for it. */
void h2_call_rescue(struct h2_stream *st);

#endif
