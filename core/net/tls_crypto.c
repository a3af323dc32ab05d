/* tls_crypto.c: see tls_crypto.h.
 *
 * A key is parsed for each call: keys are secrets, and nothing here keeps one. Its PEM text is copied into secret
 * memory, because the parser wants a NUL behind it, and is wiped before the function returns. The signatures that
 * mbedTLS makes and takes for ECDSA are DER; JWS wants the two numbers alone, so both directions are converted here. */
#include "net/tls_crypto.h"

#include <uv.h>

#include "base/secmem.h"
#include "net/tls_internal.h"

enum { RSA_BITS_MIN = 2048 /* RFC 7518 section 3.3 */, COORDINATE_MAX = 48, PEM_MAX = 64 * 1024 };

struct crypto_digest {
  const char *name;
  mbedtls_md_type_t type;
  size_t size;
};
static const struct crypto_digest digests[] = {
    {"md5", MBEDTLS_MD_MD5, 16},       {"sha1", MBEDTLS_MD_SHA1, 20},     {"sha256", MBEDTLS_MD_SHA256, 32},
    {"sha384", MBEDTLS_MD_SHA384, 48}, {"sha512", MBEDTLS_MD_SHA512, 64},
};

enum jwa_family { JWA_PKCS1, JWA_PSS, JWA_ECDSA };
struct crypto_jwa {
  const char *name;
  enum jwa_family family;
  mbedtls_md_type_t md;
  size_t digest;              /* bytes */
  mbedtls_ecp_group_id curve; /* ECDSA */
  size_t coordinate;          /* bytes of r and of s */
};
static const struct crypto_jwa algorithms[] = {
    {"RS256", JWA_PKCS1, MBEDTLS_MD_SHA256, 32, MBEDTLS_ECP_DP_NONE, 0},
    {"RS384", JWA_PKCS1, MBEDTLS_MD_SHA384, 48, MBEDTLS_ECP_DP_NONE, 0},
    {"RS512", JWA_PKCS1, MBEDTLS_MD_SHA512, 64, MBEDTLS_ECP_DP_NONE, 0},
    {"PS256", JWA_PSS, MBEDTLS_MD_SHA256, 32, MBEDTLS_ECP_DP_NONE, 0},
    {"ES256", JWA_ECDSA, MBEDTLS_MD_SHA256, 32, MBEDTLS_ECP_DP_SECP256R1, 32},
    {"ES384", JWA_ECDSA, MBEDTLS_MD_SHA384, 48, MBEDTLS_ECP_DP_SECP384R1, 48},
};

/* --- hashes --- */

const struct crypto_digest *crypto_digest_find(const char *name) {
  for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
    if (strcmp(digests[i].name, name) == 0) return &digests[i];
  return NULL;
}

size_t crypto_digest_size(const struct crypto_digest *d) { return d->size; }

int crypto_hash(const struct crypto_digest *d, struct str data, uint8_t *out) {
  const mbedtls_md_info_t *md = mbedtls_md_info_from_type(d->type);
  return mbedtls_md(md, (const unsigned char *)data.p, data.n, out) == 0 ? 0 : UV_ENOMEM;
}

int crypto_hmac(const struct crypto_digest *d, struct str key, struct str data, uint8_t *out) {
  const mbedtls_md_info_t *md = mbedtls_md_info_from_type(d->type);
  const unsigned char *k = (const unsigned char *)(key.n > 0 ? key.p : "");
  return mbedtls_md_hmac(md, k, key.n, (const unsigned char *)data.p, data.n, out) == 0 ? 0 : UV_ENOMEM;
}

bool crypto_equal(struct str a, struct str b) {
  volatile unsigned char differs = 0;
  if (a.n != b.n) return false;
  for (size_t i = 0; i < a.n; i++) differs = (unsigned char)(differs | (a.p[i] ^ b.p[i]));
  return differs == 0;
}

/* --- ECDSA: DER SEQUENCE { r INTEGER, s INTEGER } to and from r || s --- */

/* One INTEGER into `size` bytes, zeros in front. */
static bool der_coordinate(unsigned char **p, const unsigned char *end, uint8_t *out, size_t size) {
  size_t n;
  if (mbedtls_asn1_get_tag(p, end, &n, MBEDTLS_ASN1_INTEGER) != 0) return false;
  const unsigned char *v = *p;
  *p += n;
  for (; n > 0 && *v == 0; n--) v++;
  if (n > size) return false;
  memset(out, 0, size - n);
  memcpy(out + size - n, v, n);
  return true;
}

static bool raw_from_der(unsigned char *der, size_t n, uint8_t *raw, size_t coordinate) {
  unsigned char *p = der;
  const unsigned char *end = der + n;
  size_t body;
  return mbedtls_asn1_get_tag(&p, end, &body, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) == 0 &&
         der_coordinate(&p, end, raw, coordinate) && der_coordinate(&p, end, raw + coordinate, coordinate);
}

