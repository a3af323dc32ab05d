/* tls_config.c: the result of reading a configuration's files once. Connections share it; it is made once and then only read.
 *
 * Every file is read, every key tried and every setting refused here, so that a connection can fail only because of its peer. mbedtls_ssl_config is safe to
 * share between threads as long as nobody changes it; the parts behind it that do change (saved sessions, ticket keys, the session cache, RSA blinding) have
 * locks of their own. Saved sessions and ticket keys outlive a reading: configurations that are equal in everything that a session depends on (tls_digest_add,
 * below) share them, so neither a reload nor a renewed certificate costs a full handshake. */
#include <mbedtls/base64.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "net/tls_internal.h"

/* mbedTLS keeps the pointers; its types forbid const. */
static const char *alpn_h1[] = {"http/1.1", NULL}, *alpn_h2_h1[] = {"h2", "http/1.1", NULL}, *alpn_h2[] = {"h2", NULL};

static void init_library(void) {
  if (!compat_init()) abort();
}

static void library_once(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init_library);
}

enum { DH_BITS_MIN = 2048 /* RFC 9325 section 4.1; mbedTLS takes 1024 */ };

/* The settings that both sides have in common. */
static bool conf_common(mbedtls_ssl_config *conf, int endpoint, enum tls_version min, enum tls_version max, char *err,
                        size_t errsize) {
  if (max == TLS_1_2 && min == TLS_1_3) {
    snprintf(err, errsize, "max_version 1.2 is below min_version 1.3");
    return false;
  }
  if (min == TLS_1_3 && !COMPAT_HAS_TLS_1_3) {
    snprintf(err, errsize, "TLS 1.3 needs mbedTLS 3.6; this program was built with %s", MBEDTLS_VERSION_STRING);
    return false;
  }
  if (mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
    snprintf(err, errsize, "not enough memory for TLS");
    return false;
  }
  mbedtls_ssl_conf_rng(conf, compat_rng, NULL);
  mbedtls_ssl_conf_alpn_protocols(conf, alpn_h1);
  compat_conf_versions(conf, min == TLS_1_3, max == TLS_1_2);
  compat_conf_curves(conf);
  compat_conf_signatures(conf);
  compat_conf_ciphers(conf, endpoint == MBEDTLS_SSL_IS_CLIENT);
  compat_conf_no_renegotiation(conf);
  mbedtls_ssl_conf_dhm_min_bitlen(conf, DH_BITS_MIN);
  mbedtls_ssl_conf_cert_profile(conf,
                                &mbedtls_x509_crt_profile_next); /* 2.28 would take curves of 192 bits, and SHA-224 */
  return true;
}

static void confs_init(struct tls_confs *c) {
  mbedtls_ssl_config_init(&c->own);
  mbedtls_ssl_config_init(&c->h2_h1);
  mbedtls_ssl_config_init(&c->h2);
}

/* When `own` is complete. HTTP/2 alone goes with suites of AEAD alone (RFC 9113 section 9.2.2); where HTTP/1.1 may be the outcome, the session looks at the suite
 * behind the handshake. */
static void confs_finish(struct tls_confs *c) {
  c->h2_h1 = c->h2 = c->own;
  mbedtls_ssl_conf_alpn_protocols(&c->h2_h1, alpn_h2_h1);
  mbedtls_ssl_conf_alpn_protocols(&c->h2, alpn_h2);
  compat_conf_ciphers(&c->h2, false);
}

static void confs_free(struct tls_confs *c) { mbedtls_ssl_config_free(&c->own); }

