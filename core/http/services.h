/* services.h: what a thread with a loop owns (worker, keeper, control, the demo's visitors) and lends to whatever runs on it, the Lua library above all.
 *
 * Made and taken down in one place. Every VM of the thread ends before it. */
#ifndef JETON_HTTP_SERVICES_H
#define JETON_HTTP_SERVICES_H

#include <uv.h>

#include "base/later.h"
#include "base/mailbox.h"
#include "base/wheel.h"
#include "net/keepalive.h"
#include "net/stream.h"

struct origins;  /* http/origin.h: this thread's connections to other servers */
struct registry; /* base/named.h */
struct resolver; /* net/resolver.h */
struct saves;    /* token/saves.h */

struct services {
  uv_loop_t loop;
  struct net net;
  struct wheel wheel;
  struct mailbox mailbox;
  struct laters laters; /* of connections of HTTP/2 to other servers */
  struct resolver *resolver;
  struct origins *origins;
  struct keepalive keepalive; /* of connections that scripts ask for: the active policy's */
  struct saves *saves;        /* the keeper's, not owned; NULL in any other thread */
  struct registry *names;     /* base/named.h: what policies name; the process's, not owned */
};

/* `names` is the process's and outlives this. May be called by another thread than the one that will run the loop, before it does. 0 or libuv's error; then nothing needs closing. */
int services_init(struct services *s, struct registry *names);
/* Takes everything down, running the loop until every handle on it is closed: the caller's own handles must be closing by now. */
void services_close(struct services *s);

#endif
