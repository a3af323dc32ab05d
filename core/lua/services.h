/* services.h: what a thread lends to the Lua library that runs on it. Filled by the thread's owner (worker, keeper, control); every pointer outlives the VM. */
#ifndef JETON_LUA_SERVICES_H
#define JETON_LUA_SERVICES_H

#include <uv.h>

struct net;
struct resolver;
struct wheel;
struct mailbox;
struct registry; /* base/named.h: what policies name, process-wide */
struct origins;  /* http/origin.h: this thread's connections to other servers */

struct vm_services {
  uv_loop_t *loop;
  struct net *net;
  struct resolver *resolver;
  struct wheel *wheel;
  struct mailbox *mailbox;
  struct origins *origins;
  struct registry *names;
};

#endif
