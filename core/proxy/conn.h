/* conn.h: one client connection: reads requests one after another, keeps what is pipelined, and gives its time limits.
 *
 * Idle it holds no buffer and no exchange: it costs its struct alone. Owned by the worker's thread. */
#ifndef JETON_PROXY_CONN_H
#define JETON_PROXY_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/stall.h"
#include "net/stream.h"
#include "proxy/addresses.h"

struct worker;
struct exchange;
struct tls_server;

enum conn_state {
  CONN_HANDSHAKE, /* TLS */
  CONN_IDLE,      /* between requests */
  CONN_HEAD,      /* a head has begun */
  CONN_BUSY,      /* an exchange runs */
  CONN_FLUSH,     /* the last reply is on its way out, then FIN */
  CONN_LINGER, /* FIN is sent; what the client still sends is thrown away, so that it is not reset before it has read the reply */
  CONN_TUNNEL, /* belongs to a tunnel */
  CONN_CLOSED
};

struct conn {
  struct stream stream; /* .owner is the conn */
  struct link link;     /* worker's list; the idle ones in the order they became idle */
  struct worker *worker;
  struct exchange *exchange; /* NULL: none */
  void *tunnel;
  struct timeout timeout;
  struct stall stall; /* of the client, while `sending` */
  struct buf stash;   /* input that nobody wants yet: bounded by STASH_MAX and one read */
  struct mail turn;   /* goes on with what is stashed, when others have had their turn */
  uint32_t in_row;    /* requests begun since the loop last came to this connection */
  uint64_t phase_end; /* uv_now when a TLS handshake must be done (UINT64_MAX: no limit), or lingering ends */
  struct address_key address;
  char peer[ADDRESS_HOST]; /* the client's address as text: of a client that has gone the kernel tells none any more */
  uint8_t state;
  bool eof; /* the client sent FIN */
  bool feeding, reading_stopped, tls;
  bool counted; /* in worker->addresses, under `address` */
  bool sending; /* the timeout belongs to what is queued for the client */
};

/* Takes a socket that was accepted from `peer`. False: its address has as many connections as the policy allows, and it is closed. */
bool conn_accept(struct worker *w, int fd, const union address *peer, struct tls_server *tls);
/* The exchange has ended; the connection goes on to the next request or closes. */
void conn_exchange_ended(struct conn *c, bool keep_alive);
/* The exchange wants body again, or is gone: what is stashed is looked at, and reading goes on. */
void conn_continue(struct conn *c);
/* Sets the time limit that fits what the connection waits for: after whatever changed that. */
void conn_arm(struct conn *c);
void conn_reset(struct conn *c); /* the reply was cut short: the client must see it */
void conn_close(struct conn *c);
/* Drain: closes when idle, else after the current exchange. */
void conn_drain(struct conn *c);
/* Takes the connection out of HTTP: its stream's callbacks and what is stashed (moved to *rest) belong to the tunnel. */
void conn_become_tunnel(struct conn *c, void *tunnel, struct buf *rest);
struct str conn_peer(const struct conn *c); /* the client's address without its port; lives as long as c */

#endif
