/* resolver.c: see resolver.h.
 *
 * The cache is the process's (a named object of its registry): names in a hash table and in the order of their use, under one mutex. It is taken for a
 * dial and for a sweep over connections, never for a request on a connection that is there.
 *
 * A getaddrinfo belongs to the loop that began it, its outcome to the cache. It counts the name's `round` on, and each resolver that has somebody waiting gets one
 * mail; on its own thread it looks which of its waiters have got their outcome. A waiter is in no list that another thread touches, so cancelling it needs no
 * protocol. When a thread ends, the getaddrinfo that it began ends without an outcome; another thread that waits for it begins one of its own.
 *
 * getaddrinfo asks for both families and waits for both: five seconds and more where a name server or firewall swallows questions for AAAA, as some do. So when somebody has
 * waited for RESOLVE_PATIENCE_MS and no older answer is there, IPv4 is asked for alone, beside it (`half`; RFC 8305 section 3 does not wait for the other family either). Not IPv6
 * too: a name that hangs altogether would hold three threads of the pool, and questions for A are not swallowed.
 *
 * A struct name is not freed while somebody waits for it or its getaddrinfo runs. Waiters are called without the mutex, so a callback may ask for the same
 * name again, cancel its neighbours or close the resolver.
 */
#include "net/resolver.h"

#include <assert.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/must.h"
#include "base/named.h"
#include "net/answers.h"

enum {
  NAMES_MAX = 1024,
  BUCKETS = 256,
  RETRY_MS = 5000, /* after a failure, while an older answer is there */
  AGAIN_MS = 1000  /* a name whose addresses all fail is asked this often */
};

struct name {
  struct link link;    /* cache->used */
  struct link chained; /* its bucket */
  struct cache *cache;
  unsigned waiting;    /* requests of all threads that wait for it */
  struct query *query; /* under way; NULL: none */
  struct query *half;  /* another one beside it, for IPv4 alone */
  int64_t asked_at;    /* when the last one began */
  uint64_t round;      /* outcomes so far */
  int status;          /* of the last one */
  int64_t failed_at;   /* of the last failure */
  struct answers answers;
  char host[]; /* lower case */
};
struct cache {
  struct named named;
  pthread_mutex_t mutex; /* guards all that is below, and all of each name */
  struct link buckets[BUCKETS];
  struct link used; /* last first */
  unsigned nnames;
  uint64_t answers;
  struct link resolvers;
  struct hash_key key; /* immutable */
};
struct resolver {
  struct cache *cache;
  struct registry *own; /* the cache's, when nobody gave one */
  uv_loop_t *loop;
  struct mailbox *mailbox;
  struct wheel *wheel;
  struct mail outcome;
  struct link link; /* cache->resolvers; this and the next two: guarded by the cache's mutex */
  unsigned nwaiting;
  bool posted;
  struct link waiting; /* struct resolve */
  struct link queries;
  unsigned running; /* queries, and callbacks on the stack */
  bool closing;
  void (*closed)(void *);
  void *closed_arg;
};
struct query { /* one getaddrinfo */
  uv_getaddrinfo_t req;
  struct link link; /* resolver->queries */
  struct resolver *resolver;
  struct name *name;
  bool half; /* asks for IPv4 alone */
};

static void lock(struct cache *c) {
  if (pthread_mutex_lock(&c->mutex) != 0) abort();
}
static void unlock(struct cache *c) {
  if (pthread_mutex_unlock(&c->mutex) != 0) abort();
}

/* --- addresses --- */

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

static struct named *cache_make(const void *settings) {
  (void)settings;
  struct cache *c = must_calloc(1, sizeof *c);
  if (pthread_mutex_init(&c->mutex, NULL) != 0) abort();
  for (unsigned i = 0; i < BUCKETS; i++) list_init(&c->buckets[i]);
  list_init(&c->used);
  list_init(&c->resolvers);
  hash_key_init(&c->key);
  return &c->named;
}

static bool is_busy(const struct name *e) { return e->waiting > 0 || e->query != NULL || e->half != NULL; }

static void name_free(struct name *e) {
  assert(!is_busy(e));
  list_remove(&e->link);
  list_remove(&e->chained);
  e->cache->nnames--;
  free(e);
}

static void cache_free(struct named *n) {
  struct cache *c = CONTAINER_OF(n, struct cache, named);
  assert(list_empty(&c->resolvers));
  while (!list_empty(&c->used)) name_free(CONTAINER_OF(c->used.next, struct name, link));
  pthread_mutex_destroy(&c->mutex);
  free(c);
}

static const struct named_kind cache_kind = {.what = "names", .make = cache_make, .free = cache_free};

