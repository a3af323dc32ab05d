/* listener.c: see listener.h.
 *
 * The socket is watched by a uv_poll_t and accepted from here, rather than by uv_listen, whose accept loop ends only when the kernel has nothing more: without
 * descriptors it would throw clients away, or go round in circles while another thread holds the last descriptor. Here a listener that can take nobody
 * stops watching, so that nothing spins and the kernel's queue is what waits:
 *  - all places are taken and no connection is idle: `held`, until one goes or becomes idle (listeners_resume), or a new one has been silent for so long that it
 *    counts as idle (`pause`);
 *  - no descriptor, no memory: for PAUSE_MS. The last descriptors are not for clients (net_has_descriptor).
 * When all places are taken, or descriptors are, the connection idle longest is closed for the new one. New connections counted as idle at first: then a crowd of clients threw
 * one another out before their requests were read. An address that has its share is turned
 * away before that, so that it cannot drive others out. */
#include "proxy/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"
#include "net/tls.h"
#include "proxy/conn.h"
#include "proxy/worker_state.h"

enum {
  ACCEPTS_MAX = 1024 /* a turn of the loop; the kernel's queue is as long */,
  PAUSE_MS = 100,
  TELL_MS = 10 * 1000
};

struct listener {
  struct link link;
  uv_poll_t poll;
  struct timeout pause;
  struct worker *worker;
  char *key; /* listen_conf.text */
  struct conn_settings settings;
  int fd;
  uint64_t told; /* uv_now of the last line about a failure; 0: none */
  bool held;     /* not watched: no place */
  bool wanted;
};

static bool has_room(const struct listener *l) {
  const struct worker *w = l->worker;
  if (l->settings.tls != NULL && w->handshakes >= w->runtime->policy->limits.handshakes) return false;
  return w->nconns < w->max_conns || conn_to_shed(l->worker) != NULL;
}

static void shed(struct worker *w, struct conn *c) {
  COUNT(w, shed, 1);
  conn_close(c);
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void watch(struct listener *l) {
  l->held = false;
  timeout_clear(&l->pause);
  uv_poll_start(&l->poll, UV_READABLE, on_ready);
}

static void on_pause_over(struct timeout *t) { watch(CONTAINER_OF(t, struct listener, pause)); }

static void tell_failure(struct listener *l, int error) {
  uint64_t now = uv_now(l->poll.loop);
  if (l->told > 0 && now - l->told < TELL_MS) return;
  l->told = now;
  log_warn("accepting on %s: %s", l->key, err_text(uv_translate_sys_error(error)));
}

static void rest(struct listener *l, int error) {
  tell_failure(l, error);
  uv_poll_stop(&l->poll);
  timeout_set(&l->pause, PAUSE_MS);
}

/* Nothing was accepted. True: it is worth trying again at once. */
static bool accept_failed(struct listener *l, int error) {
  if (error == EINTR || error == ECONNABORTED) return true;
  if (error == EAGAIN || error == EWOULDBLOCK) return false;
  if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
    return false; /* the one connection's own trouble (accept(2)); what waits behind it is told of again */
  struct conn *idlest = error == EMFILE ? conn_to_shed(l->worker) : NULL;
  if (idlest != NULL) { /* its descriptor is free at once */
    tell_failure(l, error);
    shed(l->worker, idlest);
    return true;
  }
  rest(l, error);
  return false;
}

static bool has_descriptor(const struct listener *l) {
  struct net *net = &l->worker->services.net;
  if (net_has_descriptor(net)) return true;
  struct conn *idlest = conn_to_shed(l->worker);
  if (idlest == NULL) return false;
  shed(l->worker, idlest);
  return net_has_descriptor(net);
}

static void take(struct listener *l, int fd, const union address *peer) {
  struct worker *w = l->worker;
  struct conn *idlest = w->nconns >= w->max_conns ? conn_to_shed(w) : NULL;
  if (conn_accept(w, fd, peer, &l->settings) && idlest != NULL) shed(w, idlest);
}

/* Stops watching until there is a place. */
static void hold(struct listener *l) {
  const struct worker *w = l->worker;
  uint64_t patience = w->runtime->policy->timeouts.head;
  l->held = true;
  uv_poll_stop(&l->poll);
  if (!list_empty(&w->fresh) && patience > 0) {
    uint32_t age = (uint32_t)uv_now(l->poll.loop) - CONTAINER_OF(w->fresh.next, struct conn, link)->accepted;
    patience = age < patience ? patience - age : 1;
  }
  timeout_set(&l->pause, patience);
}

static void on_ready(uv_poll_t *poll, int status, int events) {
  struct listener *l = CONTAINER_OF(poll, struct listener, poll);
  (void)status, (void)events; /* what is wrong, accept tells */
  for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
    if (!has_room(l)) {
      hold(l);
      return;
    }
    if (!has_descriptor(l)) {
      rest(l, EMFILE);
      return;
    }
    union address peer = {0};
    socklen_t n = sizeof peer;
    int fd = accept4(l->fd, &peer.sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (!accept_failed(l, errno)) return;
      continue;
    }
    take(l, fd, &peer);
    (void)net_may_keep(&l->worker->services.net, fd); /* one that it may not keep is served all the same */
  }
}

