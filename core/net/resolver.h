/* resolver.h: names to addresses (DNS, /etc/hosts), with a cache for each thread.
 *
 * libuv's thread pool runs getaddrinfo, so the loop never waits for a name server. Answers are kept for RESOLVE_TTL_MS, whatever the TTL of the records, which
 * getaddrinfo does not report. An older answer is still given, and refreshed in the background. A refresh that fails keeps the old answer. Owned by the loop's
 * thread. */
#ifndef JETON_NET_RESOLVER_H
#define JETON_NET_RESOLVER_H

#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "net/address.h"

struct resolver; /* one a thread */
struct resolve { /* a request for addresses, embedded in the waiter */
  struct link link;
  void (*done)(struct resolve *r, int status, const union address *v, unsigned n); /* v valid during the call */
  void *owner;
  uint16_t port; /* the resolver's note */
};
enum { RESOLVE_TTL_MS = 30 * 1000, RESOLVE_MAX = 16 };
struct resolver *resolver_new(uv_loop_t *loop);
/* Pending ones end with UV_ECANCELED before this returns. closed (may be NULL) is called when the memory has gone: before this returns
 * when no getaddrinfo is under way, which nothing can stop once it runs. */
void resolver_close(struct resolver *r, void (*closed)(void *), void *arg);
/* host: a name or a literal (brackets around IPv6 are allowed); not kept. Calls done exactly once: before returning, when the answer is known (a literal, a cached
 * name); later otherwise. */
void resolver_lookup(struct resolver *r, struct resolve *q, const char *host, uint16_t port);
void resolver_cancel(struct resolve *q); /* after a lookup, whether it is over or not: done is not called any more */

#endif