static void drop_oldest(struct cache *c) {
  for (struct link *l = c->used.prev; l != &c->used; l = l->prev) {
    struct name *e = CONTAINER_OF(l, struct name, link);
    if (is_busy(e)) continue;
    name_free(e);
    return;
  }
}

static struct name *name_make(struct cache *c, const char *host, size_t n, struct link *bucket) {
  if (c->nnames >= NAMES_MAX) drop_oldest(c);
  struct name *e = must_calloc(1, sizeof *e + n + 1);
  e->cache = c;
  memcpy(e->host, host, n + 1);
  list_push_front(&c->used, &e->link);
  list_push(bucket, &e->chained);
  c->nnames++;
  return e;
}

/* NULL: it is not there, and `make` is false or the name is too long for any server. */
static struct name *name_get(struct cache *c, const char *host, bool make) {
  char lower[NI_MAXHOST];
  size_t n = strlen(host);
  if (n >= sizeof lower) return NULL;
  for (size_t i = 0; i <= n; i++) lower[i] = char_lower(host[i]);
  struct link *bucket = &c->buckets[hash_keyed(&c->key, (struct str){lower, n}) % BUCKETS];
  for (struct link *l = bucket->next; l != bucket; l = l->next) {
    struct name *e = CONTAINER_OF(l, struct name, chained);
    if (strcmp(e->host, lower) != 0) continue;
    list_remove(&e->link);
    list_push_front(&c->used, &e->link);
    return e;
  }
  return make ? name_make(c, lower, n, bucket) : NULL;
}

/* Failures are not kept. */
static void drop_if_empty(struct name *e) {
  if (!is_busy(e) && e->answers.last.number == 0) name_free(e);
}

/* --- asking --- */

static void maybe_closed(struct resolver *r) {
  if (!r->closing || r->running > 0) return;
  void (*closed)(void *) = r->closed;
  void *arg = r->closed_arg;
  lock(r->cache);
  list_remove(&r->link);
  unlock(r->cache);
  (void)mailbox_cancel(r->mailbox, &r->outcome);
  named_unref(&r->cache->named);
  if (r->own != NULL) registry_free(r->own);
  free(r);
  if (closed != NULL) closed(arg);
}

/* Under the mutex. To all who wait for anything: they look whether it was this. */
static void tell_resolvers(struct cache *c) {
  for (struct link *l = c->resolvers.next; l != &c->resolvers; l = l->next) {
    struct resolver *r = CONTAINER_OF(l, struct resolver, link);
    if (r->nwaiting == 0 || r->posted) continue;
    r->posted = true;
    mailbox_post(r->mailbox, &r->outcome);
  }
}

static bool last_failed(const struct name *e) { return e->round > 0 && e->status != 0; }

/* Under the mutex. `now` is what came, if status is 0. */
static void take_whole(struct name *e, int status, const struct answer *now) {
  e->query = NULL;
  if (status != UV_ECANCELED && status != UV_EAI_CANCELED) { /* else this thread ends, which says nothing of the name */
    e->round++;
    e->status = status;
    if (status != 0) e->failed_at = now->at;
  }
  if (status == 0) answers_add(&e->answers, now);
}

/* Under the mutex. Only addresses count, and only where nothing better is there. */
static void take_half(struct name *e, int status, const struct answer *now) {
  e->half = NULL;
  if (status != 0 || (e->query == NULL && !last_failed(e))) return;
  e->round++;
  e->status = 0;
  answers_add(&e->answers, now);
}

static void on_answer(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
  struct query *q = CONTAINER_OF(req, struct query, req);
  struct resolver *r = q->resolver;
  struct name *e = q->name;
  struct answer now;
  answer_read(&now, list, clock_boot_ms());
  uv_freeaddrinfo(list);
  if (status == 0 && now.n == 0) status = UV_EAI_NODATA;
  lock(r->cache);
  now.number = ++r->cache->answers;
  if (q->half)
    take_half(e, status, &now);
  else
    take_whole(e, status, &now);
  tell_resolvers(r->cache);
  drop_if_empty(e);
  unlock(r->cache);
  list_remove(&q->link);
  free(q);
  r->running--;
  maybe_closed(r);
}