void listeners_resume(struct worker *w) {
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next) {
    struct listener *l = CONTAINER_OF(i, struct listener, link);
    if (l->held && has_room(l)) watch(l);
  }
}

void listeners_want_room(struct worker *w) {
  bool held = false;
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next)
    if (CONTAINER_OF(i, struct listener, link)->held) held = true;
  if (held && w->room_mail.in == NULL) mailbox_post(&w->services.mailbox, &w->room_mail);
}

static void on_poll_closed(uv_handle_t *h) {
  struct listener *l = CONTAINER_OF(h, struct listener, poll);
  if (l->settings.tls != NULL) tls_server_unref(l->settings.tls);
  free(l->key);
  free(l);
}

static void listener_close(struct listener *l) {
  list_remove(&l->link);
  timeout_fini(&l->pause);
  uv_close((uv_handle_t *)&l->poll, on_poll_closed);
  close(l->fd);
}

static struct listener *listener_find(struct worker *w, const char *key) {
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next) {
    struct listener *l = CONTAINER_OF(i, struct listener, link);
    if (strcmp(l->key, key) == 0) return l;
  }
  return NULL;
}

static struct conn_settings settings_of(const struct listen_conf *conf) {
  return (struct conn_settings){.tls = conf->tls != NULL ? tls_server_ref(conf->tls) : NULL,
                                .half_close = conf->half_close,
                                .http2 = conf->http2};
}

/* Takes the descriptor. */
static int listener_open(struct worker *w, const struct listen_conf *conf, int fd) {
  struct listener *l = must_calloc(1, sizeof *l);
  int rc = uv_poll_init(&w->services.loop, &l->poll, fd);
  if (rc != 0) {
    log_error("listening on %s: %s", conf->text, err_text(rc));
    free(l);
    close(fd);
    return rc;
  }
  l->worker = w;
  l->fd = fd;
  l->wanted = true;
  l->key = must_strdup(conf->text);
  l->settings = settings_of(conf);
  timeout_init(&l->pause, &w->services.wheel, on_pause_over);
  keepalive_set(fd, &conf->tcp_keepalive);
  list_push(&w->listeners, &l->link);
  watch(l);
  return 0;
}

static void keep(struct listener *l, const struct listen_conf *conf) { /* the certificates may be new */
  struct conn_settings settings = settings_of(conf);
  if (l->settings.tls != NULL) tls_server_unref(l->settings.tls);
  l->settings = settings;
  keepalive_set(l->fd, &conf->tcp_keepalive); /* of connections that come from now on */
  l->wanted = true;
}

int listeners_switch(struct worker *w, const struct policy *p, const int *fds) {
  int result = 0;
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next)
    CONTAINER_OF(i, struct listener, link)->wanted = false;
  for (size_t i = 0; i < p->nlistens; i++) {
    struct listener *l = listener_find(w, p->listens[i].text);
    if (l != NULL) {
      keep(l, &p->listens[i]);
      if (fds[i] >= 0) close(fds[i]);
    } else if (fds[i] >= 0) {
      int rc = listener_open(w, &p->listens[i], fds[i]);
      if (rc != 0) result = rc;
    }
  }
  for (struct link *i = w->listeners.next, *next; i != &w->listeners; i = next) {
    next = i->next;
    struct listener *l = CONTAINER_OF(i, struct listener, link);
    if (l->wanted) continue;
    on_ready(&l->poll, 0, UV_READABLE); /* who stands in the kernel's queue has connected, and would be reset */
    listener_close(l);
  }
  return result;
}

void listeners_close(struct worker *w) {
  while (!list_empty(&w->listeners)) listener_close(CONTAINER_OF(w->listeners.next, struct listener, link));
}
