/* tls_config.c: tls_client and tls_server: what connections have in common, made once and then only read.
 *
 * Every file is read, every key tried and every setting refused here, on control's thread, so that a connection can fail
 * for its peer's sake only. mbedtls_ssl_config is safe to share between threads as long as nobody changes it; what does change
 * behind it (saved sessions, ticket keys, the session cache, RSA blinding) has locks of its own. */
#include <mbedtls/base64.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/tls_internal.h"

enum { TICKET_SECONDS = 4 * 3600, CACHE_ENTRIES = 512 };

static const char *alpn[] = {"http/1.1", NULL}; /* mbedTLS keeps the pointer; its type forbids const */

static void init_library(void) {
  if (!compat_init()) abort();
}

static void library_once(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init_library);
}

/* What is the same on both sides. */
static bool conf_common(mbedtls_ssl_config *conf, int endpoint, enum tls_version min, char *err, size_t errsize) {
  if (min == TLS_1_3 && !COMPAT_HAS_TLS_1_3) {
    snprintf(err, errsize, "TLS 1.3 needs mbedTLS 3.6; this program was built with %s", MBEDTLS_VERSION_STRING);
    return false;
  }
  if (mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
    snprintf(err, errsize, "not enough memory for TLS");
    return false;
  }
  mbedtls_ssl_conf_rng(conf, compat_rng, NULL);
  mbedtls_ssl_conf_alpn_protocols(conf, alpn);
  compat_conf_versions(conf, min == TLS_1_3);
  compat_conf_curves(conf);
  compat_conf_signatures(conf);
  compat_conf_ciphers(conf, endpoint == MBEDTLS_SSL_IS_CLIENT);
  compat_conf_no_renegotiation(conf);
  return true;
}

/* --- client --- */

static bool parse_pin(const char *text, uint8_t out[TLS_PIN_SIZE], char *err, size_t errsize) {
  static const char prefix[] = "sha256/";
  size_t n = 0, skip = sizeof prefix - 1;
  if (strncmp(text, prefix, skip) == 0 &&
      mbedtls_base64_decode(out, TLS_PIN_SIZE, &n, (const unsigned char *)text + skip, strlen(text + skip)) == 0 &&
      n == TLS_PIN_SIZE)
    return true;
  snprintf(err, errsize, "pin \"%.80s\": expected sha256/ and the base64 of 32 bytes", text);
  return false;
}

static bool client_pins(struct tls_client *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  if (s->npins == 0) return true;
  c->pins = calloc(s->npins, sizeof *c->pins);
  if (c->pins == NULL) abort();
  for (; c->npins < s->npins; c->npins++)
    if (!parse_pin(s->pins[c->npins], c->pins[c->npins], err, errsize)) return false;
  return true;
}

static bool client_identity(struct tls_client *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  if (s->cert == NULL && s->key == NULL) return true;
  if (s->cert == NULL || s->key == NULL) {
    snprintf(err, errsize, "%s: a client certificate needs both `cert` and `key`", s->cert != NULL ? s->cert : s->key);
    return false;
  }
  c->identity = tls_identity_load(s->cert, s->key, err, errsize);
  return c->identity != NULL && mbedtls_ssl_conf_own_cert(&c->conf, &c->identity->chain, &c->identity->key) == 0;
}