const mbedtls_ssl_config *tls_conf_for(const struct tls_confs *c, enum tls_alpn alpn) {
  return alpn == TLS_ALPN_H2 ? &c->h2 : alpn == TLS_ALPN_H2_H1 ? &c->h2_h1 : &c->own;
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

static bool client_pins(struct tls_client_conf *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  if (s->npins == 0) return true;
  c->pins = must_calloc(s->npins, sizeof *c->pins);
  for (; c->npins < s->npins; c->npins++)
    if (!parse_pin(s->pins[c->npins], c->pins[c->npins], err, errsize)) return false;
  return true;
}

static bool client_name(const struct tls_client_settings *s, char *err, size_t errsize) {
  if (s->server_name == NULL || tls_is_name(s->server_name)) return true;
  snprintf(err, errsize,
           "server_name \"%.80s\": expected a host name such as api.internal (in ASCII: xn--…) or an address, without "
           "scheme, port or brackets",
           s->server_name);
  return false;
}

static bool client_identity(struct tls_client_conf *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  if (s->cert == NULL && s->key == NULL) return true;
  if (s->cert == NULL || s->key == NULL) {
    snprintf(err, errsize, "%s: a client certificate needs both `cert` and `key`", s->cert != NULL ? s->cert : s->key);
    return false;
  }
  c->identity = tls_identity_load(s->cert, s->key, err, errsize);
  return c->identity != NULL;
}

static bool client_trust(struct tls_client_conf *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  c->insecure = s->insecure != NULL;
  if (c->insecure) return true;
  c->trust = tls_trust_get(s->ca, err, errsize);
  return c->trust != NULL;
}

/* insecure: the certificate is judged for its pins alone, if there are any. */
static int client_authmode(const struct tls_client_conf *c) {
  if (!c->insecure) return MBEDTLS_SSL_VERIFY_REQUIRED;
  return c->npins > 0 ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_NONE;
}

/* confs: of c, for versions up to max. */
static bool client_confs_fill(const struct tls_client_conf *c, struct tls_confs *confs, enum tls_version min,
                              enum tls_version max, char *err, size_t errsize) {
  struct tls_identity *id = c->identity;
  mbedtls_ssl_config *conf = &confs->own;
  if (!conf_common(conf, MBEDTLS_SSL_IS_CLIENT, min, max, err, errsize)) return false;
  mbedtls_ssl_conf_authmode(conf, client_authmode(c));
  if (c->trust != NULL) mbedtls_ssl_conf_ca_chain(conf, tls_trust_chain(c->trust), NULL);
  if (id != NULL && mbedtls_ssl_conf_own_cert(conf, &id->chain, &id->key) != 0) return false;
  confs_finish(confs);
  return true;
}

static bool client_confs(struct tls_client_conf *c, const struct tls_client_settings *s, char *err, size_t errsize) {
  c->may_cap = COMPAT_HAS_TLS_1_3 && s->min_version != TLS_1_3 && s->max_version != TLS_1_2;
  return client_confs_fill(c, &c->confs, s->min_version, s->max_version, err, errsize) &&
         (!c->may_cap || client_confs_fill(c, &c->capped, s->min_version, TLS_1_2, err, errsize));
}

/* Over the meaning, not the text: files that have changed since give another one. */
static void client_digest(const struct tls_client_conf *c, const struct tls_client_settings *s,
                          uint8_t out[TLS_DIGEST]) {
  const char *name = c->server_name != NULL ? c->server_name : "";
  uint8_t head[] = {'c',         (uint8_t)s->min_version, s->max_version == TLS_1_2,
                    c->insecure, c->trust != NULL,        c->identity != NULL};
  memset(out, 0, TLS_DIGEST);
  tls_digest_add(out, head, sizeof head);
  tls_digest_add(out, name, strlen(name));
  if (c->trust != NULL) tls_digest_add(out, tls_trust_digest(c->trust), TLS_DIGEST);
  if (c->identity != NULL) tls_digest_chain(out, &c->identity->chain);
  for (size_t i = 0; i < c->npins; i++) tls_digest_add(out, c->pins[i], TLS_PIN_SIZE);
}

static void client_free(struct tls_client_conf *c) {
  confs_free(&c->confs);
  confs_free(&c->capped);
  tls_resume_unref(c->resume);
  tls_identity_free(c->identity);
  tls_trust_unref(c->trust);
  free(c->server_name);
  free(c->pins);
  free(c);
}

struct tls_client_conf *tls_client_conf_new(const struct tls_client_settings *s, char *err, size_t errsize) {
  struct tls_client_conf *c = must_calloc(1, sizeof *c);
  if (s->server_name != NULL) c->server_name = must_strdup(s->server_name);
  library_once();
  snprintf(err, errsize, "not enough memory for TLS"); /* unless something says more */
  atomic_init(&c->refs, 1);
  confs_init(&c->confs);
  confs_init(&c->capped);
  if (client_name(s, err, errsize) && client_pins(c, s, err, errsize) && client_trust(c, s, err, errsize) &&
      client_identity(c, s, err, errsize) && client_confs(c, s, err, errsize)) {
    uint8_t digest[TLS_DIGEST];
    client_digest(c, s, digest);
    memcpy(&c->fingerprint, digest, sizeof c->fingerprint);
    c->resume = tls_resume_get(digest);
    err[0] = '\0';
    return c;
  }
  client_free(c);
  return NULL;
}

void tls_client_conf_unref(struct tls_client_conf *c) {
  if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) client_free(c);
}

