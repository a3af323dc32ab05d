/* tls_internal.h: shared by the files core/net/tls_*; no other file includes it.
 *
 *   tls_registry.c the state that all configurations share: the one place with state that is neither a thread's nor a configuration's
 *
 *   tls_path.c    files and folders, as they stand   tls_pem.c      certificates and keys in them
 *   tls_trust.c   authorities, shared by all configurations
 *   tls_config.c  what one reading of files gave     tls_living.c   tls_client and tls_server: settings and their newest reading
 *   tls_shared.c  what configurations have in common tls_tickets.c  a server's tickets and sessions
 *   tls_resume.c  a client's saved sessions          tls_verify.c   names, dates, pins: the verdict and its sentence
 *   tls_session.c one connection                     tls_report.c   what went wrong, who the peer is
 *   tls_notes.c   what soon may be wrong             tls_pace.c     handshakes share a budget
 *   tls_chain.c   the order of a peer's chain */
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
/* Calls `tell` for each reason why tls_identity_load would refuse it: in either file, and in the pair. */
void tls_identity_problems(const char *cert, const char *key, tls_tell_fn tell, void *arg);
/* Bytes of the message that shows it. */
size_t tls_certificate_message(const mbedtls_x509_crt *chain);
enum tls_load {
  TLS_LOAD_FAILED,
  TLS_LOAD_PART, /* one certificate at least; err names the first that could not be read */
  TLS_LOAD_WHOLE
};
/* Appends the certificates of a file. secret: the file may hold a key as well. */
enum tls_load tls_certificates_load(mbedtls_x509_crt *chain, const char *path, bool secret, char *err, size_t errsize);
/* Why a certificate cannot be read, to follow "the certificate ". */
const char *tls_certificate_wrong(int code);
/* Why mbedtls_pk_parse_key failed for this text, as a static sentence; NULL: there is no key in it. */
const char *tls_key_wrong(int code, const char *text);

/* --- digests: state with equal digests may be shared --- */

enum { TLS_DIGEST = 32 };
/* so_far = SHA-256(so_far, SHA-256(p)) */
void tls_digest_add(uint8_t so_far[TLS_DIGEST], const void *p, size_t n);
void tls_digest_chain(uint8_t so_far[TLS_DIGEST], const mbedtls_x509_crt *chain); /* the DER of every certificate */

/* --- tls_registry.c --- */

struct tls_registry {
  /* Authorities. Held while a bundle is read: some 20 ms, so that two threads that want the same one read it once. */
  pthread_mutex_t trusts_lock;
  struct link trusts; /* guarded by trusts_lock: of struct tls_trust, whose refs and link it guards, too */

  /* Ticket keys and saved sessions, by digest. */
  pthread_mutex_t shared_lock;
  struct link shared; /* guarded by shared_lock: of struct tls_shared, whose refs and link it guards, too */

  /* Configurations that live. */
  pthread_mutex_t living_lock;
  struct link living; /* guarded by living_lock: tls_living.c's, and their links */

  /* The callback for a changed set of files. The lock is held during the call, so no call is under way once tls_on_files has returned. */
  pthread_mutex_t changed_lock;
  void (*changed)(void *arg); /* guarded by changed_lock, as is the next */
  void *changed_arg;
};
/* The process's, made by the first call. No two of its locks are held at once. Any thread. */
struct tls_registry *tls_registry(void);

/* --- tls_shared.c: state that lives as long as a configuration needs it; configurations with equal digests share it --- */

struct tls_shared { /* embedded, first */
  uint8_t digest[TLS_DIGEST];
  /* guarded by the registry's shared_lock */
  unsigned refs;
  struct link link;
};
/* A reference to the one with that digest, made by `make` (which may fail: NULL) when there is none. Under the lock: make must be quick. */
struct tls_shared *tls_shared_get(const uint8_t digest[TLS_DIGEST], struct tls_shared *(*make)(void));
void tls_shared_unref(struct tls_shared *s, void (*free_it)(struct tls_shared *s)); /* NULL is fine */

/* --- tls_path.c: a file, or a folder of authorities --- */

void tls_path_each(const char *path, tls_tell_fn tell, void *arg); /* the path, and the entries of a folder */
uint64_t tls_path_stamp(const char *path);                         /* another one when any of these has changed */