/* insecure: the certificate is judged for its pins alone, if there are any. */
static bool client_trust(struct tls_client *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  c->insecure = s->insecure;
  if (s->insecure) {
    mbedtls_ssl_conf_authmode(&c->conf, c->npins > 0 ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_NONE);
    return true;
  }
  c->trust = tls_trust_get(s->ca, err, errsize);
  if (c->trust == NULL) return false;
  mbedtls_ssl_conf_authmode(&c->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
  mbedtls_ssl_conf_ca_chain(&c->conf, tls_trust_chain(c->trust), NULL);
  return true;
}

/* Over the meaning, not the text: files that have changed since give another fingerprint. */
static uint64_t client_fingerprint(const struct tls_client *c, enum tls_version min) {
  struct {
    uint8_t so_far[32], part[32];
  } h = {{0}, {0}};
  uint64_t out;
  h.part[0] = (uint8_t)min;
  h.part[1] = c->insecure;
  if (compat_sha256((uint8_t *)&h, sizeof h, h.so_far) != 0) abort();
  memset(h.part, 0, sizeof h.part);
  if (c->trust != NULL) memcpy(h.part, tls_trust_digest(c->trust), sizeof h.part);
  if (compat_sha256((uint8_t *)&h, sizeof h, h.so_far) != 0) abort();
  memset(h.part, 0, sizeof h.part);
  if (c->identity != NULL) tls_chain_digest(&c->identity->chain, h.part);
  if (compat_sha256((uint8_t *)&h, sizeof h, h.so_far) != 0) abort();
  const char *name = c->server_name != NULL ? c->server_name : "";
  if (compat_sha256((const uint8_t *)name, strlen(name), h.part) != 0) abort();
  if (compat_sha256((uint8_t *)&h, sizeof h, h.so_far) != 0) abort();
  for (size_t i = 0; i < c->npins; i++) {
    memcpy(h.part, c->pins[i], TLS_PIN_SIZE);
    if (compat_sha256((uint8_t *)&h, sizeof h, h.so_far) != 0) abort();
  }
  memcpy(&out, h.so_far, sizeof out);
  return out;
}

static void client_free(struct tls_client *c) {
  mbedtls_ssl_config_free(&c->conf);
  tls_resume_fini(&c->resume);
  tls_identity_free(c->identity);
  tls_trust_unref(c->trust);
  free(c->server_name);
  free(c->pins);
  free(c);
}

struct tls_client *tls_client_new(const struct tls_client_settings *s, char *err, size_t errsize) {
  struct tls_client *c = calloc(1, sizeof *c);
  if (c == NULL || (s->server_name != NULL && (c->server_name = strdup(s->server_name)) == NULL)) abort();
  library_once();
  snprintf(err, errsize, "not enough memory for TLS"); /* unless something says more */
  atomic_init(&c->refs, 1);
  mbedtls_ssl_config_init(&c->conf);
  tls_resume_init(&c->resume);
  if (conf_common(&c->conf, MBEDTLS_SSL_IS_CLIENT, s->min_version, err, errsize) && client_pins(c, s, err, errsize) &&
      client_trust(c, s, err, errsize) && client_identity(c, s, err, errsize)) {
    c->fingerprint = client_fingerprint(c, s->min_version);
    err[0] = '\0';
    return c;
  }
  client_free(c);
  return NULL;
}

struct tls_client *tls_client_ref(struct tls_client *c) {
  atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
  return c;
}

void tls_client_unref(struct tls_client *c) {
  if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) client_free(c);
}

bool tls_client_insecure(const struct tls_client *c) { return c->insecure; }
uint64_t tls_client_fingerprint(const struct tls_client *c) { return c->fingerprint; }

/* --- server --- */

static bool server_identities(struct tls_server *v, const struct tls_server_settings *s, char *err, size_t errsize) {
  if (s->ncertificates == 0) {
    snprintf(err, errsize, "a TLS listener needs at least one certificate");
    return false;
  }
  v->identities = calloc(s->ncertificates, sizeof *v->identities);
  if (v->identities == NULL) abort();
  for (; v->nidentities < s->ncertificates; v->nidentities++) {
    const struct tls_certificate_settings *cs = &s->certificates[v->nidentities];
    v->identities[v->nidentities] = tls_identity_load(cs->cert, cs->key, err, errsize);
    if (v->identities[v->nidentities] == NULL) return false;
  }
  return mbedtls_ssl_conf_own_cert(&v->conf, &v->identities[0]->chain, &v->identities[0]->key) == 0;
}

static bool server_client_ca(struct tls_server *v, const struct tls_server_settings *s, char *err, size_t errsize) {
  mbedtls_ssl_conf_authmode(&v->conf, MBEDTLS_SSL_VERIFY_NONE);
  if (s->client_ca == NULL) {
    if (s->client_required) snprintf(err, errsize, "client certificates are required, but no `client_ca` is given");
    return !s->client_required;
  }
  v->client_trust = tls_trust_get(s->client_ca, err, errsize);
  if (v->client_trust == NULL) return false;
  v->client_required = s->client_required;
  mbedtls_ssl_conf_ca_chain(&v->conf, tls_trust_chain(v->client_trust), NULL);
  mbedtls_ssl_conf_authmode(&v->conf, s->client_required ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_OPTIONAL);
  return true;
}

