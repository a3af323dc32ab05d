/* client.h: one request to an origin and its response: used by the proxy's exchange (streaming) and by jeton.http (gathering).
 *
 * The head is made by a callback at the moment a connection is there: secrets are expanded then and never kept. A pooled connection that turns out
 * stale before a byte of the reply is retried once on a fresh one when the request may be repeated (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1). */
#ifndef JETON_HTTP_CLIENT_H
#define JETON_HTTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/wheel.h"
#include "http/origin.h"
#include "http/parser.h"
#include "http/writer.h"

struct client_call;
struct client_events {
  /* A connection is there: append the head to out (sensitive), and if the whole body is at hand set *body to it (borrowed until the call ends).
   * Returns 0 or an error, which ends the call. May be called twice (stale retry). */
  int (*write_head)(struct client_call *c, struct buf *out, struct str *body);
  /* The head is on its way: the owner may client_send_body now. */
  void (*on_sent)(struct client_call *c);
  /* An interim response (1xx other than 101): call->response. May be NULL. */
  void (*on_interim)(struct client_call *c);
  /* The final head (or 101) is in call->response. */
  void (*on_head)(struct client_call *c);
  void (*on_body)(struct client_call *c, struct str span); /* span valid during the call */
  /* The request's bytes that waited have gone: send more. */
  void (*on_drain)(struct client_call *c);
  /* The reply is complete (trailers in call->response) and the connection given back. The call is over. */
  void (*on_end)(struct client_call *c);
  /* The call is over with an error: libuv's, ERR_TLS, ERR_PROTOCOL, ERR_TRUNCATED, UV_ETIMEDOUT (call->phase tells which), or write_head's.
   * `reason` is a sentence for the log. */
  void (*on_error)(struct client_call *c, int status, const char *reason);
};
enum client_phase { CLIENT_IDLE, CLIENT_CONNECT, CLIENT_SEND, CLIENT_WAIT, CLIENT_BODY, CLIENT_TUNNEL, CLIENT_DONE };

struct client_call { /* embedded; every callback may end its owner's use with client_cancel */
  const struct client_events *events;
  void *owner;
  struct arena *arena;
  struct origin *origin; /* a reference while it runs */
  struct origin_lease lease;
  struct origin_conn *conn;
  struct http_parser parser;
  struct response response;
  struct timeout timeout;
  struct str method;
  const struct http_limits *limits;
  uint64_t connect_ms, first_byte_ms, response_ms, send_ms, pool_ms;
  unsigned pool_idle;
  enum client_phase phase;
  bool repeatable;     /* idempotent, and the body (if any) can be sent again */
  bool retried, body_done, got_bytes, paused, expects_continue, upgrade;
  struct buf stash; /* reply bytes that came while paused */
};
void client_init(struct client_call *c, const struct client_events *e, void *owner, struct arena *a, struct wheel *w);
void client_start(struct client_call *c, struct origin *o);
/* Streamed request body, already framed. Returns 0, or an error (on_error follows later, not from inside). */
int client_send_body(struct client_call *c, const uv_buf_t *bufs, unsigned n);
void client_body_end(struct client_call *c); /* the request is complete: first_byte starts to count */
size_t client_queued(const struct client_call *c);
/* Backpressure from whoever takes the reply. */
void client_pause(struct client_call *c);
void client_resume(struct client_call *c);
/* After a 101: hands over the connection; bytes that came behind the head are in *rest (valid until the next loop turn). The call is over. */
struct origin_conn *client_take_connection(struct client_call *c, struct str *rest);
/* Ends the call, closing the connection unless it was idle again; no callback comes any more. */
void client_cancel(struct client_call *c);

#endif
