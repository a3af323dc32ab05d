/* tls_verify.c: is this the peer we wanted, and if not, why not, in a sentence.
 *
 * mbedTLS checks signatures, dates, usages and, for names, dNSName entries; it calls tls_verdict_step once a certificate of
 * the chain, from the authority down to the peer's own (depth 0), with the flags it found. Here are added:
 *   - IP addresses: 2.28 ignores iPAddress entries, so an address is looked for in the peer's certificate here, in either version.
 *   - a certificate without subjectAltName fits no host: the common name is not a host name any more (RFC 9525 section 2).
 *   - pins.
 *   - authorities with name constraints are refused (RFC 5280 section 4.2.1.10): mbedTLS does not enforce these. Those that are critical, as they
 *     should be, it refuses by itself; without that mark it would accept such an authority for any name, though the constraint allows a few.
 *   - what an authority is meant for: one of mail alone must not vouch for servers, though its own issuer is trusted. mbedTLS asks for the extended
 *     key usage of the peer's own certificate only; others ask it of the whole chain.
 * Flags are only added, never taken away (except for an insecure client): a bug here refuses too much, never too little. What a chain out of order has against it
 * is replaced as a whole, by mbedTLS's own verdict on the same certificates in order (tls_chain.c). */
#include <arpa/inet.h>
#include <mbedtls/base64.h>
#include <stdarg.h>
#include <stdio.h>

#include "net/tls_internal.h"

/* GeneralName of RFC 5280 section 4.2.1.6. */
enum {
  SAN_EMAIL = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 1,
  SAN_DNS = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2,
  SAN_URI = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 6,
  SAN_IP = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7
};

/* --- names --- */

/* The address in network order; its size, or 0 when it is no address. */
static size_t parse_ip(const char *name, uint8_t out[16]) {
  if (inet_pton(AF_INET, name, out) == 1) return 4;
  return inet_pton(AF_INET6, name, out) == 1 ? 16 : 0;
}

bool tls_is_ip(const char *name) {
  uint8_t unused[16];
  return parse_ip(name, unused) > 0;
}

static bool is_label(struct str s) {
  if (s.n == 0 || s.n > 63) return false; /* RFC 1035 section 2.3.4 */
  for (size_t i = 0; i < s.n; i++) {
    char c = char_lower(s.p[i]);
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_') return false;
  }
  return true;
}

bool tls_is_name(const char *name) {
  size_t n = strlen(name);
  if (tls_is_ip(name)) return true;
  if (n > 1 && name[n - 1] == '.') n--;
  if (n > 253) return false;
  for (const char *p = name, *end = name + n;;) {
    const char *dot = memchr(p, '.', (size_t)(end - p));
    if (!is_label((struct str){p, (size_t)((dot != NULL ? dot : end) - p)})) return false;
    if (dot == NULL) return true;
    p = dot + 1;
  }
}

static bool has_names(const mbedtls_x509_crt *crt) { return crt->subject_alt_names.buf.p != NULL; }

static bool names_ip(const mbedtls_x509_crt *crt, const uint8_t *ip, size_t n) {
  if (!has_names(crt)) return false;
  for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s != NULL; s = s->next)
    if (s->buf.tag == SAN_IP && s->buf.len == n && memcmp(s->buf.p, ip, n) == 0) return true;
  return false;
}

static bool is_for(const mbedtls_x509_crt *crt, const char *name) {
  uint8_t ip[16];
  size_t n = parse_ip(name, ip);
  return n > 0 ? names_ip(crt, ip, n) : has_names(crt); /* mbedTLS has compared the names themselves */
}

/* A name's own bytes, or visible ASCII: so that no entry reads as one of another kind, or as two. */
static bool is_shown(char c, bool of_name) {
  if (!of_name) return c > ' ' && c < 127;
  char l = char_lower(c);
  return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == '*';
}

