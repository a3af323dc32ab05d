/* parent.c: see parent.h.
 *
 * The URL is read here and not by net/url.h, which refuses userinfo on purpose: a URL of a server has none. A port has to be there, since programs differ in what
 * they take without one (1080, 80, 3128), and the wrong guess would be an address that nobody meant.
 *
 * Two parents are the same when host, port and the bytes of the credentials are, as these were when each was made. The copy that is compared lies in secret memory. A hash
 * of it would lie in any, and a password is soon guessed by its hash.
 *
 * The environment. Lower case goes before upper, as with curl: Go has it the other way round, and where both are set to different things nobody knows which was meant.
 * HTTP_PROXY in capitals is passed over where REQUEST_METHOD is set, since that is a CGI program's environment, in which it is what a client says (CVE-2016-5385). */
#include "http/parent.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "base/percent.h"
#include "base/secmem.h"
#include "net/no_proxy.h"
#include "net/url.h"
#include "token/secret.h"

struct parent {
  atomic_uint refs;
  char *host;
  uint16_t port;
  char where[URL_WHERE_SIZE];
  struct secret *credentials; /* "Basic …"; NULL: none */
  /* guarded by lock: whatever the secret keeps while it is expanded */
  pthread_mutex_t lock;
  struct str as_made; /* the credentials' bytes at that time, in secret memory */
  int error;          /* why there were none */
};

/* --- credentials --- */

struct secret *parent_basic(struct str user, struct secret *password) {
  struct secret *name = secret_literal(user);
  struct secret *pair = secret_join_text(name, STR(":"), false);
  struct secret *both = password != NULL ? secret_join(pair, password) : secret_ref(pair);
  struct secret *encoded = secret_encode(both, SECRET_BASE64);
  struct secret *basic = secret_join_text(encoded, STR("Basic "), true);
  secret_unref(name);
  secret_unref(pair);
  secret_unref(both);
  secret_unref(encoded);
  return basic;
}

/* The target of what is sent to the parent itself. */
static int expand(struct parent *p, struct buf *out) {
  struct secret_context to = {.host = str_of(p->host), .port = p->port, .header_safe = true};
  pthread_mutex_lock(&p->lock);
  int rc = secret_expand(p->credentials, &to, out);
  pthread_mutex_unlock(&p->lock);
  return rc;
}

int parent_add_authorization(struct parent *p, struct buf *out) {
  if (p->credentials == NULL) return 0;
  size_t before = out->n;
  buf_addz(out, "Proxy-Authorization: ");
  int rc = expand(p, out);
  if (rc != 0)
    out->n = before;
  else
    buf_addz(out, "\r\n");
  return rc;
}

/* "user:password" or "user", percent-encoded as it stands in a URL. NULL: a bad "%", or too large. */
static struct secret *basic_of_userinfo(struct str s) {
  char *user = secmem_alloc(s.n + 1), *password = secmem_alloc(s.n + 1);
  const char *colon = s.n > 0 ? memchr(s.p, ':', s.n) : NULL;
  size_t n = colon != NULL ? (size_t)(colon - s.p) : s.n, nuser, npassword = 0;
  bool fine = percent_unescape((struct str){s.p, n}, false, user, &nuser) && memchr(user, ':', nuser) == NULL;
  if (fine && colon != NULL) fine = percent_unescape((struct str){colon + 1, s.n - n - 1}, false, password, &npassword);
  struct secret *basic = NULL;
  if (fine) {
    struct secret *secret = secret_bytes((struct str){password, npassword}, "password", NULL);
    basic = parent_basic((struct str){user, nuser}, secret);
    secret_unref(secret);
  }
  secmem_free(user, s.n + 1);
  secmem_free(password, s.n + 1);
  return basic;
}

/* --- one parent --- */

static bool starts(struct str s, const char *scheme) {
  size_t n = strlen(scheme);
  return s.n >= n && str_ieq((struct str){s.p, n}, (struct str){scheme, n});
}

static const char SHAPE[] = "expected http://HOST:PORT, with USER:PASSWORD@ before the host if the proxy wants them";

