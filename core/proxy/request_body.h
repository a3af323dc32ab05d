/* request_body.h: the body of an exchange's request: read, gathered for a script, replaced by one, kept for a replay, on its way to the upstream.
 *
 * One value says where its bytes are. It goes from HELD to KEPT or GONE when a try has begun to send, back from KEPT to HELD before another try, to
 * REPLACED until the reply, and to DROPPED or REFUSED for good. Embedded in the exchange; the worker's thread. */
#ifndef JETON_PROXY_REQUEST_BODY_H
#define JETON_PROXY_REQUEST_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "lua/vm.h"

struct exchange;
struct headers;
struct secret;
struct secret_context;

enum body_place {
  BODY_HELD,     /* what has come waits in `bytes`: up to limits.replay_buffer of it is taken from the client */
  BODY_GATHERED, /* the same, up to limits.script_body: a script has asked for all of it */
  BODY_REPLACED, /* `bytes` is a script's text; what the client sends is read and thrown away */
  BODY_KEPT,     /* goes to the upstream as it comes, and what has come is in `bytes`: it may be sent again */
  BODY_GONE,     /* goes to the upstream as it comes, without a copy */
  BODY_DROPPED,  /* read and thrown away: the reply is made here, and does not depend on it */
  BODY_REFUSED   /* it cannot be read any further */
};

/* Expect: 100-continue (RFC 9110 section 10.1.1): who waits for whom. */
enum body_expect {
  EXPECT_NOBODY,  /* the client does not wait, or not any more */
  EXPECT_CLIENT,  /* it waits for 100 before it sends its body */
  EXPECT_UPSTREAM /* so it does, and the upstream has been asked whether it wants the body */
};

/* A script's await on a body; at most one a body. */
struct body_wait {
  struct exchange *ex;
  int error;
  struct await await;
  bool waiting;
};

struct request_body {
  struct buf bytes; /* with `secret`: sensitive, and empty but while a try sends them */
  struct secret *
      secret; /* a reference: what `bytes` are made of for each try, where a script's text has secrets in it; else NULL */
  uint64_t seen; /* bytes read from the client */
  enum body_place place;
  enum body_expect expect;
  bool complete; /* the client has sent all of it */
  struct body_wait wait;
};

void request_body_begin(struct exchange *ex); /* the head is there */
void request_body_fini(struct request_body *b);
/* All of it is here and may go with the head. */
static inline bool request_body_at_hand(const struct request_body *b) {
  return b->place == BODY_REPLACED || (b->complete && b->place < BODY_GONE);
}
/* It can be sent from its start once more, what has not come yet included. */
static inline bool request_body_repeatable(const struct request_body *b) { return b->place < BODY_GONE; }
/* The try is over: what comes now waits for the next one. */
void request_body_hold(struct request_body *b);
/* The head is on its way: sends what has been gathered, and from now on what comes. */
void request_body_stream(struct exchange *ex);
/* A script's text takes its place, or one with secrets in it. Before it is sent. */
void request_body_replace(struct request_body *b, struct str text);
void request_body_replace_secret(struct request_body *b, struct secret *s);
/* For the head that is about to be written: its secrets become bytes, by that head's context. 0, or secret_expand's error. */
int request_body_expand(struct request_body *b, struct secret_context *ctx);
/* They have gone. */
void request_body_forget(struct request_body *b);
/* A reply is made here: what still comes is thrown away, and what the client has sent is read now. False: there is nothing to read, or it was dropped before. */
bool request_body_drop(struct exchange *ex);
/* Of one that is dropped: it is not complete, and a client that is sending it will soon be done. */
bool request_body_nearly_there(const struct exchange *ex);
/* Tells a client that waits to go on. */
void request_body_continue(struct exchange *ex);
/* A head is about to be written: whether it is to ask the upstream, instead of the client being told to go on at once. A stale token above all is refused
 * before the body has gone anywhere. */
bool request_body_ask(struct request_body *b);
/* The head has gone: the answer is awaited for a while, or the client is told. */
void request_body_await_answer(struct exchange *ex);
/* The upstream has answered, or its answer is of no interest any more. */
void request_body_answered(struct exchange *ex);

/* What req:body() or res:body() awaits is there (0), or will not be. */
void body_wait_done(struct body_wait *w, int error);

#endif
