/* worker.c: the life of a worker's thread, what control orders it to do, and its counters. What a connection does is in conn.c, what accepts one in listener.c.
 *
 * A policy is prepared beside the active one and takes its place in one assignment (switch_runtime); connections stay, and each exchange keeps the runtime that it began
 * with, by a reference. Draining: the accept queue of the kernel is served for DRAIN_TURNS turns of the loop, then the listeners close, idle connections with them, and the order is
 * answered when the last connection is gone.
 *
 * End: STOP closes listeners, tunnels and connections; when the last connection is gone the runtime goes, then what the thread owns (services_close
 * runs the loop until every handle is closed), then the memory of exchanges, to which scripts' handles may point until their VM is gone.
 * Everything below runs on the worker's thread, except worker_new, _start, _post, _counts and _join. */
#include "proxy/worker.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "base/secmem.h"
#include "base/thread.h"
#include "proxy/conn.h"
#include "proxy/l_exchange.h"
#include "proxy/listener.h"
#include "proxy/tunnel.h"
#include "proxy/worker_state.h"

enum { GAUGE_MS = 250, DRAIN_TURNS = 2 };

/* --- connections --- */

static void maybe_drained(struct worker *w) {
  if (w->nconns > 0) return;
  if (w->drain != NULL && w->drain_turns == 0 && list_empty(&w->listeners)) {
    struct order *o = w->drain;
    w->drain = NULL;
    order_answer(o, 0);
  }
  if (w->stopping) uv_stop(&w->services.loop);
}

void worker_conn_new(struct worker *w, struct conn *c) {
  w->nconns++;
  list_push(&w->fresh, &c->link);
  COUNT(w, accepted, 1);
  COUNT(w, connections, 1);
}

void worker_conn_gone(struct worker *w, struct conn *c) {
  assert(w->nconns > 0);
  w->nconns--;
  list_remove(&c->link);
  COUNT(w, connections, (uint64_t)-1);
  if (!w->stopping) listeners_resume(w);
  maybe_drained(w);
}

/* --- orders --- */

static void prepare(struct worker *w, struct order *o) {
  assert(w->prepared == NULL);
  w->prepared = runtime_new(o->policy, o->tokens, &w->services, l_exchange_open, o->message, sizeof o->message);
  secmem_wipe_stack(); /* the load may have read secrets, and a worker that gets no connection overwrites nothing */
  order_answer(o, w->prepared != NULL ? 0 : ERR_CONFIG);
}

/* RLIM_INFINITY: as many as one likes. */
static rlim_t descriptor_limit(void) {
  struct rlimit r;
  return getrlimit(RLIMIT_NOFILE, &r) == 0 ? r.rlim_cur : RLIM_INFINITY;
}

/* See net_has_descriptor. */
static int descriptor_bound(void) {
  enum { KEPT_MIN = 2, KEPT_MAX = 16, SHARE = 8 };
  rlim_t all = descriptor_limit();
  if (all == RLIM_INFINITY || all > INT_MAX) return 0;
  rlim_t kept = all / SHARE;
  return (int)(all - (kept < KEPT_MIN ? KEPT_MIN : kept > KEPT_MAX ? KEPT_MAX : kept));
}

static unsigned connection_limit(const struct worker *w, const struct policy *p) {
  enum { RESERVED = 64, PER_CONNECTION = 2 /* the client's and the upstream's descriptor */, LEAST = 16 };
  if (p->limits.connections > 0) return (p->limits.connections + w->count - 1) / w->count;
  rlim_t all = descriptor_limit();
  if (all == RLIM_INFINITY) return 1u << 20;
  rlim_t per_worker = all > RESERVED ? (all - RESERVED) / PER_CONNECTION / w->count : 0;
  return per_worker > LEAST ? (unsigned)per_worker : LEAST;
}

static bool same_path(const char *a, const char *b) { return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0); }

static void reopen_access_log(struct worker *w) {
  if (w->access == NULL) return;
  int rc = access_reopen(&w->access->log);
  if (rc != 0) log_warn("access log %s: cannot be opened again: %s", w->access->log.path, err_text(rc));
}