struct said {                /* what stands in the text */
  struct str host, userinfo; /* userinfo.p NULL: none */
  uint16_t port;
  bool ipv6;
};

static const char *read_text(struct str s, struct said *out) {
  *out = (struct said){0};
  if (starts(s, "https://"))
    return "a parent proxy is reached by http:// (what goes through its tunnels keeps a TLS of its own)";
  if (starts(s, "socks")) return "SOCKS is not spoken here: the proxy has to know HTTP's CONNECT, http://HOST:PORT";
  if (!starts(s, "http://")) return SHAPE;
  s = (struct str){s.p + 7, s.n - 7};
  size_t n = 0;
  for (size_t i = 0; i < s.n; i++) /* a password may hold any of the others, unescaped */
    if (s.p[i] == '@') n = i + 1;
  if (n > 0) out->userinfo = (struct str){s.p, n - 1};
  s = (struct str){s.p + n, s.n - n};
  if (s.n > 0 && s.p[s.n - 1] == '/') s.n--;
  if (s.n > 0 && (memchr(s.p, '/', s.n) != NULL || memchr(s.p, '?', s.n) != NULL || memchr(s.p, '#', s.n) != NULL))
    return "the URL of a proxy has no path and no query";
  if (!host_split(s, &out->host, &out->port)) return SHAPE;
  out->ipv6 = s.p[0] == '[';
  return out->port != 0 ? NULL : "the proxy's port is missing: http://HOST:PORT (others would take 1080, 80 or 3128)";
}

static void forget_as_made(struct parent *p) {
  if (p->as_made.p != NULL) secmem_free(p->as_made.p, p->as_made.n);
  p->as_made = (struct str){NULL, 0};
}

static void note_as_made(struct parent *p) {
  struct buf b;
  if (p->credentials == NULL) return;
  forget_as_made(p);
  buf_init(&b);
  b.sensitive = true;
  p->error = expand(p, &b);
  if (p->error == 0) {
    char *bytes = secmem_alloc(b.n);
    memcpy(bytes, b.p, b.n);
    p->as_made = (struct str){bytes, b.n};
  }
  buf_fini(&b);
}

/* Takes over the credentials. */
static struct parent *parent_new(const struct said *said, struct secret *credentials) {
  struct parent *p = must_calloc(1, sizeof *p);
  struct url u = {.host = said->host, .port = said->port, .ipv6 = said->ipv6};
  atomic_init(&p->refs, 1);
  p->host = must_dup(said->host);
  p->port = said->port;
  url_where(&u, p->where, sizeof p->where);
  p->credentials = credentials;
  (void)pthread_mutex_init(&p->lock, NULL);
  note_as_made(p);
  return p;
}

struct parent *parent_parse(struct str text, struct secret *credentials, const char **why) {
  struct said said;
  *why = read_text(text, &said);
  if (*why == NULL && credentials != NULL && said.userinfo.p != NULL)
    *why = "user and password stand in the URL already";
  if (*why != NULL) return NULL;
  if (said.userinfo.p == NULL) return parent_new(&said, credentials != NULL ? secret_ref(credentials) : NULL);
  struct secret *basic = basic_of_userinfo(said.userinfo);
  if (basic != NULL) return parent_new(&said, basic);
  *why = "user or password have a \"%\" without two hexadecimal digits behind it (%25 is one), or a %3A in the user";
  return NULL;
}

struct parent *parent_ref(struct parent *p) {
  atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
  return p;
}

void parent_unref(struct parent *p) {
  if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1) return;
  secret_unref(p->credentials);
  forget_as_made(p);
  (void)pthread_mutex_destroy(&p->lock);
  free(p->host);
  free(p);
}

const char *parent_host(const struct parent *p) { return p->host; }
uint16_t parent_port(const struct parent *p) { return p->port; }
const char *parent_where(const struct parent *p) { return p->where; }
bool parent_has_credentials(const struct parent *p) { return p->credentials != NULL; }

int parent_error(const struct parent *p) { return p->error; }

