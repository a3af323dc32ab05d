/* audience.c: a short list of receivers, asked once a secret and request. Comparing is exact but for letter case (RFC 9110 section 4.2.3):
 * a trailing dot, another spelling of an address or a deeper subdomain is another host, and gets nothing.
 *
 * What two audiences both allow is not computed, since patterns overlap in ways that no pattern says: it is kept as the lists that all must allow (`all`). Equal
 * lists are kept once, so narrowing again and again by the same lists does not grow.
 *
 * Invariants: a receiver that is not listed is refused; no entry stands for all. An audience has entries or `all`, never both, and what is in `all` has
 * entries. */
#include "token/audience.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "net/url.h"

enum receiver { RECEIVER_SERVER, RECEIVER_UNIX, RECEIVER_COMMAND, RECEIVER_FILE };
struct allowed {
  enum receiver kind;
  bool tls;
  bool subdomains; /* host is what follows "*.": one label before it */
  uint16_t port;   /* 0: any */
  struct str host; /* owned; a path, but of a server */
};
struct audience {
  atomic_uint refs;
  /* immutable once a second thread has it */
  struct allowed *v;
  size_t n;
  struct audience **all; /* references; NULL: v decides */
  size_t nall;
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
  for (size_t i = 0; i < a->nall; i++) audience_unref(a->all[i]);
  free(a->v);
  free(a->all);
  free(a);
}

static void add(struct audience *a, struct allowed entry) {
  assert(atomic_load_explicit(&a->refs, memory_order_relaxed) == 1 && a->all == NULL);
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

static void add_path(struct audience *a, enum receiver kind, struct str path) {
  assert(path.n > 0);
  add(a, (struct allowed){.kind = kind, .host = path});
}

void audience_add_unix(struct audience *a, struct str path) { add_path(a, RECEIVER_UNIX, path); }
void audience_add_command(struct audience *a, struct str path) { add_path(a, RECEIVER_COMMAND, path); }
void audience_add_file(struct audience *a, struct str path) { add_path(a, RECEIVER_FILE, path); }

void audience_add_all(struct audience *a, const struct audience *from) {
  assert(from->all == NULL);
  for (size_t i = 0; i < from->n; i++) add(a, from->v[i]);
}

bool audience_has_servers(const struct audience *a) {
  for (size_t i = 0; i < a->n; i++)
    if (a->v[i].kind == RECEIVER_SERVER || a->v[i].kind == RECEIVER_UNIX) return true;
  return false;
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

static bool list_allows(const struct audience *a, bool tls, struct str host, uint16_t port) {
  for (size_t i = 0; i < a->n; i++) {
    const struct allowed *entry = &a->v[i];
    if (entry->kind == RECEIVER_SERVER && entry->tls == tls && (entry->port == 0 || entry->port == port) &&
        host_matches(entry, host))
      return true;
  }
  return false;
}

bool audience_allows(const struct audience *a, bool tls, struct str host, uint16_t port) {
  if (a->all == NULL) return list_allows(a, tls, host, port);
  for (size_t i = 0; i < a->nall; i++)
    if (!list_allows(a->all[i], tls, host, port)) return false;
  return true;
}

static bool list_has_path(const struct audience *a, enum receiver kind, struct str path) {
  for (size_t i = 0; i < a->n; i++) {
    if (a->v[i].kind == kind && str_eq(a->v[i].host, path)) return true;
  }
  return false;
}

static bool has_path(const struct audience *a, enum receiver kind, struct str path) {
  if (a->all == NULL) return list_has_path(a, kind, path);
  for (size_t i = 0; i < a->nall; i++)
    if (!list_has_path(a->all[i], kind, path)) return false;
  return true;
}

bool audience_allows_unix(const struct audience *a, struct str path) { return has_path(a, RECEIVER_UNIX, path); }
bool audience_allows_command(const struct audience *a, struct str path) { return has_path(a, RECEIVER_COMMAND, path); }
bool audience_allows_file(const struct audience *a, struct str path) { return has_path(a, RECEIVER_FILE, path); }

/* --- two of them --- */

static bool lists(const struct audience *a, const struct allowed *e) {
  for (size_t i = 0; i < a->n; i++) {
    const struct allowed *o = &a->v[i];
    if (o->kind == e->kind && o->tls == e->tls && o->subdomains == e->subdomains && o->port == e->port &&
        (e->kind == RECEIVER_SERVER ? str_ieq(o->host, e->host) : str_eq(o->host, e->host)))
      return true;
  }
  return false;
}

static bool lists_all(const struct audience *a, const struct audience *of) {
  for (size_t i = 0; i < of->n; i++)
    if (!lists(a, &of->v[i])) return false;
  return true;
}

static bool has_part(const struct audience *a, const struct audience *part) {
  for (size_t i = 0; i < a->nall; i++)
    if (audience_same(a->all[i], part)) return true;
  return false;
}

bool audience_same(const struct audience *a, const struct audience *b) {
  if (a == b) return true;
  if (a == NULL || b == NULL || a->nall != b->nall) return false;
  if (a->all == NULL) return lists_all(a, b) && lists_all(b, a);
  for (size_t i = 0; i < a->nall; i++)
    if (!has_part(b, a->all[i])) return false;
  return true;
}

static void add_part(struct audience *to, struct audience *part) {
  if (has_part(to, part)) return;
  to->all = must_realloc(to->all, (to->nall + 1) * sizeof(struct audience *));
  to->all[to->nall++] = audience_ref(part);
}

static void add_parts(struct audience *to, struct audience *of) {
  if (of->all == NULL) add_part(to, of);
  for (size_t i = 0; i < of->nall; i++) add_part(to, of->all[i]);
}

struct audience *audience_both(struct audience *a, struct audience *b) {
  if (a == NULL || b == NULL || audience_same(a, b))
    return a != NULL ? audience_ref(a) : b != NULL ? audience_ref(b) : NULL;
  struct audience *both = audience_new();
  add_parts(both, a);
  add_parts(both, b);
  return both;
}