static void switch_access_log(struct worker *w, const struct policy *p) {
  if (w->access != NULL && p->access_log && same_path(w->access->log.path, p->access_path)) {
    reopen_access_log(w); /* after a rotation, a reload writes to the new file */
    return;
  }
  if (w->access != NULL) access_close(&w->access->log);
  w->access = NULL;
  if (!p->access_log) return;
  struct access_sink *s = must_calloc(1, sizeof *s);
  int rc = access_open(&s->log, &w->services.loop, p->access_path);
  if (rc != 0) {
    log_error("access log %s: %s", p->access_path != NULL ? p->access_path : "(standard output)", err_text(rc));
    free(s);
    return;
  }
  list_push(&w->sinks, &s->link);
  w->access = s;
}

static void switch_runtime(struct worker *w, struct order *o) {
  assert(w->prepared != NULL);
  struct runtime *old = w->runtime;
  w->runtime = w->prepared;
  w->services.net.queued_most = w->runtime->policy->limits.buffered;
  w->prepared = NULL;
  w->services.keepalive = w->runtime->policy->tcp_keepalive;
  w->max_conns = connection_limit(w, w->runtime->policy);
  w->services.net.fd_max = descriptor_bound();
  switch_access_log(w, w->runtime->policy);
  int rc = listeners_switch(w, w->runtime->policy, o->listen_fds);
  if (old != NULL) runtime_unref(old);
  listeners_resume(w); /* the limit may be a higher one */
  order_answer(o, rc);
}

static void discard(struct worker *w, struct order *o) {
  if (w->prepared != NULL) runtime_unref(w->prepared);
  w->prepared = NULL;
  order_answer(o, 0);
}

static void drain_all(struct link *conns) {
  for (struct link *l = conns->next, *next; l != conns; l = next) {
    next = l->next;
    conn_drain(CONTAINER_OF(l, struct conn, link));
  }
}

/* What stands in the kernel's accept queue is served, too: two turns of the loop take it before the sockets close. */
static void on_listeners_mail(struct mail *m) {
  struct worker *w = CONTAINER_OF(m, struct worker, listeners_mail);
  if (w->drain_turns > 0 && --w->drain_turns > 0) {
    mailbox_post(&w->services.mailbox, m);
    return;
  }
  w->draining = true;
  listeners_close(w);
  drain_all(&w->busy); /* those that serve several requests at once are told that no more are wanted */
  drain_all(&w->fresh);
  drain_all(&w->idle);
  maybe_drained(w);
}

static void on_room_mail(struct mail *m) { listeners_resume(CONTAINER_OF(m, struct worker, room_mail)); }

static void drain(struct worker *w, struct order *o) {
  w->drain = o;
  w->drain_turns = DRAIN_TURNS;
  mailbox_post(&w->services.mailbox, &w->listeners_mail);
}

static void close_all(struct link *conns) {
  for (struct link *l = conns->next, *next; l != conns; l = next) {
    next = l->next;
    conn_abandon(CONTAINER_OF(l, struct conn, link));
  }
}

static void stop(struct worker *w, struct order *o) {
  w->stop = o;
  w->draining = w->stopping = true;
  w->drain_turns = 0;
  mailbox_cancel(&w->services.mailbox, &w->listeners_mail);
  mailbox_cancel(&w->services.mailbox, &w->room_mail);
  listeners_close(w);
  tunnels_close(w);
  close_all(&w->busy);
  close_all(&w->idle);
  close_all(&w->fresh);
  maybe_drained(w);
}

static void carry_out(void *receiver, struct order *o) {
  struct worker *w = receiver;
  switch (o->kind) {
    case ORDER_PREPARE: prepare(w, o); break;
    case ORDER_SWITCH: switch_runtime(w, o); break;
    case ORDER_DISCARD: discard(w, o); break;
    case ORDER_DRAIN: drain(w, o); break;
    case ORDER_STOP: stop(w, o); break;
    case ORDER_REOPEN:
      reopen_access_log(w);
      order_answer(o, 0);
      break;
    case ORDER_PROVE:
    case ORDER_END_PROOF: assert(false); /* the keeper's */
  }
}

void worker_post(struct worker *w, struct order *o) { order_post(o, &w->services.mailbox, carry_out, w); }

