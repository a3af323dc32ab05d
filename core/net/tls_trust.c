/* tls_trust.c: certificate authorities to trust.
 *
 * The system's bundle is some 140 certificates: 20 ms to parse and most of a megabyte. Every upstream of a policy, and every
 * jeton.http call with settings of its own, wants it, so configurations that name the same file share a trust, as long as that file has not changed since. The
 * list of living trusts is the registry's; its lock also guards the references, so that the last unref and a new get cannot meet. What a trust holds never
 * changes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"
#include "net/tls_internal.h"

struct tls_trust {
  mbedtls_x509_crt chain;
  struct compat_tables tables; /* lent to the chain's keys */
  uint8_t digest[32];
  char *path, *passed_over; /* passed_over: a sentence, or NULL */
  uint64_t stamp;
  /* guarded by the registry's trusts_lock */
  unsigned refs;
  struct link link;
};

/* Debian and Alpine, Fedora, BSD and macOS: the first that is there. */
static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                      "/etc/ssl/cert.pem"};

/* The variable that OpenSSL and Go ask as well. What it names is meant: a file that is not there is not replaced by another. */
const char *tls_trust_bundle(void) {
  const char *named = getenv("SSL_CERT_FILE");
  if (named != NULL && named[0] != '\0') return named;
  for (size_t i = 0; i < sizeof bundles / sizeof *bundles; i++)
    if (access(bundles[i], R_OK) == 0) return bundles[i];
  return NULL;
}

/* With the lock held. */
static struct tls_trust *find_living(const struct tls_registry *r, const char *path, uint64_t stamp) {
  for (struct link *l = r->trusts.next; l != &r->trusts; l = l->next) {
    struct tls_trust *t = CONTAINER_OF(l, struct tls_trust, link);
    if (strcmp(t->path, path) == 0 && t->stamp == stamp) return t;
  }
  return NULL;
}

static void trust_free(struct tls_trust *t) {
  compat_take_tables(&t->tables, &t->chain);
  mbedtls_x509_crt_free(&t->chain);
  free(t->path);
  free(t->passed_over);
  free(t);
}

/* One authority that cannot be read must not cost the trust in the others: bundles are made for many programs. */
static bool load_file(struct tls_trust *t, char *err, size_t errsize) {
  enum tls_load how = tls_certificates_load(&t->chain, t->path, false, err, errsize);
  if (how == TLS_LOAD_PART) t->passed_over = must_strdup(err);
  return how != TLS_LOAD_FAILED;
}

static bool load(struct tls_trust *t, bool directory, char *err, size_t errsize) {
  if (!directory) {
    if (!load_file(t, err, errsize)) return false;
  } else if (mbedtls_x509_crt_parse_path(&t->chain, t->path) < 0 || t->chain.version == 0) {
    snprintf(err, errsize, "%s: a directory without a certificate in PEM", t->path);
    return false;
  }
  if (!compat_lend_tables(&t->tables, &t->chain)) {
    snprintf(err, errsize, "%s: not enough memory for its keys", t->path);
    return false;
  }
  tls_digest_chain(t->digest, &t->chain);
  return true;
}

static struct tls_trust *trust_new(const char *path, uint64_t stamp, bool folder, char *err, size_t errsize) {
  struct tls_trust *t = must_calloc(1, sizeof *t);
  t->path = must_strdup(path);
  mbedtls_x509_crt_init(&t->chain);
  t->stamp = stamp;
  if (!load(t, folder, err, errsize)) {
    trust_free(t);
    return NULL;
  }
  return t;
}

struct tls_trust *tls_trust_get(const char *path, char *err, size_t errsize) {
  struct stat now;
  if (path == NULL) path = tls_trust_bundle();
  if (path == NULL) {
    snprintf(err, errsize, "%s: no such file, and no `ca` is given", bundles[0]);
    return NULL;
  }
  if (stat(path, &now) != 0) {
    snprintf(err, errsize, "%s: %s", path, err_text(-errno));
    return NULL;
  }
  uint64_t stamp =
      tls_path_stamp(path); /* before it is read: what changes in between gives another one the next time */
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->trusts_lock);
  struct tls_trust *t = find_living(r, path, stamp);
  if (t == NULL && (t = trust_new(path, stamp, S_ISDIR(now.st_mode), err, errsize)) != NULL)
    list_push(&r->trusts, &t->link);
  if (t != NULL) t->refs++;
  pthread_mutex_unlock(&r->trusts_lock);
  return t;
}

void tls_trust_problems(const char *path, tls_tell_fn tell, void *arg) {
  char why[TLS_REASON_MAX];
  struct tls_trust *t = tls_trust_get(path, why, sizeof why);
  if (t == NULL) tell(arg, why);
  tls_trust_unref(t);
}

void tls_trust_unref(struct tls_trust *t) {
  if (t == NULL) return;
  struct tls_registry *r = tls_registry();
  pthread_mutex_lock(&r->trusts_lock);
  bool last = --t->refs == 0;
  if (last) list_remove(&t->link);
  pthread_mutex_unlock(&r->trusts_lock);
  if (last) trust_free(t);
}

mbedtls_x509_crt *tls_trust_chain(struct tls_trust *t) { return &t->chain; }
const uint8_t *tls_trust_digest(const struct tls_trust *t) { return t->digest; }
const char *tls_trust_passed_over(const struct tls_trust *t) { return t->passed_over; }
