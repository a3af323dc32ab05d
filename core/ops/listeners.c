/* listeners.c: the difference between the sockets that are open and those that a policy wants.
 *
 * Everything that can fail (an address in use, no permission) fails while the plan is made, before any worker hears of it. The descriptors
 * belong to the plan until the switch, to the workers from then on. Control's thread. */
#include "ops/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/must.h"

enum { BACKLOG = 1024, TEXT_MAX = 128 };

bool address_taken(const union address *a) {
  if (a->sa.sa_family == AF_UNIX) return false; /* address_listen finds out about a living one itself */
  int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  int on = 1;
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  /* Without SO_REUSEPORT the kernel refuses an address where another socket listens. */
  bool taken = bind(fd, &a->sa, address_len(a)) != 0 && errno == EADDRINUSE;
  (void)close(fd);
  return taken;
}

static const struct listener_entry *find_listener(const struct listeners *l, const char *key) {
  for (size_t i = 0; i < l->n; i++) {
    if (strcmp(l->v[i].key, key) == 0) return &l->v[i];
  }
  return NULL;
}

static unsigned port_of(const union address *a) {
  if (a->sa.sa_family == AF_INET) return ntohs(a->in.sin_port);
  if (a->sa.sa_family == AF_INET6) return ntohs(a->in6.sin6_port);
  return 0;
}

static int *fd_at(struct listen_plan *plan, unsigned worker, size_t index) {
  return &plan->fds[worker * plan->next.n + index];
}

/* One descriptor a worker. Those opened before a failure stay in the plan, for its discard. */
static int open_all(struct listen_plan *plan, size_t index) {
  union address *a = &plan->next.v[index].address;
  if (port_of(a) != 0 && address_taken(a)) return UV_EADDRINUSE;
  for (unsigned w = 0; w < plan->workers; w++) {
    bool share = w > 0 && a->sa.sa_family == AF_UNIX;
    int fd = share ? fcntl(*fd_at(plan, 0, index), F_DUPFD_CLOEXEC, 3) : address_listen(a, BACKLOG);
    if (fd < 0) return share ? -errno : fd;
    *fd_at(plan, w, index) = fd;
  }
  return 0;
}

static int plan_one(struct listen_plan *plan, const struct listeners *now, const struct listen_conf *conf, size_t index,
                    char *err, size_t errsize) {
  struct listener_entry *e = &plan->next.v[index];
  const struct listener_entry *open = find_listener(now, conf->text);
  for (size_t i = 0; i < index; i++) {
    if (strcmp(plan->next.v[i].key, conf->text) != 0) continue;
    (void)snprintf(err, errsize, "listen: %s stands there twice", conf->text);
    return ERR_CONFIG;
  }
  e->tls = conf->tls != NULL;
  e->address = open != NULL ? open->address : conf->address;
  e->key = must_strdup(conf->text);
  if (open != NULL) return 0;
  int status = open_all(plan, index);
  bool low = status == UV_EACCES && port_of(&e->address) > 0 && port_of(&e->address) < 1024;
  if (status != 0)
    (void)snprintf(err, errsize, "cannot listen on %s: %s%s", conf->text, err_text(status),
                   low ? " (a port below 1024 wants root or CAP_NET_BIND_SERVICE)" : "");
  return status;
}

int listen_plan_make(struct listen_plan *plan, const struct listeners *now, const struct policy *p, unsigned workers,
                     char *err, size_t errsize) {
  size_t n = p->nlistens, room = n > 0 ? n : 1;
  *plan = (struct listen_plan){.workers = workers};
  plan->next.n = n;
  plan->next.v = must_calloc(room, sizeof *plan->next.v);
  plan->fds = must_malloc(room * workers * sizeof *plan->fds);
  for (size_t i = 0; i < room * workers; i++) plan->fds[i] = -1;
  for (size_t i = 0; i < n; i++) {
    int status = plan_one(plan, now, &p->listens[i], i, err, errsize);
    if (status == 0) continue;
    listen_plan_discard(plan);
    return status;
  }
  return 0;
}

const int *listen_plan_fds(const struct listen_plan *plan, unsigned worker) {
  return &plan->fds[worker * plan->next.n];
}

static void free_entries(struct listeners *l) {
  for (size_t i = 0; i < l->n; i++) free(l->v[i].key);
  free(l->v);
  *l = (struct listeners){0};
}

static void free_plan(struct listen_plan *plan) {
  free(plan->fds);
  *plan = (struct listen_plan){0};
}

static void remove_file(const struct listener_entry *e) {
  if (e->address.sa.sa_family == AF_UNIX) (void)unlink(e->address.un.sun_path);
}

void listen_plan_discard(struct listen_plan *plan) {
  for (size_t i = 0; i < plan->next.n; i++) {
    if (*fd_at(plan, 0, i) >= 0) remove_file(&plan->next.v[i]);
    for (unsigned w = 0; w < plan->workers; w++) {
      if (*fd_at(plan, w, i) >= 0) (void)close(*fd_at(plan, w, i));
    }
  }
  free_entries(&plan->next);
  free_plan(plan);
}

void listen_plan_commit(struct listen_plan *plan, struct listeners *now) {
  for (size_t i = 0; i < now->n; i++) {
    if (find_listener(&plan->next, now->v[i].key) == NULL) remove_file(&now->v[i]);
  }
  for (size_t i = 0; i < plan->next.n; i++) {
    char url[TEXT_MAX];
    listener_url(&plan->next.v[i], url, sizeof url);
    if (find_listener(now, plan->next.v[i].key) == NULL) log_info("listening on %s", url);
  }
  free_entries(now);
  *now = plan->next;
  free_plan(plan);
}

void listeners_fini(struct listeners *l) {
  for (size_t i = 0; i < l->n; i++) remove_file(&l->v[i]);
  free_entries(l);
}

void listener_url(const struct listener_entry *e, char *out, size_t n) {
  char address[TEXT_MAX];
  if (address_format(&e->address, address, sizeof address) < 0) address[0] = '\0';
  bool file = e->address.sa.sa_family == AF_UNIX;
  const char *any = address[0] == ':' ? "[::]" : ""; /* ":8080" is no URL's authority */
  (void)snprintf(out, n, "%s%s%s", file ? "" : e->tls ? "https://" : "http://", any, address);
}
