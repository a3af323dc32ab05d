/* tls_compat.h: the two mbedTLS majors behind one set of names. Only files of core/net/tls_* include it.
 *
 * 2.28 (Debian 12): TLS 1.2, public struct fields, ECP tables made lazily inside shared groups.
 * 3.6 (Debian 13): TLS 1.2 and 1.3, private fields, PSA behind 1.3, generator in more signatures. No other file asks for the version. */
#ifndef JETON_NET_TLS_COMPAT_H
#define JETON_NET_TLS_COMPAT_H

#include <mbedtls/asn1.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/rsa.h>
#include <mbedtls/sha256.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cache.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/rand.h"

#define COMPAT_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)

#if COMPAT_3
#include <psa/crypto.h>
#endif

static inline int compat_rng(void *unused, unsigned char *out, size_t n) {
  (void)unused;
  random_bytes(out, n);
  return 0;
}

/* TLS 1.3 of mbedTLS computes through PSA. Idempotent; the caller sees to it that only one thread is here. */
static inline bool compat_init(void) {
#if COMPAT_3
  return psa_crypto_init() == PSA_SUCCESS;
#else
  return true;
#endif
}

/* pem must end in a NUL that counts in n (DER does not). */
static inline int compat_parse_key(mbedtls_pk_context *pk, const unsigned char *pem, size_t n) {
#if COMPAT_3
  return mbedtls_pk_parse_key(pk, pem, n, NULL, 0, compat_rng, NULL);
#else
  return mbedtls_pk_parse_key(pk, pem, n, NULL, 0);
#endif
}

/* The bytes that mbedtls_pem_read_buffer decoded. */
#if COMPAT_3
#define COMPAT_PEM_BYTES(pem) ((pem)->MBEDTLS_PRIVATE(buf))
#define COMPAT_PEM_SIZE(pem) ((pem)->MBEDTLS_PRIVATE(buflen))
#else
#define COMPAT_PEM_BYTES(pem) ((pem)->buf)
#define COMPAT_PEM_SIZE(pem) ((pem)->buflen)
#endif

/* The certificate may sign others (basicConstraints). */
static inline bool compat_may_sign(const mbedtls_x509_crt *crt) {
#if COMPAT_3
  return crt->MBEDTLS_PRIVATE(ca_istrue) != 0;
#else
  return crt->ca_istrue != 0;
#endif
}

/* The hash that the certificate's signature is made over. */
static inline mbedtls_md_type_t compat_signature_md(const mbedtls_x509_crt *crt) {
#if COMPAT_3
  return crt->MBEDTLS_PRIVATE(sig_md);
#else
  return crt->sig_md;
#endif
}

static inline int compat_check_pair(const mbedtls_pk_context *pub, const mbedtls_pk_context *key) {
#if COMPAT_3
  return mbedtls_pk_check_pair(pub, key, compat_rng, NULL);
#else
  return mbedtls_pk_check_pair(pub, key);
#endif
}

static inline int compat_sign(mbedtls_pk_context *pk, mbedtls_md_type_t md, const unsigned char *hash, size_t n,
                              unsigned char *sig, size_t size, size_t *sig_n) {
#if COMPAT_3
  return mbedtls_pk_sign(pk, md, hash, n, sig, size, sig_n, compat_rng, NULL);
#else
  (void)size; /* MBEDTLS_PK_SIGNATURE_MAX_SIZE is the caller's duty there */
  return mbedtls_pk_sign(pk, md, hash, n, sig, sig_n, compat_rng, NULL);
#endif
}

/* From here on mbedtls_pk_sign makes RSASSA-PSS, its salt as long as the hash. */
static inline int compat_use_pss(mbedtls_pk_context *pk, mbedtls_md_type_t md) {
#if COMPAT_3
  return mbedtls_rsa_set_padding(mbedtls_pk_rsa(*pk), MBEDTLS_RSA_PKCS_V21, md);
#else
  mbedtls_rsa_set_padding(mbedtls_pk_rsa(*pk), MBEDTLS_RSA_PKCS_V21, (int)md);
  return 0;
#endif
}

