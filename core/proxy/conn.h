/* conn.h: one connection of a client, whatever protocol it speaks: accepted, secured, counted, listed, closed.
 *
 * Who speaks is chosen when the connection is open (conn.c), and gets what comes from then on through struct conn_protocol. Idle, a connection of HTTP/1
 * holds no buffer and no exchange: it costs this struct alone, and whatever is added to it is added to each of a hundred thousand.
 * Owned by the worker's thread; freed in its stream's close callback only, so it is valid in every frame below a callback. */
#ifndef JETON_PROXY_CONN_H
#define JETON_PROXY_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/stream.h"
#include "proxy/addresses.h"
#include "proxy/h1_conn.h"

struct conn;
struct h2_conn;
struct tls_server;
struct worker;

enum conn_phase {
  CONN_HANDSHAKE, /* of TLS: conn.c's */
  CONN_OPEN,      /* its protocol's */
  CONN_CLOSED     /* nobody's any more: waits for its close callback */
};
enum conn_speaks {
  CONN_HTTP1,
  CONN_HTTP2,
  CONN_EITHER, /* its first bytes will tell: sniff.c */
  CONN_PROTOCOLS
};

/* What a protocol does for its connections. */
struct conn_protocol {
  void (*begin)(struct conn *c); /* it is open: starts to read */
  /* What was read before it was known who speaks, behind `begin`: as if it had been read now. May come twice. */
  void (*take)(struct conn *c, struct str bytes);
  void (*due)(struct conn *c);   /* conn->timeout, which is the protocol's from `begin` on */
  void (*drain)(struct conn *c); /* the worker drains: closes now if nothing is under way, else behind it */
  void (*lost)(struct conn *c);  /* it is about to close: its exchanges end. May not close it. */
  void (*fini)(struct conn *c);  /* it has closed, and its memory goes */
  /* A plain close now would look like the end of a message that is not complete. */
  bool (*looks_whole)(const struct conn *c);
};

struct conn {
  struct stream stream; /* .owner is the conn */
  struct link link;     /* the worker's list: fresh, idle or busy ones */
  struct worker *worker;
  struct timeout timeout;
  struct address_key address;
  struct h1_conn h1;
  struct h2_conn *h2;      /* CONN_HTTP2 alone */
  uint32_t accepted;       /* uv_now, cut off: while it is fresh */
  char peer[ADDRESS_HOST]; /* the client's address as text: of a client that has gone the kernel tells none any more */
  uint8_t phase;           /* enum conn_phase; written by conn.c alone */
  uint8_t speaks;          /* enum conn_speaks; written by conn.c alone */
  uint8_t sniffed;         /* CONN_EITHER: bytes that have come, less than tell */
  bool tls;
  bool counted;    /* in worker->addresses, under `address` */
  bool half_close; /* a client that has sent FIN still waits for its reply: as its listener said when it was accepted */
};

/* What a listener says of its connections. */
struct conn_settings {
  struct tls_server *tls; /* NULL: plain */
  bool half_close;
  bool http2; /* beside HTTP/1.1 */
};

/* Takes a socket that was accepted from `peer`. False: its address has as many connections as the policy allows, and it is closed. */
bool conn_accept(struct worker *w, int fd, const union address *peer, const struct conn_settings *settings);
void conn_close(struct conn *c);
void conn_reset(struct conn *c); /* drops what the client has not taken, and shows that its message was cut short */
/* Closes it, whatever is under way: by a reset only where that would not be seen otherwise. */
void conn_abandon(struct conn *c);
void conn_drain(struct conn *c);
extern const struct conn_protocol sniff_protocol; /* sniff.c */
/* For sniff.c, from a read: the connection is this protocol's from here on, and so are the bytes that have come. */
void conn_speaks(struct conn *c, enum conn_speaks who, struct str had, struct str bytes);
/* For protocols: nothing is under way, and it may be closed to make room for another one; or something is again. */
void conn_become_idle(struct conn *c);
void conn_become_busy(struct conn *c);
/* For listeners, when all places are taken: the connection to close for a new one, idle longest and with nothing of its client unread. One that is new counts as
 * idle when it has been silent for timeouts.head: its request is on its way. NULL: the new one has to wait. */
struct conn *conn_to_shed(struct worker *w);

#endif
