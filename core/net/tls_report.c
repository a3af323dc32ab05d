/* tls_report.c: sentences about a connection for logs and error pages, and the facts about its peer. Pure functions. */
#include <stdio.h>
#include <time.h>

#include "base/must.h"
#include "net/tls_internal.h"

#define TOO_LONG                                                                                              \
  "a message of the peer's handshake is longer than 16 KB, the most that mbedTLS takes: does it send a long " \
  "chain of certificates?"

struct sentence {
  int code;
  const char *text;
};

/* RFC 8446 section 6.2, RFC 5246 section 7.2.2: the alerts of a peer that gives up. */
static const struct sentence alerts[] = {
    {10, "unexpected message"},
    {20, "a record that it could not authenticate"},
    {40,
     "no cipher or parameter in common, or no certificate from us (spoken here: ECDHE and DHE with certificates of RSA "
     "or "
     "EC; neither RSA key exchange nor Ed25519)"},
    {42, "our certificate is damaged"},
    {43, "our certificate is of a kind it does not take"},
    {44, "our certificate is revoked"},
    {45, "our certificate has expired"},
    {46, "our certificate was not accepted"},
    {47, "illegal parameter"},
    {48, "it does not know the authority of our certificate"},
    {49, "access denied"},
    {50, "a message that it could not decode"},
    {51, "a signature that it could not verify"},
    {70, "no TLS version in common: " COMPAT_SPOKEN},
    {71, "our ciphers are too weak for it"},
    {80, "internal error"},
    {90, "cancelled by its user"},
    {112, "it has no certificate for this name"},
    {116, "it requires a client certificate (`cert` and `key` of `tls`)"},
    {120, "no protocol in common (ALPN)"},
};

static const struct sentence errors[] = {
    {MBEDTLS_ERR_SSL_INVALID_RECORD, "what the peer sent is not TLS"},
    {MBEDTLS_ERR_SSL_INVALID_MAC, "a record was damaged on its way"},
    {COMPAT_ERR_HELLO, "what the peer sent is not TLS, or offers nothing that is taken here"},
    {COMPAT_ERR_NO_CIPHER, "no cipher suite in common"},
    {MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE, "the client showed no certificate"},
    {MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE, "the peer sent a message out of order"},
    {COMPAT_ERR_KEY_EXCHANGE, "the peer chose parameters that are not taken here: too weak, or never offered"},
    {MBEDTLS_ERR_SSL_FEATURE_UNAVAILABLE,
     "the peer's handshake is beyond mbedTLS " MBEDTLS_VERSION_STRING
     ": most likely a message (a long chain of certificates?) is split over records, as it must be beyond 16 KB"},
    {MBEDTLS_ERR_SSL_BAD_INPUT_DATA, TOO_LONG},
    {MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL, TOO_LONG},
    {MBEDTLS_ERR_X509_FATAL_ERROR,
     "the peer's chain of certificates has more than 8 intermediates, which is the most that mbedTLS follows"},
    {MBEDTLS_ERR_SSL_ALLOC_FAILED, "not enough memory"},
    {MBEDTLS_ERR_SSL_CONN_EOF, "the peer closed the connection"},
    {MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, "the peer closed the connection"},
};

/* Of X.509, or of the key in a certificate. */
static bool is_of_certificate(int code) {
  int high = -code & 0xff80;
  return (high >= 0x2000 && high < 0x3000) || (high >= 0x3a00 && high < 0x4000);
}

static const char *find(const struct sentence *table, size_t n, int code) {
  for (size_t i = 0; i < n; i++)
    if (table[i].code == code) return table[i].text;
  return NULL;
}

static void report_alert(unsigned char alert, char *out, size_t n) {
  const char *text = find(alerts, sizeof alerts / sizeof *alerts, alert);
  if (text != NULL)
    snprintf(out, n, "the peer refused: %s", text);
  else
    snprintf(out, n, "the peer refused with alert %u", alert);
}

/* From the hello of the peer: the version that a server chose, or the highest that a client offers. 1.3 does not show there, and is never too low. */
static void report_version(const mbedtls_ssl_context *ssl, char *out, size_t n) {
  static const char *const names[] = {"SSL 3", "TLS 1.0", "TLS 1.1", "TLS 1.2"};
  const unsigned char *m = compat_input(ssl);
  bool hello = m[0] == MBEDTLS_SSL_HS_CLIENT_HELLO || m[0] == MBEDTLS_SSL_HS_SERVER_HELLO;
  if (!hello || m[4] != 3 || m[5] > 3) {
    snprintf(out, n, "no TLS version in common: %s", COMPAT_SPOKEN);
    return;
  }
  snprintf(out, n, "no TLS version in common: the peer %s %s, and the lowest that is spoken here is %s",
           m[0] == MBEDTLS_SSL_HS_CLIENT_HELLO ? "offers up to" : "chose", names[m[5]],
           m[5] < 3 ? "1.2" : "1.3 (min_version)");
}

/* What mbedTLS calls a message out of order may be one that it does not know: false. */
static bool report_unknown_message(const mbedtls_ssl_context *ssl, char *out, size_t n) {
  const unsigned char *m = compat_message(ssl);
  bool key_update = COMPAT_HAS_TLS_1_3 && m != NULL && m[0] == 24;
  if (key_update)
    snprintf(out, n,
             "the peer changed its keys in mid-connection (KeyUpdate of TLS 1.3), which mbedTLS cannot follow: "
             "max_version = \"1.2\" does without");
  return key_update;
}

void tls_report_error(const mbedtls_ssl_context *ssl, int code, char *out, size_t n) {
  if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) return report_alert(compat_alert(ssl), out, n);
  if (code == COMPAT_ERR_VERSION) return report_version(ssl, out, n);
  if (code == MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE && report_unknown_message(ssl, out, n)) return;
  const char *text = find(errors, sizeof errors / sizeof *errors, code);
  uint32_t flags = mbedtls_ssl_get_verify_result(ssl);
  const char *phrase = flags != UINT32_MAX /* none yet */ ? tls_flags_phrase(flags) : NULL;
  if (text != NULL)
    snprintf(out, n, "%s", text);
  else if (phrase != NULL)
    snprintf(out, n, "certificate %s", phrase);
  else if (is_of_certificate(code))
    snprintf(out, n, "a certificate of the peer %s", tls_certificate_wrong(code));
  else
    mbedtls_strerror(code, out, n);
}

struct tls_peer_text *tls_report_peer(const mbedtls_x509_crt *crt) {
  struct tls_peer_text *t = must_calloc(1, sizeof *t);
  uint8_t digest[32];
  if (mbedtls_x509_dn_gets(t->subject, sizeof t->subject, &crt->subject) < 0) t->subject[0] = '\0';
  tls_certificate_names(crt, t->san, sizeof t->san);
  if (compat_sha256(crt->raw.p, crt->raw.len, digest) != 0) return t;
  hex_write(digest, sizeof digest, t->fingerprint);
  return t;
}

int64_t tls_valid_until(const mbedtls_x509_crt *crt) {
  const mbedtls_x509_time *t = &crt->valid_to;
  struct tm end = {.tm_year = t->year - 1900,
                   .tm_mon = t->mon - 1,
                   .tm_mday = t->day,
                   .tm_hour = t->hour,
                   .tm_min = t->min,
                   .tm_sec = t->sec};
  return (int64_t)timegm(&end) * 1000;
}