static inline mbedtls_ecp_group_id compat_curve(const mbedtls_pk_context *pk) {
#if COMPAT_3
  return mbedtls_ecp_keypair_get_group_id(mbedtls_pk_ec(*pk));
#else
  return mbedtls_pk_ec(*pk)->grp.id;
#endif
}

static inline int compat_sha256(const unsigned char *p, size_t n, unsigned char out[32]) {
#if COMPAT_3
  return mbedtls_sha256(p, n, out, 0);
#else
  return mbedtls_sha256_ret(p, n, out, 0);
#endif
}

/* --- configuration --- */

enum { COMPAT_HAS_TLS_1_3 = COMPAT_3 };
#if COMPAT_3
#define COMPAT_SPOKEN "1.2 and 1.3 are spoken here, within min_version and max_version"
#else
#define COMPAT_SPOKEN "1.2 alone is spoken here (1.3 would need mbedTLS 3.6)"
#endif

static inline void compat_conf_versions(mbedtls_ssl_config *conf, bool only_1_3, bool only_1_2) {
#if COMPAT_3
  mbedtls_ssl_conf_min_tls_version(conf, only_1_3 ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
  mbedtls_ssl_conf_max_tls_version(conf, only_1_2 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3);
  mbedtls_ssl_conf_tls13_key_exchange_modes(
      conf, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL | MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_EPHEMERAL);
#if MBEDTLS_VERSION_NUMBER >= 0x03060100
  mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(conf, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
#else
  (void)only_1_3, (void)only_1_2; /* tls_client_new and tls_server_new have refused 1.3 alone */
  mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
  mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
}

/* The fast curves first: 2.28 begins with P-521. */
static inline void compat_conf_curves(mbedtls_ssl_config *conf) {
#if COMPAT_3
  static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519, MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                    MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
                                    MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
  mbedtls_ssl_conf_groups(conf, groups);
#else
  static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                                MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_SECP521R1,
                                                MBEDTLS_ECP_DP_NONE};
  mbedtls_ssl_conf_curves(conf, curves);
#endif
}

/* Nothing that SHA-1 or SHA-224 signed: 2.28 takes the latter unless it is told.
 *
 * PKCS #1 before PSS, the other way round than 3.6 has it: its client offers PSS, for the sake of TLS 1.3, but cannot take it from a server that then
 * speaks 1.2, and most servers choose by the order of the client. For those that go by their own see compat_refused_pss. */
static inline void compat_conf_signatures(mbedtls_ssl_config *conf) {
#if COMPAT_3
  static const uint16_t algorithms[] = {
      MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256, MBEDTLS_TLS1_3_SIG_ECDSA_SECP384R1_SHA384,
      MBEDTLS_TLS1_3_SIG_ECDSA_SECP521R1_SHA512, MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA256,
      MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA384,       MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA512,
      MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA256,    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA384,
      MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA512,    MBEDTLS_TLS1_3_SIG_NONE};
  mbedtls_ssl_conf_sig_algs(conf, algorithms);
#else
  static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};
  mbedtls_ssl_conf_sig_hashes(conf, hashes);
#endif
}

/* All with forward secrecy; ECDSA before RSA, whose handshakes cost half as much again; ChaCha20 before AES-GCM, which mbedTLS computes block by
 * block even where there is AES-NI: 4.1 s of a processor a GB against 5.5 in 2.28, 3.6 against 4.7 in 3.6. `old` adds what dated servers may
 * be left with: DHE, CBC. */
