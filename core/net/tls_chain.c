/* tls_chain.c: the order of a peer's certificates.
 *
 * The peer's own comes first; the others should each be followed by their issuer, but a client should be prepared for any order and for some that have no part in
 * it (RFC 8446 section 4.4.2). mbedTLS looks for an issuer behind the certificate only. So a chain that leads nowhere is sorted and verified once more (tls_verify.c);
 * one that is in order costs nothing.
 *
 * Sorted means: behind all that it may have issued, by name. An authority may have several certificates, each signed by another one (cross-signed), and mbedTLS
 * takes the first that fits and does not go back: so those that lead to a trusted authority come before those that do not. Certificates that have issued
 * themselves come last: they lead no further. Signatures are not looked at: mbedTLS does that, and passes over issuers whose key does not fit. Pure functions. */
#include "net/tls_internal.h"

enum { SORTED_MAX = 32 }; /* 16 KB hold some 30 of the smallest */

bool tls_same_name(const mbedtls_x509_buf *a, const mbedtls_x509_buf *b) {
  return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

bool tls_has_subject(const mbedtls_x509_crt *list, const mbedtls_x509_buf *name) {
  for (const mbedtls_x509_crt *c = list; c != NULL && c->version != 0; c = c->next)
    if (tls_same_name(&c->subject_raw, name)) return true;
  return false;
}

bool tls_issued_itself(const mbedtls_x509_crt *crt) { return tls_same_name(&crt->issuer_raw, &crt->subject_raw); }

static bool may_have_issued(const mbedtls_x509_crt *issuer, const mbedtls_x509_crt *crt) {
  return issuer != crt && !tls_issued_itself(crt) && tls_same_name(&crt->issuer_raw, &issuer->subject_raw);
}

/* A certificate behind the peer's own one. */
struct link_in {
  mbedtls_x509_crt *crt;
  bool leads; /* by names, to an authority that is trusted */
};

static bool issues_none_of(const mbedtls_x509_crt *crt, const struct link_in *left, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (may_have_issued(crt, left[i].crt)) return false;
  return true;
}

/* Who is fit to come behind `last`: the more, the higher. Authorities may have signed each other: in such a circle the issuer of the last one comes next. */
static unsigned fitness(const struct link_in *c, const mbedtls_x509_crt *last, const struct link_in *left, size_t n) {
  enum { LEADS_NO_FURTHER = 0, OF_A_CIRCLE = 1, NEXT_IN_CIRCLE = 2, BEHIND_ALL_IT_ISSUED = 3 };
  if (tls_issued_itself(c->crt)) return LEADS_NO_FURTHER;
  unsigned fit = issues_none_of(c->crt, left, n) ? BEHIND_ALL_IT_ISSUED
                 : may_have_issued(c->crt, last) ? NEXT_IN_CIRCLE
                                                 : OF_A_CIRCLE;
  return 2 * fit + c->leads;
}

static size_t choose(const mbedtls_x509_crt *last, const struct link_in *left, size_t n) {
  size_t best = 0;
  unsigned most = 0;
  for (size_t i = 0; i < n; i++) {
    unsigned fit = fitness(&left[i], last, left, n);
    if (fit <= most) continue;
    best = i;
    most = fit;
  }
  return best;
}

static bool issued_by_one_that_leads(const mbedtls_x509_crt *crt, const struct link_in *v, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (v[i].leads && may_have_issued(v[i].crt, crt)) return true;
  return false;
}

/* From those whose issuer is trusted down to all that they may have issued. */
static void find_leading(struct link_in *v, size_t n, const mbedtls_x509_crt *trusted) {
  bool more = true;
  for (size_t i = 0; i < n; i++) v[i].leads = tls_has_subject(trusted, &v[i].crt->issuer_raw);
  while (more) {
    more = false;
    for (size_t i = 0; i < n; i++) {
      if (v[i].leads || !issued_by_one_that_leads(v[i].crt, v, n)) continue;
      v[i].leads = more = true;
    }
  }
}

bool tls_chain_sort(mbedtls_x509_crt *own, const mbedtls_x509_crt *trusted) {
  struct link_in left[SORTED_MAX];
  mbedtls_x509_crt *last = own;
  size_t n = 0;
  bool changed = false;
  for (mbedtls_x509_crt *c = own->next; c != NULL; c = c->next) {
    if (n == SORTED_MAX) return false;
    left[n++].crt = c;
  }
  find_leading(left, n, trusted);
  while (n > 0) {
    size_t i = choose(last, left, n);
    if (i > 0) changed = true;
    last->next = left[i].crt;
    last = left[i].crt;
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
