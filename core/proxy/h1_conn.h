/* h1_conn.h: a client's connection that speaks HTTP/1: reads requests one after another, keeps what is pipelined, and gives its time limits.
 *
 * h1_conn.c reads and keeps the time; h1_reply.c is the only place that writes HTTP/1 to a client. Both are the downstream of the one exchange that a
 * connection has at a time. Owned by the worker's thread. */
#ifndef JETON_PROXY_H1_CONN_H
#define JETON_PROXY_H1_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/later.h"
#include "net/stall.h"
#include "proxy/downstream.h"

struct conn;
struct conn_protocol;
struct h1_message;
struct pipe_end;

/* Written by h1_conn.c alone. */
enum h1_state {
  H1_IDLE,  /* between requests */
  H1_HEAD,  /* a head has begun */
  H1_BUSY,  /* an exchange runs */
  H1_FLUSH, /* the last reply is on its way out, then FIN */
  H1_LINGER, /* FIN is sent; what the client still sends is thrown away, so that it is not reset before it has read the reply */
  H1_TUNNEL /* belongs to a tunnel */
};

struct h1_conn { /* embedded in struct conn; no conn of its own is allocated for HTTP/1 */
  struct downstream down;
  union {
    struct h1_message *message; /* HEAD and BUSY: what belongs to the present exchange alone, in its arena */
    struct pipe_end *tunnel;    /* TUNNEL */
  } u;
  struct buf *stash;  /* input that nobody wants yet, bounded by STASH_MAX and one read; NULL: none */
  struct later later; /* goes on with what is stashed, or closes a broken connection, from the loop */
  union {
    struct stall stall;  /* of the client, while `sending` */
    uint64_t linger_end; /* uv_now when lingering ends */
    /* conn.c's, before HTTP begins: uv_now when a TLS handshake must be done; UINT64_MAX: no limit */
    uint64_t handshake_end;
  } limit;
  uint32_t in_row; /* requests begun since the loop last came to this connection */
  uint8_t state;
  bool eof;             /* the client sent FIN */
  bool feeding;         /* the loop that consumes input is on the stack: it goes on by itself */
  bool reading_stopped; /* the stash is full */
  bool sending;         /* the timeout belongs to what is queued for the client */
  bool until_close;     /* the last reply ends with the connection: only a reset can show that it was cut */
  bool broken;          /* a write failed: `later` closes */
};

extern const struct conn_protocol h1_protocol;
void h1_init(struct conn *c); /* c is all zero otherwise */

/* For h1_reply.c: sets the time limit that fits what the connection waits for, after whatever changed that. */
void h1_arm(struct conn *c);
/* The reply is complete, or was given up: the exchange has let go, and the connection goes on to the next request or closes. */
void h1_message_over(struct conn *c, bool keep_alive);

#endif