static inline void compat_conf_ciphers(mbedtls_ssl_config *conf, bool old) {
#if COMPAT_3
#define COMPAT_TLS_1_3_CIPHERS \
  MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, MBEDTLS_TLS1_3_AES_128_GCM_SHA256, MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
#else
#define COMPAT_TLS_1_3_CIPHERS
#endif
#define COMPAT_AEAD                                                                                       \
  COMPAT_TLS_1_3_CIPHERS MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,                           \
      MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,   \
      MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
      MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
  static const int aead[] = {COMPAT_AEAD, 0};
  static const int all[] = {COMPAT_AEAD,
                            MBEDTLS_TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                            MBEDTLS_TLS_DHE_RSA_WITH_AES_128_GCM_SHA256,
                            MBEDTLS_TLS_DHE_RSA_WITH_AES_256_GCM_SHA384,
                            MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
                            MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
                            MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,
                            MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
                            MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
                            MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
                            MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
                            MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
                            MBEDTLS_TLS_DHE_RSA_WITH_AES_128_CBC_SHA256,
                            MBEDTLS_TLS_DHE_RSA_WITH_AES_256_CBC_SHA256,
                            MBEDTLS_TLS_DHE_RSA_WITH_AES_128_CBC_SHA,
                            MBEDTLS_TLS_DHE_RSA_WITH_AES_256_CBC_SHA,
                            0};
  mbedtls_ssl_conf_ciphersuites(conf, old ? all : aead);
}

/* --- a smaller size of records (max_fragment_length, RFC 6066 section 4) --- */

/* mbedtls_ssl_handshake for a server that grants a client no smaller records than `largest` bytes: the largest message of its handshake. mbedTLS grants whatever is
 * asked for, and then sends each message of the handshake in one record. Between the steps the client has asked, and has not been answered. */
static inline int compat_serve_handshake(mbedtls_ssl_context *ssl, size_t largest) {
  static const size_t sizes[] = {SIZE_MAX, 512, 1024, 2048, 4096}; /* by code; 0: none */
#if COMPAT_3
#define COMPAT_STATE(ssl) ((ssl)->MBEDTLS_PRIVATE(state))
#define COMPAT_FRAGMENT(ssl) ((ssl)->MBEDTLS_PRIVATE(session_negotiate)->MBEDTLS_PRIVATE(mfl_code))
#else
#define COMPAT_STATE(ssl) ((ssl)->state)
#define COMPAT_FRAGMENT(ssl) ((ssl)->session_negotiate->mfl_code)
#endif
  while (COMPAT_STATE(ssl) != MBEDTLS_SSL_HANDSHAKE_OVER) {
    int r = mbedtls_ssl_handshake_step(ssl);
    if (r != 0) return r;
    if (COMPAT_STATE(ssl) != MBEDTLS_SSL_SERVER_HELLO) continue;
    if (COMPAT_FRAGMENT(ssl) > 4 || sizes[COMPAT_FRAGMENT(ssl)] < largest) COMPAT_FRAGMENT(ssl) = 0;
  }
  return 0;
}

/* --- sessions --- */

/* TLS 1.3 resumes by ticket alone, and only once the ticket has come, after the handshake. */
static inline bool compat_is_1_3(const mbedtls_ssl_context *ssl) {
#if COMPAT_3
  return mbedtls_ssl_get_version_number(ssl) == MBEDTLS_SSL_VERSION_TLS1_3;
#else
  (void)ssl;
  return false;
#endif
}

#if COMPAT_3
#define COMPAT_ERR_VERSION MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
#define COMPAT_ERR_NO_CIPHER MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE
#define COMPAT_ERR_HELLO MBEDTLS_ERR_SSL_DECODE_ERROR
#define COMPAT_ERR_KEY_EXCHANGE MBEDTLS_ERR_SSL_ILLEGAL_PARAMETER
#else
#define COMPAT_ERR_VERSION MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION
#define COMPAT_ERR_NO_CIPHER MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN
#define COMPAT_ERR_HELLO MBEDTLS_ERR_SSL_BAD_HS_CLIENT_HELLO
#define COMPAT_ERR_KEY_EXCHANGE MBEDTLS_ERR_SSL_BAD_HS_SERVER_KEY_EXCHANGE
#endif

/* The client has ended its handshake because a server of TLS 1.2 signed its key exchange by RSA-PSS, which 3.6 offers and does not take (Mbed-TLS issue
 * 10668). Only a hello for 1.2 alone goes without that offer. */