/* --- server --- */

/* Every name in `a` is one of `b`. */
static bool names_within(const mbedtls_x509_crt *a, const mbedtls_x509_crt *b) {
  const mbedtls_x509_sequence *first = b->subject_alt_names.buf.p != NULL ? &b->subject_alt_names : NULL;
  if (a->subject_alt_names.buf.p == NULL) return false;
  for (const mbedtls_x509_sequence *x = &a->subject_alt_names; x != NULL; x = x->next) {
    const mbedtls_x509_sequence *y = first;
    while (y != NULL &&
           (x->buf.tag != y->buf.tag || x->buf.len != y->buf.len || memcmp(x->buf.p, y->buf.p, x->buf.len) != 0))
      y = y->next;
    if (y == NULL) return false;
  }
  return true;
}

/* Sets the certificates for a client that asks for no name, or for none of ours: the first one, and those with keys of other kinds for its names. */
static bool server_default(struct tls_server_conf *v) {
  const mbedtls_x509_crt *first = &v->identities[0]->chain;
  for (size_t i = 0; i < v->nidentities; i++) {
    struct tls_identity *id = v->identities[i];
    if (i > 0 && !names_within(first, &id->chain)) continue;
    if (mbedtls_ssl_conf_own_cert(&v->confs.own, &id->chain, &id->key) != 0) return false;
  }
  return true;
}

static bool server_identities(struct tls_server_conf *v, const struct tls_server_settings *s, char *err,
                              size_t errsize) {
  if (s->ncertificates == 0) {
    snprintf(err, errsize, "a TLS listener needs at least one certificate");
    return false;
  }
  v->identities = must_calloc(s->ncertificates, sizeof *v->identities);
  for (; v->nidentities < s->ncertificates; v->nidentities++) {
    const struct tls_certificate_settings *cs = &s->certificates[v->nidentities];
    v->identities[v->nidentities] = tls_identity_load(cs->cert, cs->key, err, errsize);
    if (v->identities[v->nidentities] == NULL) return false;
  }
  return server_default(v);
}

static bool server_client_ca(struct tls_server_conf *v, const struct tls_server_settings *s, char *err,
                             size_t errsize) {
  mbedtls_ssl_conf_authmode(&v->confs.own, MBEDTLS_SSL_VERIFY_NONE);
  if (s->client_ca == NULL) {
    if (s->client_required) snprintf(err, errsize, "client certificates are required, but no `client_ca` is given");
    return !s->client_required;
  }
  v->client_trust = tls_trust_get(s->client_ca, err, errsize);
  if (v->client_trust == NULL) return false;
  v->client_required = s->client_required;
  mbedtls_ssl_conf_ca_chain(&v->confs.own, tls_trust_chain(v->client_trust), NULL);
  mbedtls_ssl_conf_authmode(&v->confs.own,
                            s->client_required ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_OPTIONAL);
  return true;
}

/* A session remembers that its client was verified, and by whom; its client remembers the name that it reached. So the authorities of clients
 * and the names in our certificates make the difference, and not the keys and dates, which a renewal changes. The kind of key does, too: 2.28
 * chooses a cipher anew when it resumes, and when RSA has taken the place of ECDSA its client cannot follow. */
static void server_digest(const struct tls_server_conf *v, uint8_t out[TLS_DIGEST]) {
  uint8_t head[] = {'s', v->client_trust != NULL, v->client_required};
  memset(out, 0, TLS_DIGEST);
  tls_digest_add(out, head, sizeof head);
  if (v->client_trust != NULL) tls_digest_add(out, tls_trust_digest(v->client_trust), TLS_DIGEST);
  for (size_t i = 0; i < v->nidentities; i++) {
    const mbedtls_x509_crt *crt = &v->identities[i]->chain;
    uint8_t kind = (uint8_t)mbedtls_pk_get_type(&crt->pk);
    tls_digest_add(out, &kind, sizeof kind);
    tls_digest_add(out, crt->subject_raw.p, crt->subject_raw.len);
    for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s != NULL; s = s->next)
      tls_digest_add(out, s->buf.p, s->buf.len);
  }
}