/* Tickets and the cache serve every thread, so that a client may come back to any worker. */
static bool server_resumption(struct tls_server *v) {
  mbedtls_ssl_cache_set_max_entries(&v->cache, CACHE_ENTRIES);
  mbedtls_ssl_cache_set_timeout(&v->cache, TICKET_SECONDS);
  mbedtls_ssl_conf_session_cache(&v->conf, &v->cache, mbedtls_ssl_cache_get, mbedtls_ssl_cache_set);
  if (v->client_trust != NULL && !compat_tickets_keep_client()) return true;
  mbedtls_ssl_conf_session_tickets_cb(&v->conf, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse, &v->tickets);
  return mbedtls_ssl_ticket_setup(&v->tickets, compat_rng, NULL, MBEDTLS_CIPHER_AES_256_GCM, TICKET_SECONDS) == 0;
}

/* The certificate covers `name` (lower case, n bytes): exactly, or by a wildcard for its first label. */
static bool covers(const mbedtls_x509_crt *crt, struct str name, bool wildcard) {
  const char *dot = memchr(name.p, '.', name.n);
  struct str rest = dot != NULL ? (struct str){dot, (size_t)(name.p + name.n - dot)} : (struct str){NULL, 0};
  if (crt->subject_alt_names.buf.p == NULL) return false;
  for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s != NULL; s = s->next) {
    struct str san = {(const char *)s->buf.p, s->buf.len};
    if (s->buf.tag != (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2)) continue;
    if (!wildcard && str_ieq(san, name)) return true;
    if (wildcard && san.n > 2 && san.p[0] == '*' && rest.n > 0 && str_ieq((struct str){san.p + 1, san.n - 1}, rest))
      return true;
  }
  return false;
}

/* All that fit are offered: an RSA and an ECDSA certificate of one name may stand side by side. */
static unsigned offer(struct tls_server *v, mbedtls_ssl_context *ssl, struct str name, bool wildcard) {
  unsigned n = 0;
  for (size_t i = 0; i < v->nidentities; i++) {
    struct tls_identity *id = v->identities[i];
    if (covers(&id->chain, name, wildcard) && mbedtls_ssl_set_hs_own_cert(ssl, &id->chain, &id->key) == 0) n++;
  }
  return n;
}

static int on_sni(void *p, mbedtls_ssl_context *ssl, const unsigned char *name, size_t n) {
  struct tls_server *v = p;
  struct str s = {(const char *)name, n};
  tls_session_saw_sni(ssl, name, n);
  if (offer(v, ssl, s, false) > 0 || offer(v, ssl, s, true) > 0) return 0;
  return mbedtls_ssl_set_hs_own_cert(ssl, &v->identities[0]->chain, &v->identities[0]->key);
}

static void server_free(struct tls_server *v) {
  mbedtls_ssl_config_free(&v->conf);
  mbedtls_ssl_ticket_free(&v->tickets);
  mbedtls_ssl_cache_free(&v->cache);
  for (size_t i = 0; i < v->nidentities; i++) tls_identity_free(v->identities[i]);
  free(v->identities);
  tls_trust_unref(v->client_trust);
  free(v);
}

struct tls_server *tls_server_new(const struct tls_server_settings *s, char *err, size_t errsize) {
  struct tls_server *v = calloc(1, sizeof *v);
  if (v == NULL) abort();
  library_once();
  snprintf(err, errsize, "not enough memory for TLS"); /* unless something says more */
  atomic_init(&v->refs, 1);
  mbedtls_ssl_config_init(&v->conf);
  mbedtls_ssl_ticket_init(&v->tickets);
  mbedtls_ssl_cache_init(&v->cache);
  if (conf_common(&v->conf, MBEDTLS_SSL_IS_SERVER, s->min_version, err, errsize) &&
      server_identities(v, s, err, errsize) && server_client_ca(v, s, err, errsize) && server_resumption(v)) {
    mbedtls_ssl_conf_sni(&v->conf, on_sni, v);
    err[0] = '\0';
    return v;
  }
  server_free(v);
  return NULL;
}

struct tls_server *tls_server_ref(struct tls_server *v) {
  atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
  return v;
}

void tls_server_unref(struct tls_server *v) {
  if (v != NULL && atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1) server_free(v);
}
