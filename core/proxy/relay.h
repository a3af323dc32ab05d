/* relay.h: the upstream's events, and the reply's way to the client.
 *
 * One value says whose the reply is, another how the upstream's body goes. Embedded in the exchange; the worker's thread. */
#ifndef JETON_PROXY_RELAY_H
#define JETON_PROXY_RELAY_H

#include <stdbool.h>

#include "base/buf.h"
#include "http/call.h"
#include "proxy/request_body.h"

struct exchange;

enum reply_source {
  REPLY_UPSTREAM, /* head and body are the upstream's; a script may have changed fields */
  REPLY_REPLACED, /* the head is the upstream's, the body a script's, in `bytes` */
  REPLY_LOCAL     /* made here: req:respond, or an error; the body is in `bytes` */
};
/* How the upstream's body goes. */
enum reply_flow {
  REPLY_PASSES,      /* to the client as it comes, behind what is in `bytes` */
  REPLY_IS_GATHERED, /* into `bytes`: res:body() waits for all of it */
  REPLY_ENDED        /* it has come whole */
};

struct reply_body {
  enum reply_source source;
  enum reply_flow flow;
  struct buf bytes;
  struct body_wait wait;
  int broke; /* the error that ended the reply while a script awaited its body; 0: none */
};

extern const struct call_events upstream_events;

/* The whole body is here, and nothing comes any more. */
bool reply_is_here(const struct exchange *ex);
/* Something has gone towards the client: stops the upstream while too much waits. */
void relay_flush(struct exchange *ex);

#endif