#if COMPAT_3
/* ServerKeyExchange: `n` bytes of parameters, then a signature (RFC 5246 section 7.4.3, RFC 8422 section 5.4), and nothing behind it. */
static inline bool compat_pss_behind(const unsigned char *p, size_t size, size_t n) {
  if (n > size || size - n < 4) return false;
  size_t signature = (size_t)(p[n + 2] << 8 | p[n + 3]);
  return p[n] == 8 && p[n + 1] >= 4 && p[n + 1] <= 6 && size - n - 4 == signature;
}
#endif
static inline bool compat_refused_pss(const mbedtls_ssl_context *ssl, int code) {
#if COMPAT_3
  const unsigned char *m = ssl->MBEDTLS_PRIVATE(in_msg);
  size_t size = ssl->MBEDTLS_PRIVATE(in_hslen), dh = 0;
  if (code != MBEDTLS_ERR_SSL_ILLEGAL_PARAMETER || ssl->MBEDTLS_PRIVATE(state) != MBEDTLS_SSL_SERVER_KEY_EXCHANGE ||
      mbedtls_ssl_get_version_number(ssl) != MBEDTLS_SSL_VERSION_TLS1_2 || size < 8)
    return false;
  m += 4; /* of the message's own header */
  size -= 4;
  if (m[0] == 3 /* named_curve */ && compat_pss_behind(m, size, 4 + (size_t)m[3])) return true;
  for (int i = 0; i < 3 && dh + 2 <= size; i++) dh += 2 + (size_t)(m[dh] << 8 | m[dh + 1]); /* p, g and Y of DHE */
  return compat_pss_behind(m, size, dh);
#else
  (void)ssl, (void)code;
  return false;
#endif
}

/* Bytes of a record that has not come whole yet: an end of the stream here cut it short. */
static inline bool compat_in_record(const mbedtls_ssl_context *ssl) {
#if COMPAT_3
  return ssl->MBEDTLS_PRIVATE(in_left) > 0;
#else
  return ssl->in_left > 0;
#endif
}

/* Before each mbedtls_ssl_read, which would take the fourth empty record in a row for an attack. But they cost no more than any other bytes, and the connection of
 * a peer that sends nothing else ages as if it were silent. */
static inline void compat_forget_empty(mbedtls_ssl_context *ssl) {
#if COMPAT_3
  ssl->MBEDTLS_PRIVATE(nb_zero) = 0;
#else
  ssl->nb_zero = 0;
#endif
}

/* What has come last, behind the header of its record. Some bytes of it may be read, whatever it is. */
static inline const unsigned char *compat_input(const mbedtls_ssl_context *ssl) {
#if COMPAT_3
  return ssl->MBEDTLS_PRIVATE(in_msg);
#else
  return ssl->in_msg;
#endif
}

/* If that is a message of the handshake, other than a client's hello: its type, three bytes of length, its body. Else NULL. */
static inline const unsigned char *compat_message(const mbedtls_ssl_context *ssl) {
#if COMPAT_3
  return ssl->MBEDTLS_PRIVATE(in_msgtype) == MBEDTLS_SSL_MSG_HANDSHAKE ? compat_input(ssl) : NULL;
#else
  return ssl->in_msgtype == MBEDTLS_SSL_MSG_HANDSHAKE ? compat_input(ssl) : NULL;
#endif
}

/* After mbedtls_ssl_read: the last that came was a HelloRequest (RFC 5246 section 7.4.1.1). */
static inline bool compat_asked_anew(const mbedtls_ssl_context *ssl) {
  const unsigned char *m = compat_message(ssl);
  return m != NULL && m[0] == MBEDTLS_SSL_HS_HELLO_REQUEST;
}

/* The peer's certificates as they came, while they are verified; NULL: 3.6 refuses what it cannot read, so nobody needs to look. */
static inline const unsigned char *compat_certificate_message(const mbedtls_ssl_context *ssl, size_t *n) {
#if COMPAT_3
  (void)ssl;
  *n = 0;
  return NULL;
#else
  const unsigned char *m = compat_message(ssl);
  *n = ssl->in_hslen;
  return m != NULL && m[0] == MBEDTLS_SSL_HS_CERTIFICATE ? m : NULL;
#endif
}

