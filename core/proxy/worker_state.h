/* worker_state.h: the body of struct worker, for the files of proxy/ only. */
#ifndef JETON_PROXY_WORKER_STATE_H
#define JETON_PROXY_WORKER_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/access.h"
#include "base/later.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "base/rand.h"
#include "base/wheel.h"
#include "http/origin.h"
#include "http/services.h"
#include "proxy/h1_message.h"
#include "proxy/pool.h"
#include "proxy/repeats.h"
#include "proxy/runtime.h"
#include "proxy/stamp.h"
#include "proxy/worker_counts.h"

struct conn;
struct exchange;
struct listener;

struct access_sink { /* kept until the worker ends: its timer may still be closing when another one is in use */
  struct link link;
  struct access_log log;
};

struct worker {
  /* immutable after worker_new */
  unsigned index, count;
  struct registry *names; /* the process's */
  struct addresses *addresses;
  uint64_t id_base; /* random: ids of requests do not repeat over workers and restarts */
  /* owned by the worker's thread */
  pthread_t thread;
  struct services services; /* loop, mailbox, timer wheel, upstream connections */
  struct runtime *runtime;  /* the active policy; NULL before the first SWITCH */
  struct runtime *prepared; /* waits for SWITCH */
  struct link listeners;
  /* struct conn: those that have had nothing of a request yet, in the order they came; between requests, the one idle longest first; the others */
  struct link fresh, idle, busy;
  struct link tunnels;
  struct laters later;
  struct h1_outs outs;
  struct exchange_pool exchanges;
  struct link sinks;
  struct access_sink *access; /* NULL: off */
  struct stamp stamp;
  struct repeats repeats; /* failures that the log has had enough of */
  unsigned nconns, max_conns;
  unsigned handshakes; /* connections among them whose TLS handshake is under way */
  bool draining, stopping;
  uint64_t next_id;
  uv_timer_t gauge;    /* copies gauges to `counts` */
  uint64_t reads_then; /* net.reads when the gauge was last there */
  struct order *drain; /* answered when the last connection is gone */
  struct order *stop;  /* answered when the thread ends */
  /* DRAIN: the accept queue is emptied for `drain_turns` turns of the loop before the listeners close */
  struct mail listeners_mail;
  unsigned drain_turns;
  struct mail room_mail; /* listeners_want_room */
  /* written by the worker's thread, read by any: relaxed */
  struct {
#define XX(field, kind, help) atomic_uint_fast64_t field;
    WORKER_COUNTS(XX)
#undef XX
    atomic_uint_fast64_t responses[6];
  } counts;
};

/* Whoever feeds a peer with `queued` bytes waiting is to pause: the peer is slow, or all peers of this worker together are. */
static inline bool worker_overfull(const struct worker *w, size_t queued) {
  enum { HIGH_WATER = 64 * 1024 };
  return queued > HIGH_WATER || (queued > 0 && w->services.net.queued > w->runtime->policy->limits.buffered);
}

#define COUNT(w, what, by)                                                                                       \
  atomic_store_explicit(&(w)->counts.what, atomic_load_explicit(&(w)->counts.what, memory_order_relaxed) + (by), \
                        memory_order_relaxed)

void worker_conn_new(struct worker *w, struct conn *c);
void worker_conn_gone(struct worker *w, struct conn *c);

#endif
