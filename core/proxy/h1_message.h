/* h1_message.h: what HTTP/1 keeps for one request and its reply: for h1_conn.c and h1_reply.c alone. Lives in the exchange's arena. */
#ifndef JETON_PROXY_H1_MESSAGE_H
#define JETON_PROXY_H1_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/parser.h"
#include "proxy/downstream.h"
#include "proxy/pace.h"

enum h1_reply_state {
  H1_REPLY_NONE,
  H1_REPLY_WAITS, /* the head is written and waits for the flush: it can be taken back */
  H1_REPLY_BEGUN  /* some of it has left */
};

struct half_closed;
struct h1_message {
  struct http_parser parser;
  struct pace pace; /* the client's time for its body */
  /* the client has sent FIN and waits: how long it may, h1_conn.c's; NULL: no limit runs */
  struct half_closed *half_closed;
  struct h1_out *out; /* what waits for the flush; NULL: nothing */
  uint64_t seen;      /* bytes of body read */
  uint8_t reply;      /* enum h1_reply_state */
  bool complete;      /* the request has been read to its end */
  bool refused;       /* it could not be: nothing behind it can be read, either */
  bool continued;     /* 100 (Continue) has been sent */
  bool keep_alive;    /* as the reply's head said */
  bool chunked;       /* the reply's body */
  bool no_body;       /* body that comes for it all the same is dropped */
};

extern const struct downstream_ops h1_downstream;

/* Bytes that one reply has collected in this turn of the loop. Taken from the worker's when there is a first one, and given back by the flush, which comes before the turn is over: so there
 * are as many as replies are told by one read. That is one with an upstream of HTTP/1, and with one of HTTP/2 whichever of its streams the read brought something for. */
enum { H1_OUT_MAX = 24, H1_LINE_MAX = 20 };
struct h1_out {
  struct h1_out *next; /* of those that are free */
  struct buf head;
  unsigned n, nlines;
  uv_buf_t v[H1_OUT_MAX];
  char lines[H1_OUT_MAX][H1_LINE_MAX]; /* of chunks */
};
struct h1_outs { /* one a worker */
  struct h1_out *free;
  unsigned nfree;
  struct buf text; /* h1_https_only's */
};
void h1_outs_init(struct h1_outs *all);
void h1_outs_fini(struct h1_outs *all); /* every one has been given back */
void h1_outs_give(struct h1_outs *all, struct h1_out *o);

/* Says that this port speaks TLS, to a client that began in the clear: the whole reply, valid until the worker's next one of that kind. */
struct str h1_https_only(struct h1_outs *all);

/* h1_conn.c's part of h1_downstream. */
void h1_reset(struct downstream *d);
void h1_want(struct downstream *d);
bool h1_take_over(struct downstream *d, struct pipe_end *end, struct buf *rest);

#endif
