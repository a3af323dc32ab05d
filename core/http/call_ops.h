/* call_ops.h: what a call asks of the protocol that its connection speaks, and what that protocol tells the call.
 *
 * The call (call.c) keeps what every protocol needs: the place on a connection that it waits for or has, the phase, the limits of time, the one retry of a
 * stale connection, and that the owner hears each event in its order. The protocol (h1_call.c) keeps how a message stands on the wire. A second
 * protocol is a second table here and a member of struct call for what it remembers; no owner of a call sees which one it is.
 *
 * Order: send_head once the place is there; then send, end, pass_on, pause, resume, queued, stalled, secrets_wait and raw in any order; then cancel or
 * take_over, or the protocol's own call_ended, after which none is called. call_failed comes back as cancel. Only resume may tell events before it returns: the others answer from the loop.
 * Everything happens on the thread of the call. */
#ifndef JETON_HTTP_CALL_OPS_H
#define JETON_HTTP_CALL_OPS_H

#include <assert.h>

#include "http/call.h"

#define CALL_TOKEN_ENDED "the upstream did not take the request before a token in it ended"

struct call_ops {
  /* Asks make_head, sends the head and what there is of the body, and begins to read the reply. On an error nothing was sent, and the place is as good as before;
   * UV_EAGAIN: but for the connection, which takes no more: another one will do. */
  int (*send_head)(struct call *c);
  /* More of the body, n > 0 bytes, framed so that the peer can take them now; and the body's end, before body_done is set. Not after call_broke. */
  void (*send)(struct call *c, struct str span);
  void (*end)(struct call *c, const struct headers *trailers);
  /* The owner takes no more of the reply: stop reading. Reading goes on; what came in between is told first, from inside. */
  void (*pause)(struct call *c);
  void (*resume)(struct call *c);
  size_t (*queued)(const struct call *c); /* bytes of the request that the peer has not taken */
  /* Has the peer taken nothing for the whole limit? Asked each stall_step of it; `first`: the limit begins. */
  bool (*stalled)(struct call *c, bool first);
  /* Of what call_secrets_wait said that it waits: does some of it still? */
  bool (*secrets_wait)(const struct call *c);
  /* Nothing has come of the peer, ever: it may be its address that is at fault. */
  bool (*unheard)(const struct call *c);
  struct stream *(*raw)(const struct call *c);        /* see call_raw; NULL where bytes need framing */
  void (*pass_on)(struct call *c, struct stream *to); /* see call_pass_on; may do nothing */
  void (*cancel)(struct call *c);                     /* gives up both messages, what was kept of them, and the place */
  void (*take_over)(struct call *c, struct pipe_end *end, struct buf *rest); /* see call_take_over */
};

/* --- what the protocol tells --- */

/* The peer takes no more of the request; it may have answered all the same. */
void call_broke(struct call *c);
/* Behind a head that was sent: some bytes of secrets, or what lies in front of them, have not left, and their tokens' first end is then (clock_boot_ms; 0: they
 * have none). A peer that has not taken them by then does not get them: the call fails. */
void call_secrets_wait(struct call *c, int64_t end);
/* What was queued has gone, or (status < 0) the peer takes no more. */
void call_drained(struct call *c, int status);

/* Receiving. Between call_feed_begin and call_feed_end the protocol tells what one read brought; *gone becomes true when the call ends in between. */
static inline void call_feed_begin(struct call *c, bool *gone) {
  assert(!c->feeding);
  *gone = false;
  c->gone = gone;
  c->feeding = true;
}
/* `whole`: spans that were told end here (on_flush). False when the call is over. */
static inline bool call_feed_end(struct call *c, const bool *gone, bool whole) {
  c->feeding = false;
  if (whole && c->events->on_flush != NULL) c->events->on_flush(c);
  if (*gone) return false;
  c->gone = NULL;
  return true;
}
static inline void call_heard(struct call *c) { /* bytes of the reply have come */
  if (!c->got_bytes) c->got_bytes = true;
  if (c->phase == CALL_BODY) timeout_set(&c->timeout, c->response_ms);
}
/* Within a feed. A 1xx but 101 is in c->response; false: the call is over. */
bool call_told_interim(struct call *c);
/* The final head is, or a 101, behind which nothing is read. The call may be over behind either: see *gone. */
void call_told_head(struct call *c);
void call_told_switch(struct call *c);
/* The reply is complete. Ends the call and its place; its connection may idle for keep_ms, 0: not at all. */
void call_ended(struct call *c, uint64_t keep_ms);
/* The connection has ended. True: a fresh one is tried, and there is nothing more to do; else the protocol says how the call failed. */
bool call_retry(struct call *c);
/* The peer has said that it did not look at the request. True: it is sent again (RFC 9113 section 8.7), whatever its method is. */
bool call_refused(struct call *c);
/* The same, since it wants HTTP/1.1. */
bool call_refused_h2(struct call *c);
/* The place that was given is not what it was: take another. Before the head. */
void call_take_another(struct call *c);
/* Goes on with the place that a call was given, when the protocol has put it off. */
void call_begin(struct call *c);
/* Ends the call, by way of `cancel` while it has a place. */
void call_failed(struct call *c, int status, const char *reason);

#endif
