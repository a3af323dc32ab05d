/* tls_crypto.h: the primitives of the TLS library that scripts get through jeton.crypto, as plain C: hashes, HMAC and
 * the signatures of JSON Web Algorithms (RFC 7518). Any thread; no state; nothing blocks but the processor. */
#ifndef JETON_NET_TLS_CRYPTO_H
#define JETON_NET_TLS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum {
  CRYPTO_DIGEST_MAX = 64,
  CRYPTO_SIGNATURE_MAX = 1024 /* RSA of 8192 bits */,
  CRYPTO_PUBLIC_MAX = CRYPTO_SIGNATURE_MAX + 128
};

struct crypto_digest; /* a hash function, static storage */
struct crypto_jwa;    /* a signature algorithm of RFC 7518 section 3.1, static storage */

/* "md5" "sha1" "sha256" "sha384" "sha512", or NULL. */
const struct crypto_digest *crypto_digest_find(const char *name);
size_t crypto_digest_size(const struct crypto_digest *d);
/* out has room for CRYPTO_DIGEST_MAX bytes. Returns 0 or UV_ENOMEM. */
int crypto_hash(const struct crypto_digest *d, struct str data, uint8_t *out);
int crypto_hmac(const struct crypto_digest *d, struct str key, struct str data, uint8_t *out);
/* The time taken depends on the lengths alone. */
bool crypto_equal(struct str a, struct str b);

/* "RS256" "RS384" "RS512" "PS256" "ES256" "ES384", or NULL. */
const struct crypto_jwa *crypto_jwa_find(const char *name);
/* pem: a private key, unencrypted, in PEM (PKCS #8, PKCS #1 or SEC1). sig has room for CRYPTO_SIGNATURE_MAX bytes.
 * ECDSA signatures are r || s (RFC 7518 section 3.4). Returns NULL, or why not as a static sentence. */
const char *crypto_sign(const struct crypto_jwa *a, struct str pem, struct str data, uint8_t *sig, size_t *n);
/* pem: a public key or a certificate. Returns NULL with the answer in *good, or why the key is of no use. */
const char *crypto_verify(const struct crypto_jwa *a, struct str pem, struct str data, struct str sig, bool *good);

/* The public half of a key, in the numbers of a JSON Web Key (RFC 7518 section 6). */
struct crypto_public {
  const char *curve; /* "P-256" or "P-384"; NULL: RSA */
  struct str first,
      second; /* big-endian, in der, at most CRYPTO_SIGNATURE_MAX bytes each: x and y, or modulus and exponent */
  uint8_t der[CRYPTO_PUBLIC_MAX];
};
/* pem: a private key, a public key or a certificate. Returns NULL, or why the key is of no use. *out stays where it is. */
const char *crypto_public(struct str pem, struct crypto_public *out);

#endif
