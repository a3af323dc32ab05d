/* listener.c: see listener.h.
 *
 * When all places are taken the connection idle longest is closed for the new one; when none is idle the new one is left in libuv's hand, which stops
 * polling the socket until it is accepted: nothing spins, and the kernel's queue is what waits. */
#include "proxy/listener.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "net/tls.h"
#include "proxy/conn.h"
#include "proxy/worker_internal.h"

enum { BACKLOG = 1024 };

struct listener {
  struct link link;
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } uv;
  struct worker *worker;
  char *key; /* listen_conf.text */
  struct tls_server *tls;
  bool held; /* a connection waits to be accepted */
  bool wanted;
};

static bool make_room(struct worker *w) {
  if (w->nconns < w->max_conns) return true;
  if (list_empty(&w->idle)) return false;
  conn_close(CONTAINER_OF(w->idle.next, struct conn, link));
  return true;
}

static void on_connection(uv_stream_t *s, int status) {
  struct listener *l = s->data;
  if (status != 0) {
    log_warn("accepting on %s: %s", l->key, err_text(status));
    return;
  }
  l->held = !make_room(l->worker);
  if (!l->held) conn_accept(l->worker, s, l->tls);
}

void listeners_resume(struct worker *w) {
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next) {
    struct listener *l = CONTAINER_OF(i, struct listener, link);
    if (!l->held || !make_room(w)) continue;
    l->held = false;
    conn_accept(w, &l->uv.stream, l->tls);
  }
}

void listeners_want_room(struct worker *w) {
  bool held = false;
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next)
    if (CONTAINER_OF(i, struct listener, link)->held) held = true;
  if (held && w->room_mail.in == NULL) mailbox_post(&w->services.mailbox, &w->room_mail);
}

static void on_listener_closed(uv_handle_t *h) {
  struct listener *l = h->data;
  if (l->tls != NULL) tls_server_unref(l->tls);
  free(l->key);
  free(l);
}

static void listener_close(struct listener *l) {
  list_remove(&l->link);
  uv_close(&l->uv.handle, on_listener_closed);
}

static struct listener *listener_find(struct worker *w, const char *key) {
  for (struct link *i = w->listeners.next; i != &w->listeners; i = i->next) {
    struct listener *l = CONTAINER_OF(i, struct listener, link);
    if (strcmp(l->key, key) == 0) return l;
  }
  return NULL;
}

static int open_handle(struct listener *l, bool is_unix, int fd) {
  uv_loop_t *loop = &l->worker->services.loop;
  if (is_unix)
    uv_pipe_init(loop, &l->uv.pipe, 0);
  else
    uv_tcp_init(loop, &l->uv.tcp);
  l->uv.handle.data = l;
  int rc = is_unix ? uv_pipe_open(&l->uv.pipe, fd) : uv_tcp_open(&l->uv.tcp, fd);
  return rc != 0 ? rc : uv_listen(&l->uv.stream, BACKLOG, on_connection);
}

static int listener_open(struct worker *w, const struct listen_conf *conf, int fd) {
  struct listener *l = calloc(1, sizeof *l);
  if (l == NULL) abort();
  l->worker = w;
  l->wanted = true;
  l->key = strdup(conf->text);
  l->tls = conf->tls != NULL ? tls_server_ref(conf->tls) : NULL;
  list_push(&w->listeners, &l->link);
  int rc = open_handle(l, conf->address.sa.sa_family == AF_UNIX, fd);
  if (rc != 0) {
    log_error("listening on %s: %s", conf->text, err_text(rc));
    listener_close(l);
  }
  return rc;
}

static void keep(struct listener *l, const struct listen_conf *conf) { /* the certificates may be new */
  struct tls_server *tls = conf->tls != NULL ? tls_server_ref(conf->tls) : NULL;
  if (l->tls != NULL) tls_server_unref(l->tls);
  l->tls = tls;
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
    if (!l->wanted) listener_close(l);
  }
  return result;
}

void listeners_close(struct worker *w) {
  while (!list_empty(&w->listeners)) listener_close(CONTAINER_OF(w->listeners.next, struct listener, link));
}
