/* tls_internal.h: what the files of core/net/tls_* share. Nobody else includes it.
 *
 *   tls_pem.c     files: certificates, keys          tls_trust.c    authorities, shared by all configurations
 *   tls_config.c  tls_client and tls_server          tls_verify.c   names, dates, pins: the verdict and its sentence
 *   tls_resume.c  a client's saved sessions          tls_session.c  one connection
 *   tls_report.c  what went wrong, who the peer is */
#ifndef JETON_NET_TLS_INTERNAL_H
#define JETON_NET_TLS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "net/tls.h"
#include "net/tls_compat.h"

enum { TLS_REASON_MAX = 320, TLS_PIN_SIZE = 32 };

/* --- tls_pem.c: failures put a sentence that names the file into err --- */

struct tls_identity { /* a certificate, its chain and its key */
  mbedtls_x509_crt chain;
  mbedtls_pk_context key;
};
struct tls_identity *tls_identity_load(const char *cert, const char *key, char *err, size_t errsize);
void tls_identity_free(struct tls_identity *id);
/* Appends the certificates of a file: one at least. secret: the file may hold a key as well. */
bool tls_certificates_load(mbedtls_x509_crt *chain, const char *path, bool secret, char *err, size_t errsize);
/* SHA-256 over the DER of every certificate of a chain. */
void tls_chain_digest(const mbedtls_x509_crt *chain, uint8_t out[32]);

/* --- tls_trust.c --- */

struct tls_trust; /* immutable, refcounted; equal files that have not changed give the same one */
struct tls_trust *tls_trust_get(const char *path, char *err, size_t errsize); /* NULL path: the system's bundle */
void tls_trust_unref(struct tls_trust *t);
mbedtls_x509_crt *tls_trust_chain(struct tls_trust *t);     /* to be read only, whatever its type says */
const uint8_t *tls_trust_digest(const struct tls_trust *t); /* 32 bytes */

/* --- tls_verify.c --- */

struct tls_verdict { /* of one handshake */
  /* set before */
  const char *name;                /* the name to verify; NULL: none (a server judges a client) */
  const struct tls_client *client; /* its pins; NULL: none */
  /* set by the handshake */
  bool judged;    /* a certificate was seen: not a resumed session */
  bool pinned;    /* one of the pins matched */
  uint32_t flags; /* MBEDTLS_X509_BADCERT_*, of the whole chain */
  char reason[TLS_REASON_MAX];
};
/* For mbedtls_ssl_set_verify; p is the struct tls_verdict. */
int tls_verdict_step(void *p, mbedtls_x509_crt *crt, int depth, uint32_t *flags);
/* "is not meant for this use (key usage)", for the flags that mbedTLS adds after the last step; NULL: nothing to say of them. */
const char *tls_flags_phrase(uint32_t flags);
/* "other.example, 192.0.2.1": what a certificate is for; "" when it names nothing. */
void tls_certificate_names(const mbedtls_x509_crt *crt, char *out, size_t n);
bool tls_is_ip(const char *name); /* an IPv4 or IPv6 literal */

/* --- tls_resume.c --- */

struct tls_resume { /* sessions by name; any thread */
  pthread_mutex_t lock;
  struct link entries; /* guarded by lock; the freshest last */
  unsigned n;          /* guarded by lock */
};
void tls_resume_init(struct tls_resume *r);
void tls_resume_fini(struct tls_resume *r);
/* Offers the saved session of that name in ssl's coming handshake. *until: when it must have been verified anew (clock_boot_ms). */
bool tls_resume_offer(struct tls_resume *r, const char *name, mbedtls_ssl_context *ssl, int64_t *until);
void tls_resume_save(struct tls_resume *r, const char *name, const mbedtls_ssl_context *ssl, int64_t until);
void tls_resume_forget(struct tls_resume *r, const char *name);
/* The end of a session that is verified now: an hour, or its certificate's end when that is nearer. */
int64_t tls_resume_until(const mbedtls_x509_crt *peer);

/* --- tls_config.c --- */

struct tls_client {
  atomic_uint refs;
  /* immutable */
  mbedtls_ssl_config conf;
  struct tls_trust *trust;       /* NULL: insecure */
  struct tls_identity *identity; /* NULL: no client certificate */
  char *server_name;             /* NULL: the host that is dialled */
  uint8_t (*pins)[TLS_PIN_SIZE];
  size_t npins;
  bool insecure;
  uint64_t fingerprint;
  /* has a lock of its own */
  struct tls_resume resume;
};

struct tls_server {
  atomic_uint refs;
  /* immutable */
  mbedtls_ssl_config conf;
  struct tls_identity **identities;
  size_t nidentities;
  struct tls_trust *client_trust; /* NULL: client certificates are not asked for */
  bool client_required;
  /* have locks of their own */
  mbedtls_ssl_ticket_context tickets;
  mbedtls_ssl_cache_context cache;
};

/* --- tls_report.c --- */

/* Why an mbedTLS function failed, as a sentence. */
void tls_report_error(const mbedtls_ssl_context *ssl, int code, char *out, size_t n);

struct tls_peer_text { /* what struct tls_peer points into; made only when the peer showed a certificate */
  char subject[256], san[512], fingerprint[65];
};
struct tls_peer_text *tls_report_peer(const mbedtls_x509_crt *crt);

/* --- tls_session.c --- */

void tls_session_saw_sni(mbedtls_ssl_context *ssl, const unsigned char *name, size_t n);

#endif