static size_t der_put_integer(uint8_t *out, const uint8_t *v, size_t n) {
  for (; n > 1 && *v == 0; n--) v++;
  size_t pad = (*v & 0x80) != 0 ? 1 : 0; /* a leading 1 bit would make it negative */
  out[0] = MBEDTLS_ASN1_INTEGER;
  out[1] = (uint8_t)(n + pad); /* at most 49: the short form does */
  out[2] = 0;
  memcpy(out + 2 + pad, v, n);
  return 2 + pad + n;
}

/* der has room for 2 * COORDINATE_MAX + 16 bytes. */
static size_t der_from_raw(const uint8_t *raw, size_t coordinate, uint8_t *der) {
  size_t n = der_put_integer(der + 2, raw, coordinate);
  n += der_put_integer(der + 2 + n, raw + coordinate, coordinate);
  der[0] = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
  der[1] = (uint8_t)n; /* at most 102 */
  return n + 2;
}

/* --- keys --- */

static const char *key_check(const struct crypto_jwa *a, const mbedtls_pk_context *pk) {
  if (a->family == JWA_ECDSA) {
    if (!mbedtls_pk_can_do(pk, MBEDTLS_PK_ECDSA)) return "this algorithm needs an EC key";
    if (compat_curve(pk) == a->curve) return NULL;
    return a->curve == MBEDTLS_ECP_DP_SECP256R1 ? "ES256 needs a key on curve P-256"
                                                : "ES384 needs a key on curve P-384";
  }
  if (!mbedtls_pk_can_do(pk, MBEDTLS_PK_RSA)) return "this algorithm needs an RSA key";
  return mbedtls_pk_get_bitlen(pk) < RSA_BITS_MIN ? "the RSA key has fewer than 2048 bits" : NULL;
}

/* A certificate's key, moved out of it. */
static int parse_certificate_key(mbedtls_pk_context *pk, const unsigned char *pem, size_t n) {
  mbedtls_x509_crt crt;
  mbedtls_x509_crt_init(&crt);
  int r = mbedtls_x509_crt_parse(&crt, pem, n);
  if (r == 0) {
    *pk = crt.pk;
    mbedtls_pk_init(&crt.pk);
  }
  mbedtls_x509_crt_free(&crt);
  return r;
}

enum key_half { KEY_PRIVATE, KEY_PUBLIC, KEY_EITHER };
static const char *key_parse(mbedtls_pk_context *pk, struct str pem, enum key_half half) {
  if (pem.n >= PEM_MAX) return "the key is too long";
  unsigned char *z = secmem_alloc(pem.n + 1);
  memcpy(z, pem.p, pem.n);
  const bool private = half == KEY_PRIVATE || (half == KEY_EITHER && strstr((char *)z, "PRIVATE KEY-----") != NULL);
  int r;
  if (private)
    r = compat_parse_key(pk, z, pem.n + 1);
  else if (strstr((char *)z, "-----BEGIN CERTIFICATE-----") != NULL)
    r = parse_certificate_key(pk, z, pem.n + 1);
  else
    r = mbedtls_pk_parse_public_key(pk, z, pem.n + 1);
  const char *why = r != 0 ? tls_key_wrong(r, private ? (char *)z : "") : NULL;
  secmem_free(z, pem.n + 1);
  return r == 0 ? NULL : why != NULL ? why : "not a key in PEM";
}

static int digest_of(const struct crypto_jwa *a, struct str data, uint8_t *out) {
  return mbedtls_md(mbedtls_md_info_from_type(a->md), (const unsigned char *)data.p, data.n, out);
}

