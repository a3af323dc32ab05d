/* resolver.h: names to addresses (DNS, /etc/hosts): one cache for the process, and a resolver for each thread that asks it.
 *
 * libuv's thread pool runs getaddrinfo, so no loop ever waits for a name server. One getaddrinfo is under way for a name, whichever thread began it, and its
 * answer is everybody's. getaddrinfo does not report the TTL of records, so an answer lives by these ages:
 *
 *   up to RESOLVE_FRESH_MS    it is given at once
 *   up to RESOLVE_STALE_MS    so it is, and asked for anew meanwhile
 *   up to RESOLVE_LAST_MS     a new one is waited for; this one is given when that fails, or takes longer than RESOLVE_PATIENCE_MS
 *   older                     never
 *
 * Where there is none, the name's IPv4 addresses alone are one after RESOLVE_PATIENCE_MS.
 *
 * A name that failed and has no answer is not kept: the next caller asks again. */
#ifndef JETON_NET_RESOLVER_H
#define JETON_NET_RESOLVER_H

#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/wheel.h"
#include "net/address.h"
#include "net/answers.h"

enum {
  RESOLVE_FRESH_MS = 30 * 1000,
  RESOLVE_STALE_MS = 60 * 1000,
  RESOLVE_LAST_MS = 60 * 60 * 1000,
  RESOLVE_PATIENCE_MS = 1000
};

struct registry; /* base/named.h */
struct name;     /* resolver.c's: what the cache knows of one */
struct resolver; /* one a thread */
struct resolve { /* a request for addresses, embedded in the waiter */
  /* set by the caller: status 0 and n > 0 addresses, which are valid during the call; or an error. */
  void (*done)(struct resolve *q, int status, const union address *v, unsigned n);
  /* 0: any answer. Else the number of an answer whose addresses all failed: a newer one is wanted. There may be none (UV_EAGAIN): the name was asked a moment ago, or
   * does not answer within RESOLVE_PATIENCE_MS. */
  uint64_t beyond;
  /* resolver.c's */
  uint64_t number; /* of the answer: in `done`, for `beyond`. 0: a literal, which has no other */
  struct link link;
  struct resolver *resolver;
  struct name *name; /* NULL: it is not waiting */
  uint64_t round;    /* an outcome behind this one is waited for */
  struct timeout patience;
  uint16_t port;
};

/* `names` holds the cache, so that all resolvers of one registry share it; NULL: one of its own. The others are the thread's, and outlive this. */
struct resolver *resolver_new(struct registry *names, uv_loop_t *loop, struct mailbox *mailbox, struct wheel *wheel);
/* Pending ones end with UV_ECANCELED before this returns. closed (may be NULL) is called when the memory has gone: before this returns
 * when no getaddrinfo of this thread is under way, which nothing can stop once it runs. */
void resolver_close(struct resolver *r, void (*closed)(void *), void *arg);
/* host: a name or a literal (brackets around IPv6 are allowed); not kept. Calls done exactly once: before returning, when the answer is known (a literal, a cached
 * name); later otherwise. */
void resolver_lookup(struct resolver *r, struct resolve *q, const char *host, uint16_t port);
void resolver_cancel(struct resolve *q); /* after a lookup, whether it is over or not: done is not called any more */

/* For a name that this thread has connections to: asks for it anew when its answer is no longer fresh. Returns how many addresses the name has settled on (net/answers.h), in v
 * without a port: a connection to any other address leads where the name does not any more. 0: nothing is known for certain. */
unsigned resolver_settled(struct resolver *r, const char *host, union address v[RESOLVE_MAX]);

#endif