/* Who asks clients for certificates sends them the names of its authorities, and a ticket with what they show: of any size. Else it is a chain, or a signed key
 * exchange. */
static size_t largest_message(const struct tls_server_conf *v) {
  enum { KEY_EXCHANGE = 4 + 4 + 133 /* a point of P-521 */ + 4, ECDSA_EXTRA = 16 };
  size_t largest = 0;
  if (v->client_trust != NULL) return SIZE_MAX;
  for (size_t i = 0; i < v->nidentities; i++) {
    const struct tls_identity *id = v->identities[i];
    size_t shown = tls_certificate_message(&id->chain), size = mbedtls_pk_get_len(&id->key);
    size_t rsa = mbedtls_pk_can_do(&id->key, MBEDTLS_PK_RSA) ? 1 : 2;
    size_t exchanged = KEY_EXCHANGE + rsa * size + ECDSA_EXTRA;
    if (shown > largest) largest = shown;
    if (exchanged > largest) largest = exchanged;
  }
  return largest;
}

/* Tickets and the cache serve every thread, so that a client may come back to any worker. */
static bool server_resumption(struct tls_server_conf *v) {
  uint8_t digest[TLS_DIGEST];
  server_digest(v, digest);
  v->tickets = tls_tickets_get(digest);
  if (v->tickets == NULL) return false;
  tls_tickets_use(v->tickets, &v->confs.own, v->client_trust == NULL || compat_tickets_keep_client());
  return true;
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
static unsigned offer(struct tls_server_conf *v, mbedtls_ssl_context *ssl, struct str name, bool wildcard) {
  unsigned n = 0;
  for (size_t i = 0; i < v->nidentities; i++) {
    struct tls_identity *id = v->identities[i];
    if (covers(&id->chain, name, wildcard) && mbedtls_ssl_set_hs_own_cert(ssl, &id->chain, &id->key) == 0) n++;
  }
  return n;
}

static int on_sni(void *p, mbedtls_ssl_context *ssl, const unsigned char *name, size_t n) {
  struct tls_server_conf *v = p;
  struct str s = {(const char *)name, n};
  tls_session_saw_sni(ssl, name, n);
  if (s.n > 1 && s.p[s.n - 1] == '.') s.n--; /* not allowed (RFC 6066 section 3), but sent for a URL that has it */
  if (offer(v, ssl, s, false) == 0) offer(v, ssl, s, true);
  return 0; /* when none was set, the default of the configuration is offered */
}

static void server_free(struct tls_server_conf *v) {
  confs_free(&v->confs);
  tls_tickets_unref(v->tickets);
  for (size_t i = 0; i < v->nidentities; i++) tls_identity_free(v->identities[i]);
  free(v->identities);
  tls_trust_unref(v->client_trust);
  free(v);
}

struct tls_server_conf *tls_server_conf_new(const struct tls_server_settings *s, char *err, size_t errsize) {
  struct tls_server_conf *v = must_calloc(1, sizeof *v);
  library_once();
  snprintf(err, errsize, "not enough memory for TLS"); /* unless something says more */
  atomic_init(&v->refs, 1);
  confs_init(&v->confs);
  if (conf_common(&v->confs.own, MBEDTLS_SSL_IS_SERVER, s->min_version, s->max_version, err, errsize) &&
      server_identities(v, s, err, errsize) && server_client_ca(v, s, err, errsize) && server_resumption(v)) {
    mbedtls_ssl_conf_sni(&v->confs.own, on_sni, v);
    confs_finish(&v->confs);
    v->largest = largest_message(v);
    err[0] = '\0';
    return v;
  }
  server_free(v);
  return NULL;
}

/* --- all problems of a configuration --- */

void tls_client_problems(const struct tls_client_settings *s, tls_tell_fn tell, void *arg) {
  if (s->insecure == NULL) tls_trust_problems(s->ca, tell, arg);
  if (s->cert != NULL && s->key != NULL) tls_identity_problems(s->cert, s->key, tell, arg);
}

void tls_server_problems(const struct tls_server_settings *s, tls_tell_fn tell, void *arg) {
  for (size_t i = 0; i < s->ncertificates; i++)
    tls_identity_problems(s->certificates[i].cert, s->certificates[i].key, tell, arg);
  if (s->client_ca != NULL) tls_trust_problems(s->client_ca, tell, arg);
}

void tls_server_conf_unref(struct tls_server_conf *v) {
  if (v != NULL && atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1) server_free(v);
}