/* Under the mutex. */
static int begin_query(struct resolver *r, struct name *e, bool half, struct query **out) {
  struct addrinfo hints = {
      .ai_family = half ? AF_INET : AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
  struct query *q = must_calloc(1, sizeof *q);
  q->resolver = r;
  q->name = e;
  q->half = half;
  int rc = uv_getaddrinfo(r->loop, &q->req, on_answer, e->host, NULL, &hints);
  if (rc != 0) {
    free(q);
    return rc;
  }
  list_push(&r->queries, &q->link);
  r->running++;
  *out = q;
  return 0;
}

/* Under the mutex. */
static int ask(struct resolver *r, struct name *e, int64_t now) {
  int rc = begin_query(r, e, false, &e->query);
  if (rc == 0) e->asked_at = now;
  return rc;
}

/* Under the mutex. The answer is no longer fresh: a new one is fetched in the background. */
static void freshen(struct resolver *r, struct name *e, int64_t now) {
  bool failed = last_failed(e) && now - e->failed_at < RETRY_MS;
  if (e->query == NULL && !failed && now - e->answers.last.at >= RESOLVE_FRESH_MS) (void)ask(r, e, now);
}

/* --- telling --- */

static void tell(struct resolve *q, struct answer *a) {
  q->number = a->number;
  for (unsigned i = 0; i < a->n; i++) address_set_port(&a->v[i], q->port);
  q->done(q, 0, a->v, a->n);
}

static void tell_failed(struct resolve *q, int status) { q->done(q, status, NULL, 0); }

static bool usable(const struct name *e, int64_t now) {
  return e->answers.last.number != 0 && now - e->answers.last.at <= RESOLVE_LAST_MS;
}

/* Takes q from those who wait. Under the mutex. */
static void stop_waiting(struct resolve *q) {
  struct name *e = q->name;
  q->name = NULL;
  list_remove(&q->link);
  timeout_fini(&q->patience);
  q->resolver->nwaiting--;
  e->waiting--;
}

/* What q gets when nothing newer comes. Under the mutex; *out is a copy, and 0 means that it is there. */
static int fall_back(const struct resolve *q, const struct name *e, int64_t now, struct answer *out) {
  if (q->beyond != 0) return e->answers.last.number > q->beyond ? (*out = e->answers.last, 0) : UV_EAGAIN;
  if (usable(e, now)) return *out = e->answers.last, 0;
  return last_failed(e) ? e->status : UV_EAI_AGAIN;
}

static void finish_waiting(struct resolve *q, int64_t now) {
  struct cache *c = q->resolver->cache;
  struct answer a;
  struct name *e = q->name;
  int status = fall_back(q, e, now, &a);
  stop_waiting(q);
  drop_if_empty(e);
  unlock(c);
  if (status == 0)
    tell(q, &a);
  else
    tell_failed(q, status);
}

static void on_patience(struct timeout *t) {
  struct resolve *q = CONTAINER_OF(t, struct resolve, patience);
  struct name *e = q->name;
  int64_t now = clock_boot_ms();
  lock(q->resolver->cache);
  if (q->beyond != 0 || usable(e, now)) {
    finish_waiting(q, now);
    return;
  }
  if (e->half == NULL) (void)begin_query(q->resolver, e, true, &e->half);
  unlock(q->resolver->cache);
}

/* Under the mutex. One of this thread's that need not wait any longer, or NULL. */
static struct resolve *next_answered(struct resolver *r, int64_t now) {
  for (struct link *l = r->waiting.next; l != &r->waiting; l = l->next) {
    struct resolve *q = CONTAINER_OF(l, struct resolve, link);
    struct name *e = q->name;
    if (e->round > q->round) return q;
    if (e->query == NULL && ask(r, e, now) != 0) return q; /* who asked has ended */
  }
  return NULL;
}

static void on_outcome(struct mail *m) {
  struct resolver *r = CONTAINER_OF(m, struct resolver, outcome);
  int64_t now = clock_boot_ms();
  r->running++; /* a callback may close it */
  lock(r->cache);
  r->posted = false;
  struct resolve *q;
  while ((q = next_answered(r, now)) != NULL) {
    finish_waiting(q, now);
    lock(r->cache);
  }
  unlock(r->cache);
  r->running--;
  maybe_closed(r);
}

/* --- callers --- */

enum serve { SERVE_NOW, SERVE_WAIT, SERVE_NOTHING_NEWER };

static enum serve how_to_serve(const struct resolve *q, const struct name *e, int64_t now) {
  bool hangs = e->query != NULL && now - e->asked_at >= RESOLVE_PATIENCE_MS;
  if (q->beyond != 0) {
    if (e->answers.last.number > q->beyond) return SERVE_NOW;
    bool lately = e->query == NULL && e->round > 0 && now - e->asked_at < AGAIN_MS;
    return hangs || lately ? SERVE_NOTHING_NEWER : SERVE_WAIT;
  }
  if (!usable(e, now)) return SERVE_WAIT;
  bool failing = last_failed(e) && now - e->failed_at < RESOLVE_FRESH_MS; /* not: it failed before a long rest */
  if (now - e->answers.last.at <= RESOLVE_STALE_MS || hangs || failing) return SERVE_NOW;
  return SERVE_WAIT;
}

static int begin_waiting(struct resolver *r, struct resolve *q, struct name *e, int64_t now) {
  int rc = e->query == NULL ? ask(r, e, now) : 0;
  if (rc != 0) return rc;
  q->name = e;
  q->round = e->round;
  e->waiting++;
  r->nwaiting++;
  list_push(&r->waiting, &q->link);
  timeout_init(&q->patience, r->wheel, on_patience);
  timeout_set(&q->patience, RESOLVE_PATIENCE_MS);
  return 0;
}

static void lookup_name(struct resolver *r, struct resolve *q, const char *host) {
  int64_t now = clock_boot_ms();
  struct answer a = {0};
  int status = UV_EAGAIN;
  lock(r->cache);
  struct name *e = name_get(r->cache, host, true);
  enum serve how = e != NULL ? how_to_serve(q, e, now) : SERVE_NOTHING_NEWER;
  if (e == NULL) {
    status = UV_EAI_NONAME;
  } else if (how == SERVE_WAIT) {
    status = begin_waiting(r, q, e, now);
    if (status != 0) status = fall_back(q, e, now, &a) == 0 ? 0 : status;
  } else if (how == SERVE_NOW) {
    status = 0;
    a = e->answers.last;
    freshen(r, e, now);
  }
  bool waits = q->name != NULL;
  if (e != NULL) drop_if_empty(e);
  unlock(r->cache);
  if (waits) return;
  if (status == 0)
    tell(q, &a);
  else
    tell_failed(q, status);
}

void resolver_lookup(struct resolver *r, struct resolve *q, const char *host, uint16_t port) {
  struct answer literal = {.n = 1};
  list_init(&q->link);
  q->name = NULL;
  q->resolver = r;
  q->port = port;
  q->number = 0;
  if (r->closing)
    tell_failed(q, UV_ECANCELED);
  else if (parse_literal(host, &literal.v[0]))
    tell(q, &literal);
  else
    lookup_name(r, q, host);
}

void resolver_cancel(struct resolve *q) {
  if (q->name == NULL) return;
  struct cache *c = q->resolver->cache;
  lock(c);
  struct name *e = q->name;
  stop_waiting(q);
  drop_if_empty(e);
  unlock(c);
}

unsigned resolver_settled(struct resolver *r, const char *host, union address v[RESOLVE_MAX]) {
  union address literal = {0};
  unsigned n = 0;
  if (r->closing || parse_literal(host, &literal)) return 0;
  int64_t now = clock_boot_ms();
  lock(r->cache);
  /* Where there are more names than the cache holds, asking for all of them in turn would keep none. */
  struct name *e = name_get(r->cache, host, r->cache->nnames < NAMES_MAX);
  if (e != NULL) {
    freshen(r, e, now);
    n = answers_settled(&e->answers, now) ? e->answers.last.n : 0;
    memcpy(v, e->answers.last.v, n * sizeof *v);
    drop_if_empty(e);
  }
  unlock(r->cache);
  return n;
}

/* --- life --- */

struct resolver *resolver_new(struct registry *names, uv_loop_t *loop, struct mailbox *mailbox, struct wheel *wheel) {
  struct resolver *r = must_calloc(1, sizeof *r);
  r->own = names == NULL ? registry_new() : NULL;
  struct named *n = named_get(names != NULL ? names : r->own, &cache_kind, STR("names"), NULL);
  r->cache = CONTAINER_OF(n, struct cache, named);
  r->loop = loop;
  r->mailbox = mailbox;
  r->wheel = wheel;
  list_init(&r->waiting);
  list_init(&r->queries);
  mail_init(&r->outcome, on_outcome);
  lock(r->cache);
  list_push(&r->cache->resolvers, &r->link);
  unlock(r->cache);
  return r;
}

void resolver_close(struct resolver *r, void (*closed)(void *), void *arg) {
  assert(!r->closing);
  r->closing = true;
  r->closed = closed;
  r->closed_arg = arg;
  r->running++; /* this function: the callbacks below must not see r go */
  while (!list_empty(&r->waiting)) {
    struct resolve *q = CONTAINER_OF(r->waiting.next, struct resolve, link);
    resolver_cancel(q);
    tell_failed(q, UV_ECANCELED);
  }
  for (struct link *l = r->queries.next; l != &r->queries;
       l = l->next) /* those that still wait for a thread of the pool */
    (void)uv_cancel((uv_req_t *)&CONTAINER_OF(l, struct query, link)->req);
  r->running--;
  maybe_closed(r);
}
