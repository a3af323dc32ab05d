/* services.h: what a thread with a loop owns, made and taken down in one place: used by control and by the keeper. */
#ifndef JETON_PROXY_SERVICES_H
#define JETON_PROXY_SERVICES_H

#include <uv.h>

#include "base/mailbox.h"
#include "base/wheel.h"
#include "lua/services.h"
#include "net/stream.h"

struct services {
  uv_loop_t loop;
  struct net net;
  struct wheel wheel;
  struct mailbox mailbox;
  struct resolver *resolver;
  struct origins *origins;
  struct vm_services lent; /* what VMs on this thread get */
};

/* `names` is the process's and outlives this. May be called by another thread than the one that will run the loop, before it does. 0 or libuv's error; then nothing needs closing. */
int services_init(struct services *s, struct registry *names);
/* Takes everything down, running the loop until every handle on it is closed: the caller's own handles must be closing by now. */
void services_close(struct services *s);

#endif