/* One entry as text that is safe in a log: "a.example", "192.0.2.1", "URI:spiffe://…", "email:a@b.example"; false when it is of another kind. */
static bool san_text(const mbedtls_x509_buf *san, char *out, size_t n) {
  if (san->tag == SAN_IP && (san->len == 4 || san->len == 16))
    return inet_ntop(san->len == 4 ? AF_INET : AF_INET6, san->p, out, (socklen_t)n) != NULL;
  const char *kind = san->tag == SAN_DNS ? "" : san->tag == SAN_URI ? "URI:" : san->tag == SAN_EMAIL ? "email:" : NULL;
  if (kind == NULL || strlen(kind) + san->len >= n) return false;
  size_t used = (size_t)snprintf(out, n, "%s", kind);
  for (size_t i = 0; i < san->len; i++)
    out[used++] = is_shown((char)san->p[i], san->tag == SAN_DNS) ? (char)san->p[i] : '?';
  out[used] = '\0';
  return true;
}

void tls_certificate_names(const mbedtls_x509_crt *crt, char *out, size_t n) {
  char one[256];
  size_t used = 0;
  out[0] = '\0';
  if (!has_names(crt)) return;
  for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s != NULL; s = s->next) {
    if (!san_text(&s->buf, one, sizeof one)) continue;
    size_t need = strlen(one) + (used > 0 ? 2 : 0);
    if (used + need + sizeof ", …" > n) {
      if (used > 0) snprintf(out + used, n - used, ", …");
      return;
    }
    used += (size_t)snprintf(out + used, n - used, "%s%s", used > 0 ? ", " : "", one);
  }
}

/* --- pins (RFC 7469 section 2.4) --- */

static bool pin_of(const mbedtls_x509_crt *crt, uint8_t digest[TLS_PIN_SIZE]) {
  return compat_sha256(crt->pk_raw.p, crt->pk_raw.len, digest) == 0;
}

static bool pin_matches(const struct tls_client_conf *c, const mbedtls_x509_crt *crt) {
  uint8_t digest[TLS_PIN_SIZE];
  if (!pin_of(crt, digest)) return false;
  for (size_t i = 0; i < c->npins; i++)
    if (memcmp(c->pins[i], digest, TLS_PIN_SIZE) == 0) return true;
  return false;
}

/* --- name constraints --- */

/* Whether the next Extension has that OID; moves on to the one after it. */
static bool extension_is(unsigned char **p, const unsigned char *end, const uint8_t *oid, size_t n) {
  size_t body, id;
  if (mbedtls_asn1_get_tag(p, end, &body, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) != 0) {
    *p += end - *p;
    return false;
  }
  unsigned char *at = *p;
  *p += body;
  return mbedtls_asn1_get_tag(&at, *p, &id, MBEDTLS_ASN1_OID) == 0 && id == n && memcmp(at, oid, n) == 0;
}

static bool has_name_constraints(const mbedtls_x509_crt *crt) {
  static const uint8_t oid[] = {0x55, 0x1d, 0x1e}; /* 2.5.29.30 */
  unsigned char *p = crt->v3_ext.p;
  const unsigned char *end = p + crt->v3_ext.len;
  size_t all;
  if (p == NULL || mbedtls_asn1_get_tag(&p, end, &all, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) != 0)
    return false;
  while (p < end)
    if (extension_is(&p, end, oid, sizeof oid)) return true;
  return false;
}

/* --- uses --- */

bool tls_is_meant_for(const mbedtls_x509_crt *crt, bool server) {
  static const char of_server[] = MBEDTLS_OID_SERVER_AUTH, of_client[] = MBEDTLS_OID_CLIENT_AUTH;
  _Static_assert(sizeof of_server == sizeof of_client, "one length for both");
  const char *oid = server ? of_server : of_client;
  return mbedtls_x509_crt_check_extended_key_usage(crt, oid, sizeof of_server - 1) == 0;
}

/* --- the sentence --- */

struct phrase {
  uint32_t flags;
  const char *text;
};
static const struct phrase phrases[] = {
    {MBEDTLS_X509_BADCERT_REVOKED, "is revoked"},
    {MBEDTLS_X509_BADCERT_BAD_KEY, "has a key that is too weak"},
    {MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK, "is signed by an algorithm that is too weak"},
    {MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE | MBEDTLS_X509_BADCERT_NS_CERT_TYPE,
     "is not meant for this use (key usage)"},
    {MBEDTLS_X509_BADCERT_MISSING, "is missing"},
};

