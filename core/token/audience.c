/* audience.c: a short list of (scheme, host, port), asked once a secret and request. Comparing is exact but for letter case (RFC 9110 section 4.2.3):
 * a trailing dot, another spelling of an address or a deeper subdomain is another host, and gets nothing.
 *
 * Invariant: a host that is not listed is refused; no entry stands for all hosts. */
#include "token/audience.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "net/url.h"

struct allowed {
  bool tls;
  bool subdomains; /* host is what follows "*.": one label before it */
  bool is_unix;    /* host is a path */
  uint16_t port;   /* 0: any */
  struct str host; /* owned */
};
struct audience {
  atomic_uint refs;
  /* immutable once a second thread has it */
  struct allowed *v;
  size_t n;
};

struct audience *audience_new(void) {
  struct audience *a = must_calloc(1, sizeof *a);
  atomic_init(&a->refs, 1);
  return a;
}

struct audience *audience_ref(struct audience *a) {
  atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
  return a;
}

void audience_unref(struct audience *a) {
  if (a == NULL || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) > 1) return;
  for (size_t i = 0; i < a->n; i++) must_free(a->v[i].host.p);
  free(a->v);
  free(a);
}

static void add(struct audience *a, struct allowed entry) {
  assert(atomic_load_explicit(&a->refs, memory_order_relaxed) == 1);
  entry.host.p = must_dup(entry.host);
  a->v = must_realloc(a->v, (a->n + 1) * sizeof *a->v);
  a->v[a->n++] = entry;
}

void audience_add(struct audience *a, bool tls, struct str host, uint16_t port) {
  audience_add_pattern(a, tls, false, host, port);
}

void audience_add_pattern(struct audience *a, bool tls, bool subdomains, struct str host, uint16_t port) {
  assert(host.n > 0 && port != 0 && memchr(host.p, '*', host.n) == NULL);
  assert(!subdomains || memchr(host.p, '.', host.n) != NULL); /* "*.com" is no host of anybody */
  add(a, (struct allowed){.tls = tls, .subdomains = subdomains, .port = port, .host = host});
}

void audience_add_unix(struct audience *a, struct str path) {
  assert(path.n > 0);
  add(a, (struct allowed){.is_unix = true, .host = path});
}

static struct str skip(struct str s, size_t n) { return (struct str){s.p + n, s.n - n}; }

bool audience_add_host(struct audience *a, struct str s) {
  struct allowed entry = {.tls = true};
  if (str_starts(s, STR("http://"))) {
    entry.tls = false;
    s = skip(s, 7);
  } else if (str_starts(s, STR("https://"))) {
    s = skip(s, 8);
  }
  if (str_starts(s, STR("*."))) {
    entry.subdomains = true;
    s = skip(s, 2);
  }
  if (!host_split(s, &entry.host, &entry.port) || memchr(entry.host.p, '*', entry.host.n) != NULL) return false;
  if (entry.subdomains && (s.p[0] == '[' || memchr(entry.host.p, '.', entry.host.n) == NULL))
    return false; /* "*.com" is no host of anybody */
  add(a, entry);
  return true;
}

static bool host_matches(const struct allowed *entry, struct str host) {
  if (!entry->subdomains) return str_ieq(entry->host, host);
  const char *dot = host.n > 0 ? memchr(host.p, '.', host.n) : NULL;
  if (dot == NULL || dot == host.p) return false;
  return str_ieq(entry->host, skip(host, (size_t)(dot - host.p) + 1));
}

bool audience_allows(const struct audience *a, bool tls, struct str host, uint16_t port) {
  for (size_t i = 0; i < a->n; i++) {
    const struct allowed *entry = &a->v[i];
    if (!entry->is_unix && entry->tls == tls && (entry->port == 0 || entry->port == port) && host_matches(entry, host))
      return true;
  }
  return false;
}

bool audience_allows_unix(const struct audience *a, struct str path) {
  for (size_t i = 0; i < a->n; i++) {
    if (a->v[i].is_unix && str_eq(a->v[i].host, path)) return true;
  }
  return false;
}
