/* h2_conn.h: a client's connection that speaks HTTP/2: many requests at once, each with its own exchange, time limits and end.
 *
 * h2_conn.c has the connection and what comes, h2_reply.c what goes. Each request is the downstream of one exchange (downstream.h), and outlives it while what
 * the exchange has said waits for a window. Owned by the worker's thread. */
#ifndef JETON_PROXY_H2_CONN_H
#define JETON_PROXY_H2_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/later.h"
#include "base/list.h"
#include "base/wheel.h"
#include "http/h2_fields.h"
#include "http/h2_session.h"
#include "net/stall.h"
#include "proxy/downstream.h"
#include "proxy/pace.h"

struct conn;
struct conn_protocol;
struct h2_conn;
struct pipe_end;
struct worker;

/* Written by h2_conn.c, and ANSWERED by h2_reply.c. */
enum h2_request_state {
  H2_REQUEST_HEAD,     /* a head has begun */
  H2_REQUEST_BUSY,     /* an exchange runs */
  H2_REQUEST_ANSWERED, /* the exchange has let go: what waits of the reply goes out, what comes is thrown away */
  H2_REQUEST_TUNNEL,   /* belongs to a tunnel */
  H2_REQUEST_GONE      /* the stream has ended under its exchange or tunnel, which is told from the loop */
};

struct h2_request {
  struct h2_stream stream;
  struct downstream down; /* .conn NULL: a tunnel that has outlived its connection */
  struct link link;       /* of its connection's */
  struct worker *worker;
  union {
    struct h2_block *block;  /* HEAD, and BUSY while trailers come: in the exchange's arena */
    struct pipe_end *tunnel; /* TUNNEL, or GONE from there */
  } u;
  struct h2_fields *head; /* of the reply, until a flush: in the exchange's arena; NULL: none waits */
  struct timeout timeout; /* of the head, the body or what waits for the client: one of them counts at a time */
  struct later later;     /* offers body again, or tells that the stream has gone */
  struct pace pace;       /* the client's time for its body */
  uint64_t seen;          /* bytes of body that were taken */
  uint64_t said;          /* and of the reply's body, all that its exchange has said */
  uint64_t taken;         /* of the reply's, when the client's progress was looked at last */
  uint8_t quiet;          /* looks since then that saw none */
  uint8_t state;          /* enum h2_request_state */
  bool sending;           /* the timeout belongs to what waits for the client */
  bool early;             /* the timeout ends a stream whose whole reply has gone before its request's end */
  bool continued;         /* 100 (Continue) has been sent */
  bool malformed;         /* nothing of a reply goes out: the stream is reset */
  bool bodiless;          /* the reply's head says that no body follows; what comes for it all the same is dropped */
  bool reading;           /* TUNNEL */
};

enum h2_conn_state {
  H2_CONN_OPEN,
  H2_CONN_LINGER /* all has been said, and FIN behind it; what still comes is thrown away, so that it is read before a reset */
};
struct h2_conn { /* from when a connection turns out to speak HTTP/2 */
  struct h2_session session;
  struct conn *conn;
  struct link requests; /* struct h2_request, those that are told of their end included */
  uint32_t nrequests;
  struct timeout
      goodbye; /* the second GOAWAY of a drain; behind the client's FIN, the end of what its replies may take */
  union {
    struct stall stall;  /* of the client, while `sending` */
    uint64_t linger_end; /* uv_now when lingering ends */
  } limit;
  uint8_t state; /* enum h2_conn_state */
  bool sending;  /* the connection's timeout belongs to what is queued for the client */
  bool eof;      /* the client sent FIN */
};

extern const struct conn_protocol h2_protocol;
extern const struct downstream_ops h2_downstream;

/* --- between h2_conn.c and h2_reply.c --- */

static inline struct h2_request *h2_request_of(const struct downstream *d) {
  return CONTAINER_OF(d, struct h2_request, down);
}
/* Sets the time limit that fits what the request waits for, after whatever changed that. */
void h2_arm(struct h2_request *r);
/* The exchange has let go. */
void h2_answered(struct h2_request *r, enum reply_ended ended);
bool h2_take_over(struct downstream *d, struct pipe_end *end, struct buf *rest);

#endif