static void say_untrusted(const mbedtls_x509_crt *crt, int depth, const char *what, bool server, char *out, size_t n) {
  char issuer[160];
  if (tls_issued_itself(crt) && depth == 0) {
    snprintf(out, n, "%s is self-signed: to trust it, name its file in `%s`", what, server ? "client_ca" : "tls.ca");
    return;
  }
  if (mbedtls_x509_dn_gets(issuer, sizeof issuer, &crt->issuer) < 0) issuer[0] = '\0';
  snprintf(out, n, "unknown certificate authority%s%s", issuer[0] != '\0' ? ": " : "", issuer);
}

/* As others before us did, and some still take. */
static bool names_as_host(const mbedtls_x509_crt *crt, const char *name) {
  for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s != NULL; s = s->next)
    if (s->buf.tag == SAN_DNS && str_ieq((struct str){(const char *)s->buf.p, s->buf.len}, str_of(name))) return true;
  return false;
}

static void say_wrong_name(const mbedtls_x509_crt *crt, const char *name, char *out, size_t n) {
  char names[160];
  tls_certificate_names(crt, names, sizeof names);
  if (names[0] == '\0')
    snprintf(out, n, "certificate names no host (no subjectAltName), wanted %s", name);
  else if (tls_is_ip(name) && names_as_host(crt, name))
    snprintf(out, n, "certificate has the address %s as a host name (DNS), where it must stand as an address (IP)",
             name);
  else
    snprintf(out, n, "certificate is for %s, not %s", names, name);
}

static void say_unpinned(const mbedtls_x509_crt *crt, char *out, size_t n) {
  uint8_t digest[TLS_PIN_SIZE];
  unsigned char text[48];
  size_t used;
  bool known = pin_of(crt, digest) && mbedtls_base64_encode(text, sizeof text, &used, digest, sizeof digest) == 0;
  snprintf(out, n, "certificate matches none of the pins%s%s", known ? "; its own is sha256/" : "",
           known ? (const char *)text : "");
}

static void say_date(const char *what, const char *how, const mbedtls_x509_time *t, char *out, size_t n) {
  snprintf(out, n, "%s %s %04d-%02d-%02d", what, how, t->year, t->mon, t->day);
}

const char *tls_flags_phrase(uint32_t flags) {
  for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
    if (flags & phrases[i].flags) return phrases[i].text;
  return NULL;
}

/* mbedTLS reports a weak key of an authority with the certificate below it. */
static bool is_weak(const mbedtls_x509_crt *crt) {
  return mbedtls_pk_can_do(&crt->pk, MBEDTLS_PK_RSA) &&
         mbedtls_pk_get_bitlen(&crt->pk) < mbedtls_x509_crt_profile_next.rsa_min_bitlen;
}

static void say(struct tls_verdict *v, const mbedtls_x509_crt *crt, int depth, uint32_t flags) {
  const char *what = depth > 0           ? "certificate of its authority"
                     : v->client == NULL ? "client certificate"
                                         : "certificate";
  size_t n = sizeof v->reason;
  if (depth == 0 && crt->version == 0) return; /* nothing of it could be read: say_unread */
  if (flags & MBEDTLS_X509_BADCERT_EXPIRED) return say_date(what, "expired on", &crt->valid_to, v->reason, n);
  if (flags & MBEDTLS_X509_BADCERT_FUTURE) return say_date(what, "is not valid before", &crt->valid_from, v->reason, n);
  if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
    v->stuck = crt;
    return say_untrusted(crt, depth, what, v->client == NULL, v->reason, n);
  }
  if (flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) return say_wrong_name(crt, v->name, v->reason, n);
  const char *phrase = tls_flags_phrase(flags);
  if ((flags & MBEDTLS_X509_BADCERT_BAD_KEY) != 0 && (depth > 0 || !is_weak(crt)))
    snprintf(v->reason, n, "%s is signed by an authority whose key is too weak", what);
  else if (phrase != NULL)
    snprintf(v->reason, n, "%s %s", what, phrase);
  else if (depth > 0 && has_name_constraints(crt))
    snprintf(v->reason, n, "%s has name constraints, which are not known here", what);
  else if (v->client != NULL && !v->pinned)
    say_unpinned(crt, v->reason, n);
  else
    snprintf(v->reason, n, "%s is not valid", what);
}