/* --- tls_trust.c --- */

struct tls_trust; /* immutable, refcounted; equal files that have not changed give the same one */
struct tls_trust *tls_trust_get(const char *path, char *err, size_t errsize); /* NULL path: the system's bundle */
const char *tls_trust_bundle(void);                                           /* the system's, or NULL */
void tls_trust_problems(const char *path, tls_tell_fn tell, void *arg);       /* tells why there is none, if so */
void tls_trust_unref(struct tls_trust *t);
mbedtls_x509_crt *tls_trust_chain(struct tls_trust *t);     /* to be read only, whatever its type says */
const uint8_t *tls_trust_digest(const struct tls_trust *t); /* 32 bytes */
const char *tls_trust_passed_over(
    const struct tls_trust *t); /* why a certificate of the file is not in the chain, or NULL */

/* --- tls_chain.c --- */

/* Puts what comes behind the peer's own certificate into an order in which mbedTLS finds each issuer, and a trusted one at the end if the chain can lead there.
 * True: that is another order. The list's members stay. */
bool tls_chain_sort(mbedtls_x509_crt *own, const mbedtls_x509_crt *trusted);
/* Of 2.28, which passes over a certificate of its peer that is signed in an unknown way, even the peer's own: which one of the Certificate message (RFC 5246 section
 * 7.4.2; of n bytes, or NULL) that is; 0: none. */
unsigned tls_chain_unread(const unsigned char *message, size_t n);
bool tls_same_name(const mbedtls_x509_buf *a, const mbedtls_x509_buf *b);
bool tls_has_subject(const mbedtls_x509_crt *list, const mbedtls_x509_buf *name); /* list: NULL, or empty, is fine */
bool tls_issued_itself(const mbedtls_x509_crt *crt);                              /* by its names */

/* --- tls_verify.c --- */

struct tls_verdict { /* of one handshake */
  /* set before */
  const char *name;                     /* the name to verify; NULL: none (a server judges a client) */
  const struct tls_client_conf *client; /* its pins; NULL: none */
  struct tls_trust *trust;              /* by whom the handshake verifies; NULL: by nobody */
  const mbedtls_ssl_context *ssl;
  /* set by the handshake */
  bool judged;                   /* a certificate was seen: not a resumed session */
  bool sorted;                   /* the chain led nowhere, and is being verified in another order */
  bool pinned;                   /* one of the pins matched */
  uint32_t flags;                /* MBEDTLS_X509_BADCERT_*, of the whole chain */
  const mbedtls_x509_crt *stuck; /* while it is verified: whose issuer was not found, if `reason` is about that */
  char reason[TLS_REASON_MAX];
};
/* For mbedtls_ssl_set_verify; p is the struct tls_verdict. */
int tls_verdict_step(void *p, mbedtls_x509_crt *crt, int depth, uint32_t *flags);
/* "is not meant for this use (key usage)", for the flags that mbedTLS adds after the last step; NULL: nothing to say of them. */
const char *tls_flags_phrase(uint32_t flags);
/* "other.example, 192.0.2.1, URI:spiffe://…": the names of a certificate; "" when it has none. */
void tls_certificate_names(const mbedtls_x509_crt *crt, char *out, size_t n);
/* Its extended key usage allows that, or it says nothing of it. */
bool tls_is_meant_for(const mbedtls_x509_crt *crt, bool server);
bool tls_is_ip(const char *name); /* an IPv4 or IPv6 literal */
/* A name that a certificate may have: an address, or labels of letters, digits, - and _, with or without a final dot. */
bool tls_is_name(const char *name);

/* --- tls_resume.c --- */

struct tls_resume; /* sessions by peer: the name that was verified, and an address; any thread */
struct tls_resume *tls_resume_get(const uint8_t digest[TLS_DIGEST]);
void tls_resume_unref(struct tls_resume *r);
/* Offers the saved session of that peer in ssl's coming handshake. *until: when it must have been verified anew (clock_boot_ms). */
bool tls_resume_offer(struct tls_resume *r, const char *peer, mbedtls_ssl_context *ssl, int64_t *until);
void tls_resume_save(struct tls_resume *r, const char *peer, const mbedtls_ssl_context *ssl, int64_t until);
void tls_resume_forget(struct tls_resume *r, const char *peer);
/* The end of a session that is verified now: an hour, or its certificate's end when that is nearer. */
int64_t tls_resume_until(const mbedtls_x509_crt *peer);