/* --- counters --- */

/* What the last requests have left in the thread's buffer, in frames of calls that are over and in registers: whenever nothing was read for one gauge. A thread that reads overwrites
 * it by itself. Once behind each rest would not do: mail, timers and the pool's results have a thread write heads without a read. */
static void forget_at_rest(struct worker *w) {
  bool rests = w->services.net.reads == w->reads_then;
  w->reads_then = w->services.net.reads;
  if (!rests) return;
  net_forget(&w->services.net);
  secmem_wipe_stack();
}

static void on_gauge(uv_timer_t *t) {
  struct worker *w = t->data;
  struct origins_counts o = origins_counts(w->services.origins);
  atomic_store_explicit(&w->counts.upstream_h2, o.h2, memory_order_relaxed);
  atomic_store_explicit(&w->counts.upstream_idle, o.idle, memory_order_relaxed);
  atomic_store_explicit(&w->counts.upstream_leased, o.leased, memory_order_relaxed);
  atomic_store_explicit(&w->counts.upstream_dialed, o.dialed, memory_order_relaxed);
  exchange_pool_trim(&w->exchanges);
  if (w->runtime != NULL) vm_collect_step(w->runtime->vm);
  forget_at_rest(w);
  uint64_t vm = w->runtime != NULL ? vm_memory(w->runtime->vm) : 0;
  atomic_store_explicit(&w->counts.vm_bytes, vm, memory_order_relaxed);
  repeats_report(&w->repeats, uv_now(&w->services.loop), false);
}

void worker_counts(const struct worker *w, struct worker_counts *out) {
#define ADD(field) out->field += atomic_load_explicit(&w->counts.field, memory_order_relaxed);
#define XX(field, kind, help) ADD(field)
  WORKER_COUNTS(XX)
#undef XX
  for (int i = 0; i < 6; i++) ADD(responses[i])
#undef ADD
}

/* --- life --- */

struct worker *worker_new(unsigned index, unsigned count, struct registry *names, struct addresses *addresses) {
  struct worker *w = calloc(1, sizeof *w);
  if (w == NULL) return NULL;
  w->index = index;
  w->count = count;
  w->names = names;
  w->addresses = addresses;
  random_bytes(&w->id_base, sizeof w->id_base);
  list_init(&w->listeners);
  list_init(&w->fresh);
  list_init(&w->idle);
  list_init(&w->busy);
  list_init(&w->tunnels);
  exchange_pool_init(&w->exchanges);
  h1_outs_init(&w->outs);
  list_init(&w->sinks);
  mail_init(&w->listeners_mail, on_listeners_mail);
  mail_init(&w->room_mail, on_room_mail);
  return w;
}

static void take_down(struct worker *w) {
  repeats_report(&w->repeats, uv_now(&w->services.loop), true);
  uv_close((uv_handle_t *)&w->gauge, NULL);
  laters_close(&w->later);
  if (w->prepared != NULL) runtime_unref(w->prepared);
  if (w->runtime != NULL) runtime_unref(w->runtime);
  if (w->access != NULL) access_close(&w->access->log);
  services_close(&w->services);
  struct link *l;
  while ((l = list_pop(&w->sinks)) != NULL) free(CONTAINER_OF(l, struct access_sink, link));
  exchange_pool_fini(&w->exchanges);
  h1_outs_fini(&w->outs);
}

static void *run(void *arg) {
  struct worker *w = arg;
  uv_run(&w->services.loop, UV_RUN_DEFAULT);
  struct order *o = w->stop;
  take_down(w);
  order_answer(o, 0);
  return NULL;
}

int worker_start(struct worker *w) {
  int rc = services_init(&w->services, w->names);
  if (rc != 0) return rc;
  laters_init(&w->later, &w->services.loop);
  uv_timer_init(&w->services.loop, &w->gauge);
  w->gauge.data = w;
  uv_timer_start(&w->gauge, on_gauge, GAUGE_MS, GAUGE_MS);
  return thread_start(&w->thread, run, w);
}

void worker_join(struct worker *w) {
  pthread_join(w->thread, NULL);
  free(w);
}