static const char *sign_with(const struct crypto_jwa *a, mbedtls_pk_context *pk, struct str data, uint8_t *sig,
                             size_t *n) {
  uint8_t digest[CRYPTO_DIGEST_MAX], made[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
  const char *problem = key_check(a, pk);
  if (problem != NULL) return problem;
  if (a->family == JWA_PSS && compat_use_pss(pk, a->md) != 0) return "the key cannot make RSASSA-PSS";
  if (digest_of(a, data, digest) != 0 || compat_sign(pk, a->md, digest, a->digest, made, sizeof made, n) != 0)
    return "signing failed: the key may be damaged";
  if (a->family != JWA_ECDSA) {
    memcpy(sig, made, *n);
    return NULL;
  }
  if (!raw_from_der(made, *n, sig, a->coordinate)) return "signing failed: not an ECDSA signature";
  *n = 2 * a->coordinate;
  return NULL;
}

static bool verify_with(const struct crypto_jwa *a, mbedtls_pk_context *pk, struct str data, struct str sig) {
  uint8_t digest[CRYPTO_DIGEST_MAX], der[2 * COORDINATE_MAX + 16];
  const unsigned char *s = (const unsigned char *)sig.p;
  if (digest_of(a, data, digest) != 0) return false;
  if (a->family == JWA_ECDSA) {
    if (sig.n != 2 * a->coordinate) return false;
    size_t n = der_from_raw(s, a->coordinate, der);
    return mbedtls_pk_verify(pk, a->md, digest, a->digest, der, n) == 0;
  }
  if (a->family == JWA_PKCS1) return mbedtls_pk_verify(pk, a->md, digest, a->digest, s, sig.n) == 0;
  /* RFC 7518 section 3.5: the salt is as long as the hash, and MGF1 uses the same hash. */
  mbedtls_pk_rsassa_pss_options pss = {.mgf1_hash_id = a->md, .expected_salt_len = (int)a->digest};
  return mbedtls_pk_verify_ext(MBEDTLS_PK_RSASSA_PSS, &pss, pk, a->md, digest, a->digest, s, sig.n) == 0;
}

/* --- public keys --- */

/* An INTEGER without the zeros in front, of at most CRYPTO_SIGNATURE_MAX bytes. */
static bool der_number(unsigned char **p, const unsigned char *end, struct str *out) {
  size_t n;
  if (mbedtls_asn1_get_tag(p, end, &n, MBEDTLS_ASN1_INTEGER) != 0) return false;
  const unsigned char *v = *p;
  *p += n;
  for (; n > 1 && *v == 0; n--) v++;
  *out = (struct str){(const char *)v, n};
  return n <= CRYPTO_SIGNATURE_MAX;
}

/* SEQUENCE { modulus, exponent } (RFC 8017 appendix A.1.1). */
static bool take_rsa(unsigned char *p, const unsigned char *end, struct crypto_public *out) {
  size_t n;
  return mbedtls_asn1_get_tag(&p, end, &n, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE) == 0 &&
         der_number(&p, end, &out->first) && der_number(&p, end, &out->second);
}

/* 4, x, y: a point that is not compressed (RFC 5480 section 2.2). */
static bool take_point(const unsigned char *p, size_t n, struct crypto_public *out) {
  if (n % 2 == 0 || n < 3 || *p != 4) return false;
  out->first = (struct str){(const char *)p + 1, n / 2};
  out->second = (struct str){(const char *)p + 1 + n / 2, n / 2};
  return true;
}

/* SubjectPublicKeyInfo (RFC 5280 section 4.1): the algorithm, and a bit string of what it says. */
static bool take_public(unsigned char *p, const unsigned char *end, struct crypto_public *out) {
  size_t n;
  const int sequence = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
  if (mbedtls_asn1_get_tag(&p, end, &n, sequence) != 0 || mbedtls_asn1_get_tag(&p, end, &n, sequence) != 0)
    return false;
  p += n;
  if (mbedtls_asn1_get_bitstring_null(&p, end, &n) != 0) return false;
  return out->curve == NULL ? take_rsa(p, end, out) : take_point(p, n, out);
}

static const char *public_of(mbedtls_pk_context *pk, struct crypto_public *out) {
  out->curve = NULL;
  if (!mbedtls_pk_can_do(pk, MBEDTLS_PK_RSA)) {
    const mbedtls_ecp_group_id curve = mbedtls_pk_can_do(pk, MBEDTLS_PK_ECDSA) ? compat_curve(pk) : MBEDTLS_ECP_DP_NONE;
    out->curve = curve == MBEDTLS_ECP_DP_SECP256R1 ? "P-256" : curve == MBEDTLS_ECP_DP_SECP384R1 ? "P-384" : NULL;
    if (out->curve == NULL) return "expected an RSA key, or an EC key on curve P-256 or P-384";
  }
  int n = mbedtls_pk_write_pubkey_der(pk, out->der, sizeof out->der); /* at the end of it */
  unsigned char *end = out->der + sizeof out->der;
  return n > 0 && take_public(end - n, end, out) ? NULL : "the key is too long, or damaged";
}

const char *crypto_public(struct str pem, struct crypto_public *out) {
  mbedtls_pk_context pk;
  mbedtls_pk_init(&pk);
  const char *problem = key_parse(&pk, pem, KEY_EITHER);
  if (problem == NULL) problem = public_of(&pk, out);
  mbedtls_pk_free(&pk);
  return problem;
}

/* --- signatures --- */

const struct crypto_jwa *crypto_jwa_find(const char *name) {
  for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
    if (strcmp(algorithms[i].name, name) == 0) return &algorithms[i];
  return NULL;
}

const char *crypto_sign(const struct crypto_jwa *a, struct str pem, struct str data, uint8_t *sig, size_t *n) {
  mbedtls_pk_context pk;
  mbedtls_pk_init(&pk);
  const char *problem = key_parse(&pk, pem, KEY_PRIVATE);
  if (problem == NULL) problem = sign_with(a, &pk, data, sig, n);
  mbedtls_pk_free(&pk);
  return problem;
}

const char *crypto_verify(const struct crypto_jwa *a, struct str pem, struct str data, struct str sig, bool *good) {
  mbedtls_pk_context pk;
  mbedtls_pk_init(&pk);
  const char *problem = key_parse(&pk, pem, KEY_PUBLIC);
  if (problem == NULL) problem = key_check(a, &pk);
  if (problem == NULL) *good = verify_with(a, &pk, data, sig);
  mbedtls_pk_free(&pk);
  return problem;
}