int parent_fix(struct parent *p) {
  note_as_made(p);
  if (p->error != 0 || p->credentials == NULL) return p->error;
  secret_unref(p->credentials);
  p->credentials = secret_bytes(p->as_made, "proxy credentials", NULL);
  return 0;
}

bool parent_same(const struct parent *a, const struct parent *b) {
  if (a == b || a == NULL || b == NULL) return a == b;
  return a->port == b->port && str_ieq(str_of(a->host), str_of(b->host)) &&
         (a->credentials != NULL) == (b->credentials != NULL) && str_eq(a->as_made, b->as_made);
}

/* --- which one --- */

struct parents {
  atomic_uint refs;
  bool environment;
  struct parent *plain, *tls; /* for http and https; NULL: directly */
  char *direct;               /* NO_PROXY; NULL: none */
};

static struct parents *parents_new(void) {
  struct parents *p = must_calloc(1, sizeof *p);
  atomic_init(&p->refs, 1);
  return p;
}

struct parents *parents_one(struct parent *p) {
  struct parents *all = parents_new();
  all->plain = parent_ref(p);
  all->tls = parent_ref(p);
  return all;
}

int parents_fix(struct parents *p) {
  int rc = p->tls != NULL ? parent_fix(p->tls) : 0;
  return rc == 0 && p->plain != NULL && p->plain != p->tls ? parent_fix(p->plain) : rc;
}

static const char *variable(const char *lower, const char *upper) {
  const char *value = getenv(lower);
  if (value == NULL || value[0] == '\0') value = upper != NULL ? getenv(upper) : NULL;
  return value != NULL && value[0] != '\0' ? value : NULL;
}

/* A host without a scheme is what curl and Go take, too. */
static struct parent *parse_variable(const char *name, const char *value, char *why, size_t size) {
  const char *wrong;
  size_t n = strlen(value) + sizeof "http://";
  char *text = secmem_alloc(n);
  (void)snprintf(text, n, "%s%s", strstr(value, "://") == NULL ? "http://" : "", value);
  struct parent *p = parent_parse(str_of(text), NULL, &wrong);
  if (p == NULL) (void)snprintf(why, size, "the environment's %s is of no use: %s", name, wrong);
  secmem_free(text, n);
  return p;
}

struct parents *parents_of_environment(char *why, size_t size) {
  bool cgi = getenv("REQUEST_METHOD") != NULL;
  const char *all = variable("all_proxy", "ALL_PROXY"), *direct = variable("no_proxy", "NO_PROXY");
  const char *tls = variable("https_proxy", "HTTPS_PROXY"), *plain = variable("http_proxy", cgi ? NULL : "HTTP_PROXY");
  struct parents *p = parents_new();
  p->environment = true;
  if (direct != NULL) p->direct = must_strdup(direct);
  bool fine = true;
  if (tls != NULL || all != NULL) {
    p->tls = parse_variable(tls != NULL ? "HTTPS_PROXY" : "ALL_PROXY", tls != NULL ? tls : all, why, size);
    fine = p->tls != NULL;
  }
  if (fine && (plain != NULL || all != NULL)) {
    p->plain = parse_variable(plain != NULL ? "HTTP_PROXY" : "ALL_PROXY", plain != NULL ? plain : all, why, size);
    fine = p->plain != NULL;
  }
  if (fine) return p;
  parents_unref(p);
  return NULL;
}

struct parents *parents_ref(struct parents *p) {
  atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
  return p;
}

void parents_unref(struct parents *p) {
  if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1) return;
  parent_unref(p->plain);
  parent_unref(p->tls);
  free(p->direct);
  free(p);
}

struct parent *parents_for(const struct parents *p, bool tls, struct str host, uint16_t port) {
  if (p == NULL) return NULL;
  if (p->environment && no_proxy_is_here(host)) return NULL;
  if (p->direct != NULL && no_proxy_names(str_of(p->direct), host, port)) return NULL;
  return tls ? p->tls : p->plain;
}

bool parents_from_environment(const struct parents *p) { return p->environment; }

const char *parents_where(const struct parents *p) { return p->environment ? "environment" : parent_where(p->tls); }
