/* resolver.c: names to addresses, one cache a thread. Owned by the loop's thread; getaddrinfo runs on libuv's pool.
 *
 * At most one getaddrinfo is under way for a name, however many callers wait for it. An answer that is older than RESOLVE_TTL_MS is still given at once while a
 * new one is fetched; names that failed are not kept. The cache holds NAMES_MAX names; the one used longest ago goes first.
 *
 * A struct name is not freed while its request runs or its waiters are being called. They are called from a list of their own, so that a callback may ask for
 * the same name again, cancel its neighbours or close the resolver. */
#include "net/resolver.h"

#include <assert.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/must.h"

enum { NAMES_MAX = 256, RETRY_MS = 1000 };

struct name {
  uv_getaddrinfo_t req;
  struct link link; /* resolver->names */
  struct resolver *resolver;
  struct link waiting; /* of struct resolve: for the request that runs */
  struct link batch;   /* of struct resolve: being called */
  bool running;        /* req is */
  bool telling;        /* on_answer is on the stack */
  uint64_t stale_at;   /* on uv_now's clock: refresh when used after that */
  unsigned n;
  union address v[RESOLVE_MAX];
  char host[];
};
struct resolver {
  uv_loop_t *loop;
  struct link names; /* used last first */
  unsigned nnames;
  unsigned running; /* requests whose callback has not returned */
  bool closing;
  void (*closed)(void *);
  void *closed_arg;
};

static void set_port(union address *a, uint16_t port) {
  if (a->sa.sa_family == AF_INET6)
    a->in6.sin6_port = htons(port);
  else
    a->in.sin_port = htons(port);
}

static bool parse_literal(const char *host, union address *out) {
  char text[64];
  size_t n = strlen(host);
  if (n > 2 && n < sizeof text && host[0] == '[' && host[n - 1] == ']') {
    memcpy(text, host + 1, n - 2);
    text[n - 2] = '\0';
    return uv_ip6_addr(text, 0, &out->in6) == 0;
  }
  return uv_ip4_addr(host, 0, &out->in) == 0 || uv_ip6_addr(host, 0, &out->in6) == 0;
}

/* --- the cache --- */

static bool is_busy(const struct name *e) { return e->running || e->telling; }

static void name_free(struct name *e) {
  assert(!is_busy(e) && list_empty(&e->waiting));
  list_remove(&e->link);
  e->resolver->nnames--;
  free(e);
}

static void drop_oldest(struct resolver *r) {
  for (struct link *l = r->names.prev; l != &r->names; l = l->prev) {
    struct name *e = CONTAINER_OF(l, struct name, link);
    if (is_busy(e)) continue;
    name_free(e);
    return;
  }
}

static struct name *name_get(struct resolver *r, const char *host) {
  for (struct link *l = r->names.next; l != &r->names; l = l->next) {
    struct name *e = CONTAINER_OF(l, struct name, link);
    if (strcasecmp(e->host, host) != 0) continue;
    list_remove(&e->link);
    list_push_front(&r->names, &e->link);
    return e;
  }
  if (r->nnames >= NAMES_MAX) drop_oldest(r);
  struct name *e = must_calloc(1, sizeof *e + strlen(host) + 1);
  e->resolver = r;
  list_init(&e->waiting);
  list_init(&e->batch);
  strcpy(e->host, host);
  list_push_front(&r->names, &e->link);
  r->nnames++;
  return e;
}

static void keep_answer(struct name *e, const struct addrinfo *list) {
  unsigned n = 0;
  for (const struct addrinfo *ai = list; ai != NULL && n < RESOLVE_MAX; ai = ai->ai_next) {
    if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6) continue;
    e->v[n] = (union address){0};
    memcpy(&e->v[n++], ai->ai_addr, ai->ai_addrlen);
  }
  e->n = n;
}

/* --- telling --- */

static void tell(struct resolve *q, uint16_t port, int status, const union address *known, unsigned n) {
  union address v[RESOLVE_MAX];
  for (unsigned i = 0; i < n; i++) {
    v[i] = known[i];
    set_port(&v[i], port);
  }
  q->done(q, status, v, n);
}

static void tell_all(struct link *batch, int status, const struct name *e) {
  struct link *l;
  while ((l = list_pop(batch)) != NULL) {
    struct resolve *q = CONTAINER_OF(l, struct resolve, link);
    tell(q, q->port, status, e->v, status == 0 ? e->n : 0);
  }
}

static void maybe_closed(struct resolver *r) {
  if (!r->closing || r->running > 0) return;
  void (*closed)(void *) = r->closed;
  void *arg = r->closed_arg;
  while (!list_empty(&r->names)) name_free(CONTAINER_OF(r->names.next, struct name, link));
  free(r);
  if (closed != NULL) closed(arg);
}

/* --- asking --- */

static void on_answer(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
  struct name *e = CONTAINER_OF(req, struct name, req);
  struct resolver *r = e->resolver;
  e->running = false;
  if (status == 0) keep_answer(e, list);
  uv_freeaddrinfo(list);
  if (status == 0 && e->n == 0) status = UV_EAI_NODATA;
  e->stale_at = uv_now(r->loop) + (status == 0 ? RESOLVE_TTL_MS : RETRY_MS);
  e->telling = true; /* and r->running still counts this one: both outlive the callbacks */
  list_splice(&e->batch, &e->waiting);
  tell_all(&e->batch, e->n > 0 ? 0 : status, e);
  e->telling = false;
  if (e->n == 0 && !e->running) name_free(e);
  r->running--;
  maybe_closed(r);
}

static int ask(struct name *e) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
  int rc = uv_getaddrinfo(e->resolver->loop, &e->req, on_answer, e->host, NULL, &hints);
  if (rc != 0) return rc;
  e->running = true;
  e->resolver->running++;
  return 0;
}

void resolver_lookup(struct resolver *r, struct resolve *q, const char *host, uint16_t port) {
  union address literal = {0};
  list_init(&q->link);
  if (r->closing) {
    q->done(q, UV_ECANCELED, NULL, 0);
    return;
  }
  if (parse_literal(host, &literal)) {
    tell(q, port, 0, &literal, 1);
    return;
  }
  struct name *e = name_get(r, host);
  int rc = 0;
  if (!e->running && (e->n == 0 || uv_now(r->loop) >= e->stale_at)) rc = ask(e);
  if (e->n > 0) {
    tell(q, port, 0, e->v, e->n);
  } else if (rc != 0) {
    if (!is_busy(e)) name_free(e);
    q->done(q, rc, NULL, 0);
  } else {
    q->port = port;
    list_push(&e->waiting, &q->link);
  }
}

void resolver_cancel(struct resolve *q) { list_remove(&q->link); }

struct resolver *resolver_new(uv_loop_t *loop) {
  struct resolver *r = must_calloc(1, sizeof *r);
  r->loop = loop;
  list_init(&r->names);
  return r;
}

void resolver_close(struct resolver *r, void (*closed)(void *), void *arg) {
  assert(!r->closing);
  r->closing = true;
  r->closed = closed;
  r->closed_arg = arg;
  r->running++; /* this function: the callbacks below must not see r go */
  for (struct link *l = r->names.next; l != &r->names; l = l->next) {
    struct name *e = CONTAINER_OF(l, struct name, link);
    if (e->running)
      uv_cancel((uv_req_t *)&e->req); /* those that still wait for a thread; the others end by themselves */
    tell_all(&e->batch, UV_ECANCELED, e);
    tell_all(&e->waiting, UV_ECANCELED, e);
  }
  r->running--;
  maybe_closed(r);
}