/* --- tls_tickets.c --- */

struct tls_tickets;
/* For servers of the same names that ask the same of clients. NULL: not enough memory. */
struct tls_tickets *tls_tickets_get(const uint8_t digest[TLS_DIGEST]);
void tls_tickets_unref(struct tls_tickets *t);
/* conf uses it from now on; without tickets: its session cache alone. */
void tls_tickets_use(struct tls_tickets *t, mbedtls_ssl_config *conf, bool tickets);

/* --- tls_config.c: the result of one reading of all files; immutable but for its count, kept by every connection that began with it --- */

/* mbedTLS has the list for ALPN in its configuration, so there is one of these for each list. Only `own` holds anything that must be freed; the others are copies
 * of it that differ in their lists (and, for HTTP/2 alone, in their suites). */
struct tls_confs {
  mbedtls_ssl_config own; /* TLS_ALPN_H1 */
  mbedtls_ssl_config h2_h1, h2;
};

struct tls_client_conf {
  atomic_uint refs;
  struct tls_confs confs;
  struct tls_confs capped;       /* the same for TLS 1.2 alone; used only if `may_cap` */
  bool may_cap;                  /* both 1.2 and 1.3 may be spoken */
  struct tls_trust *trust;       /* NULL: insecure */
  struct tls_identity *identity; /* NULL: no client certificate */
  char *server_name;             /* NULL: the host that is dialled */
  uint8_t (*pins)[TLS_PIN_SIZE];
  size_t npins;
  bool insecure;
  uint64_t fingerprint;
  struct tls_resume *resume;
};

struct tls_server_conf {
  atomic_uint refs;
  struct tls_confs confs;
  struct tls_identity **identities;
  size_t nidentities;
  struct tls_trust *client_trust; /* NULL: client certificates are not asked for */
  bool client_required;
  size_t largest; /* message of its handshakes */
  struct tls_tickets *tickets;
};
struct tls_client_conf *tls_client_conf_new(const struct tls_client_settings *s, char *err, size_t errsize);
struct tls_server_conf *tls_server_conf_new(const struct tls_server_settings *s, char *err, size_t errsize);
const mbedtls_ssl_config *tls_conf_for(const struct tls_confs *c, enum tls_alpn alpn);
void tls_client_conf_unref(struct tls_client_conf *c);
void tls_server_conf_unref(struct tls_server_conf *v);

/* --- tls_living.c --- */

struct tls_client_conf *tls_client_now(struct tls_client *c); /* a new reference */
struct tls_server_conf *tls_server_now(struct tls_server *v);

/* --- tls_notes.c --- */

/* server: for a listener; else a client shows it. */
void tls_identity_notes(const struct tls_identity *id, const struct tls_certificate_settings *files, bool server,
                        enum tls_notes which, tls_tell_fn tell, void *arg);
/* Whether the chain ends at an authority that this system knows, or that `clients` has (NULL: there are none). For servers: where a client's chain ends is
 * for its server to know. */
void tls_chain_notes(const struct tls_identity *id, const char *path, struct tls_trust *clients, tls_tell_fn tell,
                     void *arg);
void tls_authority_notes(struct tls_trust *t, const char *path, enum tls_notes which, tls_tell_fn tell, void *arg);

/* --- tls_report.c --- */

/* Why an mbedTLS function failed, as a sentence. */
void tls_report_error(const mbedtls_ssl_context *ssl, int code, char *out, size_t n);

struct tls_peer_text { /* struct tls_peer points into it; made only when the peer showed a certificate */
  char subject[256], san[512], fingerprint[65];
};
struct tls_peer_text *tls_report_peer(const mbedtls_x509_crt *crt);
int64_t tls_valid_until(const mbedtls_x509_crt *crt); /* milliseconds of the wall clock */

/* --- tls_pace.c --- */

bool tls_pace_may(struct net *net); /* this iteration of the loop has time for a step of a client's handshake */
int64_t tls_pace_begin(void);
void tls_pace_end(struct net *net, int64_t begun);

/* --- tls_session.c --- */

void tls_session_saw_sni(mbedtls_ssl_context *ssl, const unsigned char *name, size_t n);

#endif
