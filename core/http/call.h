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
#include "http/origin.h"
#include "http/parser.h"
#include "http/writer.h"
#include "net/stall.h"

struct call;
struct call_events { /* from call_start on; every one may call call_cancel, after which the owner's memory may go */
  /* A connection is there: append the head to out (sensitive), and if the whole body is at hand set *body to it (already framed;
   * borrowed during the call) and call->body_done. Returns 0 or an error, which ends the call. Called again for a stale retry. */
  int (*write_head)(struct call *c, struct buf *out, struct str *body);
  /* The head is on its way and the body was not all there: the owner may call_send_body now. NULL: there is never more. */
  void (*on_sent)(struct call *c);
  void (*on_interim)(struct call *c);               /* a 1xx other than 101 is in call->response. May be NULL. */
  void (*on_head)(struct call *c);                  /* the final head (or the 101 asked for) is in call->response */
  void (*on_body)(struct call *c, struct str span); /* span stays valid until on_flush or on_end */
  void (*on_passed)(struct call *c, size_t n);      /* n bytes of it went to call_pass_on's stream */
  void (*on_flush)(struct call *c);                 /* what one read brought has been told; spans end. May be NULL. */
  void (*on_drain)(struct call *c);                 /* request bytes that waited have gone: send more. May be NULL. */
  /* The reply is complete (trailers in call->response); the connection is given back after this returns. The call is over. */
  void (*on_end)(struct call *c);
  /* The call is over with an error: libuv's, ERR_TLS, ERR_PROTOCOL, ERR_TRUNCATED, UV_ETIMEDOUT, or write_head's.
   * call->phase tells when; `reason` is a sentence for the log. Never called from inside call_start's caller's frame only when start itself failed: it may be. */
  void (*on_error)(struct call *c, int status, const char *reason);
};
enum call_phase {
  CALL_IDLE,    /* not started, or over */
  CALL_CONNECT, /* waiting for a connection */
  CALL_SEND,    /* the head is sent, the body is not complete */
  CALL_WAIT,    /* the request is complete, no final head yet */
  CALL_BODY,    /* the final head was told */
  CALL_TUNNEL   /* 101 was told: call_take_connection */
};

struct call { /* embedded */
  const struct call_events *events;
  void *owner;
  struct arena *arena;
  struct origin *origin; /* a reference while it runs */
  struct origin_lease lease;
  struct origin_conn *conn;
  struct http_parser parser;
  struct response response;
  struct timeout timeout;
  struct stall stall; /* of the upstream, while `sending` */
  struct buf stash;   /* reply bytes that came while paused; bounded by one read */
  /* set by the owner before call_start */
  struct str method;
  const struct http_limits *limits;
  uint64_t connect_ms, first_byte_ms, response_ms, send_ms, pool_ms;
  unsigned pool_idle;
  bool repeatable; /* idempotent, and write_head can give the whole of it again */
  bool upgrade;    /* a 101 is welcome */
  /* state */
  bool body_done; /* the request is complete */
  bool got_bytes, retried, paused, broken, feeding;
  bool sending;      /* the timeout belongs to what is queued for the upstream */
  unsigned interims; /* 1xx replies so far: each costs arena */
  uint64_t idle_ms;  /* pool_ms, or what the reply's Keep-Alive allows */
  bool *gone;        /* set by cancel and end while an event loop of ours is on the stack */
  enum call_phase phase;
};
void call_init(struct call *c, const struct call_events *e, void *owner, struct arena *a, struct wheel *w);
void call_fini(struct call *c); /* idle: gives back what call_init took */
void call_start(struct call *c, struct origin *o);
/* Streamed request body, already framed. Write failures show as on_error or a reply, later. */
void call_send_body(struct call *c, const uv_buf_t *bufs, unsigned n);
void call_body_end(struct call *c); /* the request is complete: first_byte starts to count */
size_t call_queued(const struct call *c);
/* The stream for a body that is passed on to it (stream_pass_on), or NULL; and what call_send_body would note of what went there. */
struct stream *call_body_stream(const struct call *c);
void call_body_passed(struct call *c);
/* From on_flush: what is left of a reply with a length may go to this stream as it comes, and on_passed tells. Nothing of it may wait in the owner's hands. */
void call_pass_on(struct call *c, struct stream *to);
/* Backpressure from whoever takes the reply. */
void call_pause(struct call *c);
void call_resume(struct call *c);
/* After a 101: hands over the connection, reading stopped; bytes behind the head are in *rest (valid until the caller returns to the loop). */
struct origin_conn *call_take_connection(struct call *c, struct str *rest);
/* Ends the call, closing its connection; no event comes any more. Fine when idle. */
void call_cancel(struct call *c);
/* From call_start to the last event. Not told by the phase, which on_error still finds as it was. */
static inline bool call_running(const struct call *c) { return c->origin != NULL; }

#endif
