/* tls_chain.c: the order of a peer's certificates.
 *
 * The peer's own comes first; the others should each be followed by their issuer, but a client should be prepared for any order and for some that have no part in
 * it (RFC 8446 section 4.4.2). mbedTLS looks for an issuer behind the certificate only. So a chain that leads nowhere is sorted and verified once more (tls_verify.c);
 * one that is in order costs nothing.
 *
 * Sorted means: behind all that it may have issued, by name. Certificates that have issued themselves come last: they lead no further, while another certificate
 * of that name, signed by an older authority, may. Signatures are not looked at: mbedTLS does that, and passes over issuers whose key does not fit. Pure functions. */
#include "net/tls_internal.h"

enum { SORTED_MAX = 32 }; /* 16 KB hold some 30 of the smallest */

bool tls_same_name(const mbedtls_x509_buf *a, const mbedtls_x509_buf *b) {
  return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

bool tls_issued_itself(const mbedtls_x509_crt *crt) { return tls_same_name(&crt->issuer_raw, &crt->subject_raw); }

static bool may_have_issued(const mbedtls_x509_crt *issuer, const mbedtls_x509_crt *crt) {
  return issuer != crt && !tls_issued_itself(crt) && tls_same_name(&crt->issuer_raw, &issuer->subject_raw);
}

static bool issues_none_of(const mbedtls_x509_crt *crt, mbedtls_x509_crt *const *left, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (may_have_issued(crt, left[i])) return false;
  return true;
}

/* The one to come behind `last`. Authorities may have signed each other: in such a circle the issuer of the last one comes next. */
static size_t choose(const mbedtls_x509_crt *last, mbedtls_x509_crt *const *left, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!tls_issued_itself(left[i]) && issues_none_of(left[i], left, n)) return i;
  for (size_t i = 0; i < n; i++)
    if (!tls_issued_itself(left[i]) && may_have_issued(left[i], last)) return i;
  for (size_t i = 0; i < n; i++)
    if (!tls_issued_itself(left[i])) return i;
  return 0;
}

bool tls_chain_sort(mbedtls_x509_crt *own) {
  mbedtls_x509_crt *left[SORTED_MAX], *last = own;
  size_t n = 0;
  bool changed = false;
  for (mbedtls_x509_crt *c = own->next; c != NULL; c = c->next) {
    if (n == SORTED_MAX) return false;
    left[n++] = c;
  }
  while (n > 0) {
    size_t i = choose(last, left, n);
    if (i > 0) changed = true;
    last->next = left[i];
    last = left[i];
    memmove(left + i, left + i + 1, (--n - i) * sizeof *left);
  }
  last->next = NULL;
  return changed;
}

unsigned tls_chain_unread(const unsigned char *message, size_t n) {
  enum { FRAME = 7 }; /* the header, and the length of the list */
  if (message == NULL || n <= FRAME) return 0;
  const unsigned char *p = message + FRAME, *end = message + n;
  for (unsigned at = 1; end - p > 3; at++) {
    size_t size = (size_t)(p[0] << 16 | p[1] << 8 | p[2]);
    mbedtls_x509_crt crt;
    p += 3;
    if (size > (size_t)(end - p)) return 0;
    mbedtls_x509_crt_init(&crt);
    int r = mbedtls_x509_crt_parse_der(&crt, p, size);
    mbedtls_x509_crt_free(&crt);
    if (-(-r & 0xff80) == MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG) return at;
    p += size;
  }
  return 0;
}