/* After MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE: which alert (RFC 8446 section 6). */
static inline unsigned char compat_alert(const mbedtls_ssl_context *ssl) {
#if COMPAT_3
  return ssl->MBEDTLS_PRIVATE(in_msg)[1];
#else
  return ssl->in_msg[1];
#endif
}

/* mbedtls_ssl_read's result when a session ticket has arrived in place of data; 0 when it has none for that. */
#if COMPAT_3
#define COMPAT_NEW_TICKET MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
#else
#define COMPAT_NEW_TICKET 0
#endif

/* The tickets of TLS 1.3 carry no client certificate: a server that asks for one must not take them. */
static inline bool compat_tickets_keep_client(void) { return !COMPAT_3; }

/* In 2.28 a session is refused renegotiation only by configuration; in 3.6 too, and off by default in both: said once more. */
static inline void compat_conf_no_renegotiation(mbedtls_ssl_config *conf) {
#if defined(MBEDTLS_SSL_RENEGOTIATION)
  mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
  mbedtls_ssl_conf_legacy_renegotiation(conf, MBEDTLS_SSL_LEGACY_NO_RENEGOTIATION);
}

/* --- keys that threads share ---
 *
 * 2.28 computes a table of multiples of the curve's base point at the first use of a group and stores it in that group,
 * without a lock: two threads that check certificates by one EC authority would race. So the tables are made beforehand,
 * one a curve, and lent to every group of the trusted chain; they are taken back before the chain is freed. 3.6 has the
 * tables of the common curves as constants. A private key of our own gets its table from a signature made when it is loaded. */
enum { COMPAT_CURVES = 16 };
struct compat_tables {
  mbedtls_ecp_group lenders[COMPAT_CURVES];
  unsigned n;
};

#if !COMPAT_3
static inline mbedtls_ecp_group *compat_lender(struct compat_tables *t, mbedtls_ecp_group_id id) {
  for (unsigned i = 0; i < t->n; i++)
    if (t->lenders[i].id == id) return &t->lenders[i];
  if (t->n == COMPAT_CURVES) return NULL;
  mbedtls_ecp_group *g = &t->lenders[t->n];
  mbedtls_ecp_point point;
  mbedtls_mpi one;
  mbedtls_ecp_group_init(g);
  mbedtls_ecp_point_init(&point);
  mbedtls_mpi_init(&one);
  bool made = mbedtls_ecp_group_load(g, id) == 0 && mbedtls_mpi_lset(&one, 1) == 0 &&
              mbedtls_ecp_mul(g, &point, &one, &g->G, compat_rng, NULL) == 0;
  mbedtls_mpi_free(&one);
  mbedtls_ecp_point_free(&point);
  if (!made) {
    mbedtls_ecp_group_free(g);
    return NULL;
  }
  t->n++;
  return g;
}
#endif

static inline bool compat_lend_tables(struct compat_tables *t, mbedtls_x509_crt *chain) {
#if !COMPAT_3
  for (mbedtls_x509_crt *c = chain; c != NULL && c->version != 0; c = c->next) {
    if (!mbedtls_pk_can_do(&c->pk, MBEDTLS_PK_ECKEY)) continue;
    mbedtls_ecp_group *mine = &mbedtls_pk_ec(c->pk)->grp, *lender = compat_lender(t, mine->id);
    if (lender == NULL) return false;
    mine->T = lender->T;
    mine->T_size = lender->T_size;
  }
#endif
  (void)t;
  (void)chain;
  return true;
}

static inline void compat_take_tables(struct compat_tables *t, mbedtls_x509_crt *chain) {
#if !COMPAT_3
  for (mbedtls_x509_crt *c = chain; c != NULL && c->version != 0; c = c->next) {
    if (!mbedtls_pk_can_do(&c->pk, MBEDTLS_PK_ECKEY)) continue;
    mbedtls_pk_ec(c->pk)->grp.T = NULL;
    mbedtls_pk_ec(c->pk)->grp.T_size = 0;
  }
  for (unsigned i = 0; i < t->n; i++) mbedtls_ecp_group_free(&t->lenders[i]);
#endif
  t->n = 0;
  (void)chain;
}

#endif
