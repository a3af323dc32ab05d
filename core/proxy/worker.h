/* worker.h: one worker thread: its loop, its listeners, connections, upstream connections and VM.
 *
 * Control talks to it by orders (policy/order.h). An exchange pins the runtime it began with. Control's thread calls what is here. */
#ifndef JETON_PROXY_WORKER_H
#define JETON_PROXY_WORKER_H

#include <stdint.h>

#include "policy/order.h"
#include "proxy/worker_counts.h"

struct addresses;
struct registry;
struct worker;

/* The index-th of `count` workers: each takes its share of the process's descriptors. `addresses` is shared by all, and outlives them; NULL when no policy
 * limits connections by address. */
struct worker *worker_new(unsigned index, unsigned count, struct registry *names, struct addresses *addresses);
int worker_start(struct worker *w); /* 0, or libuv's error: no thread runs then */

/* Asynchronous: carries out the order on the worker's thread, see policy/order.h. */
void worker_post(struct worker *w, struct order *o);
/* Adds the worker's to *out. Any thread: each is read by itself (relaxed), so two of them may be of different moments. */
void worker_counts(const struct worker *w, struct worker_counts *out);
void worker_join(struct worker *w); /* after STOP was answered; frees it */

#endif
