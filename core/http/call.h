/* call.h: one request to an origin and its response: used by the proxy's exchange (streaming) and by jeton.http (gathering).
 *
 * The head is made by a callback at the moment a connection is there: secrets are expanded then and never kept. A pooled connection that turns out
 * stale before a byte of the reply is retried once on a fresh one when the request may be repeated (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
 * Owned by one loop's thread. */
#ifndef JETON_HTTP_CALL_H
#define JETON_HTTP_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/wheel.h"
#include "http/h1_call.h"
#include "http/h2_call.h"
#include "http/message.h"
#include "http/origin.h"
#include "net/pipe.h"

struct call;

/* What the owner hears, from call_start on and in this order: make_head, on_sent, on_interim, on_head, then on_body, on_passed and on_flush any number of times,
 * and on_end; or on_error at any point, or on_retry before on_head. Every event may call call_cancel, after which the owner's memory may go; and, where nothing else is said, any other
 * function of the call but call_init, call_fini and call_start. on_end, on_error and on_retry come last: the call is over, and may be started anew from inside. */
struct call_events {
  /* A place is there. Fill *head; when the whole body is at hand and its length is known, set *body to it and call->body_done. A request that has
   * none sets call->body_done, too. What they point to must last until the next event, or until the function of the call that this came from returns. Returns 0,
   * or an error that ends the call: on_error brings it. Called again for each other try. Calls no function of the call. */
  int (*make_head)(struct call *c, struct request_head *head, struct str *body);
  /* The upstream has said that it did not look at the request. May it be sent once more, from its start? True: make_head will be asked anew, and until on_sent
   * the owner keeps what comes of the body. NULL: it may, since make_head gives the whole of it. */
  bool (*again)(struct call *c);
  /* With tries_by_owner: the request is to be sent once more, behind a head that went out. The call is over, and this its last event; call_start_again, from inside or
   * later, makes that try. Without it: make_head is asked anew. */
  void (*on_retry)(struct call *c);
  /* The head is on its way, and call->body_done was not set: call_send and call_end may be called from now on. NULL: it is always set. */
  void (*on_sent)(struct call *c);
  void (*on_interim)(struct call *c);               /* a 1xx other than 101 is in call->response. May be NULL. */
  void (*on_head)(struct call *c);                  /* the final head (or the 101 asked for) is in call->response */
  void (*on_body)(struct call *c, struct str span); /* span stays valid until on_flush or on_end */
  void (*on_passed)(struct call *c, size_t n);      /* n bytes of it went to call_pass_on's stream */
  void (*on_flush)(struct call *c);                 /* what one read brought has been told; spans end. May be NULL. */
  void (*on_drain)(struct call *c);                 /* request bytes that waited have gone: send more. May be NULL. */
  /* The reply is complete (trailers in call->response). Its connection has been given back already, so that a call that is started from here finds it. */
  void (*on_end)(struct call *c);
  /* The call failed: libuv's error, ERR_TLS, ERR_PROTOCOL, ERR_TRUNCATED, UV_ETIMEDOUT, or make_head's. call->phase tells when; `reason` is a sentence
   * for the log, valid during the call. May be called before call_start returns. */
  void (*on_error)(struct call *c, int status, const char *reason);
};
enum call_phase {
  CALL_IDLE,    /* not started, or over */
  CALL_CONNECT, /* waiting for a connection */
  CALL_SEND,    /* the head is sent, the body is not complete */
  CALL_WAIT,    /* the request is complete, no final head yet */
  CALL_BODY,    /* the final head was told */
  CALL_TUNNEL   /* 101 was told: call_take_over */
};

struct call { /* embedded */
  const struct call_events *events;
  void *owner;
  struct arena *arena;
  struct origin *origin; /* a reference while it runs */
  struct place place;
  const struct call_ops *ops; /* of the protocol that the place's connection speaks */
  struct response response;
  struct timeout timeout;
  struct timeout secrets; /* the end of the first token in what waits of the request (call_secrets_wait) */
  /* set by the owner before call_start */
  struct str method;
  const struct http_limits *limits;
  uint64_t connect_ms, first_byte_ms, response_ms, send_ms;
  struct pool_terms pool;
  /* Which addresses may be connected (see struct place). NULL: any. */
  bool (*allowed)(struct call *c, const union address *a);
  bool repeatable;     /* idempotent, and make_head can give the whole of it again */
  bool tries_by_owner; /* see on_retry */
  bool open;           /* nothing in it is secret: a parent proxy may read it (PLACE_OPEN) */
  bool upgrade;        /* a 101 is welcome: the connection will be one of HTTP/1.1, or none (ERR_UPGRADE) */
  /* state */
  bool body_done; /* the request is complete */
  bool got_bytes; /* of the reply */
  bool retried, paused;
  bool fresh;        /* the next try wants a connection that has served nothing before */
  uint8_t refusals;  /* how often it was sent again since it had not been looked at */
  bool broken;       /* the upstream takes no more of the request; it may have answered all the same */
  bool feeding;      /* an event of the reply is on the stack, and on_flush will come */
  bool sending;      /* the timeout belongs to what is queued for the upstream */
  unsigned interims; /* 1xx replies so far: each costs arena */
  bool *gone;        /* set by cancel and end while an event loop of ours is on the stack */
  enum call_phase phase;
  union { /* the protocols' own: of the one that ops belongs to */
    struct h1_call h1;
    struct h2_call h2;
  };
};
void call_init(struct call *c, const struct call_events *e, void *owner, struct arena *a, struct wheel *w);
void call_fini(struct call *c); /* idle: gives back what call_init took */
void call_start(struct call *c, struct origin *o);
/* Behind on_retry: the next try of the same request, which keeps to the bounds of them all. */
void call_start_again(struct call *c, struct origin *o);
/* More of the request's body, as it is: framing it is the protocol's business. Sent or queued before this returns, with all that the receiver needs to take it.
 * From on_sent until call_end; ignored when the call is over or its peer takes no more (a failed write shows as on_error or as a reply, later). */
void call_send(struct call *c, struct str span);
/* The request's body is complete; trailers go out where the framing can carry them (NULL: none). first_byte_ms counts from its last byte. */
void call_end(struct call *c, const struct headers *trailers);
size_t call_queued(const struct call *c); /* bytes that the upstream has not taken yet */
/* The stream that takes bytes of the request's body as they are (stream_pass_on), or NULL: there is none, or the body is framed. And what call_send would
 * note of n bytes that went there. */
struct stream *call_raw(const struct call *c);
void call_passed(struct call *c, size_t n);
/* From on_flush: what is left of a reply with a length may go to this stream as it comes, and on_passed tells. Nothing of it may wait in the owner's hands. */
void call_pass_on(struct call *c, struct stream *to);
/* Backpressure from whoever takes the reply. */
void call_pause(struct call *c);
void call_resume(struct call *c);
/* After a 101 (CALL_TUNNEL): the connection becomes the end of a pipe, and the call is over without another event. Bytes that came behind the head are in
 * *rest, which is the caller's to free. */
void call_take_over(struct call *c, struct pipe_end *end, struct buf *rest);
/* Ends the call, closing its connection; no event comes any more. Fine when idle. */
void call_cancel(struct call *c);
/* From call_start to the last event. Not told by the phase, which on_error still finds as it was. */
static inline bool call_running(const struct call *c) { return c->origin != NULL; }

#endif