/* Adds what mbedTLS does not look at, and keeps the sentence of the first fault. */
static void judge(struct tls_verdict *v, mbedtls_x509_crt *crt, int depth, uint32_t *flags) {
  if (depth > 0 && has_name_constraints(crt)) *flags |= MBEDTLS_X509_BADCERT_OTHER;
  if (depth > 0 && !tls_is_meant_for(crt, v->client != NULL)) *flags |= MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
  if (v->client != NULL && v->client->insecure) *flags = 0; /* its pins alone count */
  if (depth == 0 && v->name != NULL && !is_for(crt, v->name)) *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
  if (depth == 0 && v->client != NULL && v->client->npins > 0) {
    v->pinned = pin_matches(v->client, crt);
    if (!v->pinned) *flags |= MBEDTLS_X509_BADCERT_OTHER;
  }
  if (*flags != 0 && v->reason[0] == '\0') say(v, crt, depth, *flags);
  v->flags |= *flags;
}

__attribute__((format(printf, 2, 3))) static void add_reason(struct tls_verdict *v, const char *fmt, ...) {
  size_t n = strlen(v->reason);
  va_list args;
  va_start(args, fmt);
  vsnprintf(v->reason + n, sizeof v->reason - n, fmt, args);
  va_end(args);
}

/* Goes on in the sentence about an issuer that was not found, with what to look at. `own` and its list are all that the peer sent. */
static void explain_untrusted(struct tls_verdict *v, const mbedtls_x509_crt *own) {
  const mbedtls_x509_buf *issuer = &v->stuck->issuer_raw;
  const char *key = v->client == NULL ? "client_ca" : "tls.ca";
  if (v->stuck == own && tls_issued_itself(own)) return;
  if (tls_has_subject(tls_trust_chain(v->trust), issuer))
    add_reason(v, " (one of that name is trusted, but it has another key, or must not sign this)");
  else if (tls_issued_itself(v->stuck))
    add_reason(v, " (its certificate came along, but `%s` does not name it)", key);
  else if (tls_has_subject(own->next, issuer))
    add_reason(v, " (its certificate came along, but must not sign this, or has another key)");
  else
    add_reason(v, " (does the peer leave out an intermediate certificate, or is this authority missing in `%s`?)", key);
}

/* Takes the place of any other sentence: who reads of a chain that ends nowhere, or of no date, cannot guess it. */
static void say_unread(struct tls_verdict *v) {
  size_t n = 0;
  const unsigned char *message = v->ssl != NULL ? compat_certificate_message(v->ssl, &n) : NULL;
  unsigned at = tls_chain_unread(message, n);
  if (at > 0)
    snprintf(v->reason, sizeof v->reason, "certificate %u of the peer's chain %s", at,
             tls_certificate_wrong(MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG));
}

/* The whole verification once more, of the sorted chain: its verdict takes the place of the first one's, unless it comes to none. */
static void verify_sorted(struct tls_verdict *v, mbedtls_x509_crt *own) {
  struct tls_verdict first = *v;
  const char *name = v->name != NULL && !tls_is_ip(v->name) ? v->name : NULL;
  uint32_t flags;
  v->sorted = true;
  v->flags = 0;
  v->stuck = NULL;
  v->reason[0] = '\0';
  int r = mbedtls_x509_crt_verify_with_profile(own, tls_trust_chain(v->trust), NULL, &mbedtls_x509_crt_profile_next,
                                               name, &flags, tls_verdict_step, v);
  if (r != 0 && r != MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) *v = first;
}

/* The faults of all steps are reported with the last one, the peer's own certificate's: only there is its list at hand, to be sorted. */
int tls_verdict_step(void *p, mbedtls_x509_crt *crt, int depth, uint32_t *flags) {
  struct tls_verdict *v = p;
  v->judged = true;
  judge(v, crt, depth, flags);
  if (v->sorted) return 0; /* verify_sorted's caller reports */
  *flags = 0;
  if (depth > 0) return 0;
  if ((v->flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0 && v->trust != NULL &&
      tls_chain_sort(crt, tls_trust_chain(v->trust)))
    verify_sorted(v, crt);
  if (v->stuck != NULL) explain_untrusted(v, crt);
  if (v->flags != 0 && (v->stuck != NULL || v->reason[0] == '\0')) say_unread(v);
  v->stuck = NULL;
  *flags = v->flags;
  /* A listener may do without a client's certificate, but not with a bad one: only an error ends the handshake there. */
  return v->client == NULL && *flags != 0 ? MBEDTLS_ERR_X509_FATAL_ERROR : 0;
}
