/* l_crypto.c: jeton.crypto, over net/tls_crypto.h.
 *
 *   hash(alg, data)                 -> bytes          alg: "md5" "sha1" "sha256" "sha384" "sha512"
 *   hmac(alg, key, data)            -> bytes
 *   sign(alg, key, data)            -> bytes          alg: "RS256" "RS384" "RS512" "PS256" "ES256" "ES384" (RFC 7518);
 *                                                     key: private key in PEM
 *   verify(alg, key, data, sig)     -> boolean        key: public key or certificate in PEM
 *   jwk(key)                        -> table          the public half of a key or certificate in PEM (RFC 7518 section 6)
 *   equal(a, b)                     -> boolean        in constant time
 *   random(n) -> n bytes            hex(data) -> lower-case hex
 * Keys and data are strings or opaque secrets, and of a secret comes a secret (compute.h). A signature by a private key is for everybody to see and verify, and tells nothing of
 * that key: of data that is no secret it is bytes. The key of an HMAC is what its receiver has, too, and more keys are made that way: that is a secret.
 * A key that cannot be read, a token that has expired: nil, message, code. An unknown algorithm or a wrong type raises. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdint.h>
#include <uv.h>

#include "base/base64.h"
#include "base/rand.h"
#include "lua/arg.h"
#include "lua/compute.h"
#include "lua/l_secret.h"
#include "lua/vm.h"
#include "net/tls_crypto.h"
#include "token/secret.h"

enum { RANDOM_MAX = 1024 * 1024, SIGNATURE_STEPS = 4096 /* enough for a check of the clock: RSA takes milliseconds */ };

static const struct crypto_digest *check_digest(lua_State *L, int idx) {
  const char *name = luaL_checkstring(L, idx);
  const struct crypto_digest *d = crypto_digest_find(name);
  if (d == NULL)
    luaL_argerror(L, idx, lua_pushfstring(L, "unknown hash '%s': expected md5, sha1, sha256, sha384 or sha512", name));
  return d;
}

static const struct crypto_jwa *check_jwa(lua_State *L, int idx) {
  const char *name = luaL_checkstring(L, idx);
  const struct crypto_jwa *a = crypto_jwa_find(name);
  if (a == NULL)
    luaL_argerror(
        L, idx,
        lua_pushfstring(L, "unknown algorithm '%s': expected RS256, RS384, RS512, PS256, ES256 or ES384", name));
  return a;
}

static int l_hash(lua_State *L) {
  const struct crypto_digest *d = check_digest(L, 1);
  struct compute c = {.what = "hash"};
  const struct operand *data = compute_operand(L, 2, &c);
  uint8_t out[CRYPTO_DIGEST_MAX];
  int status = compute_begin(L, &c);
  if (status == 0) status = crypto_hash(d, data->bytes, out);
  return status == 0 ? compute_push(L, &c, out, crypto_digest_size(d)) : compute_fail(L, &c, status);
}

static int l_hmac(lua_State *L) {
  const struct crypto_digest *d = check_digest(L, 1);
  struct compute c = {.what = "hmac"};
  const struct operand *key = compute_operand(L, 2, &c), *data = compute_operand(L, 3, &c);
  uint8_t out[CRYPTO_DIGEST_MAX];
  int status = compute_begin(L, &c);
  if (status == 0) status = crypto_hmac(d, key->bytes, data->bytes, out);
  return status == 0 ? compute_push(L, &c, out, crypto_digest_size(d)) : compute_fail(L, &c, status);
}

static int l_sign(lua_State *L) {
  const struct crypto_jwa *a = check_jwa(L, 1);
  struct compute c = {.what = "signature"};
  const struct operand *key = compute_operand(L, 2, &c), *data = compute_operand(L, 3, &c);
  vm_burn(L, SIGNATURE_STEPS);
  uint8_t sig[CRYPTO_SIGNATURE_MAX];
  size_t n = 0;
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  const char *problem = crypto_sign(a, key->bytes, data->bytes, sig, &n);
  if (problem == NULL && data->secret != NULL) return compute_push(L, &c, sig, n);
  compute_end(&c);
  if (problem != NULL) return arg_failure(L, UV_EINVAL, "%s", problem);
  lua_pushlstring(L, (const char *)sig, n);
  return 1;
}

static int l_verify(lua_State *L) {
  const struct crypto_jwa *a = check_jwa(L, 1);
  struct compute c = {.what = "verify"};
  const struct operand *pem = compute_text(L, 2, &c), *data = compute_operand(L, 3, &c),
                       *sig = compute_operand(L, 4, &c);
  vm_burn(L, SIGNATURE_STEPS);
  bool good = false;
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  const char *problem = crypto_verify(a, pem->bytes, data->bytes, sig->bytes, &good);
  compute_end(&c);
  if (problem != NULL) return arg_failure(L, UV_EINVAL, "%s", problem);
  lua_pushboolean(L, good);
  return 1;
}

/* Numbers of a key, as base64url. At most CRYPTO_SIGNATURE_MAX bytes. */
static void set_number(lua_State *L, const char *name, struct str bytes) {
  char text[CRYPTO_SIGNATURE_MAX / BASE64_GROUP * BASE64_GROUP_TEXT + BASE64_GROUP_TEXT];
  lua_pushlstring(L, text, base64_encode(BASE64_URL, bytes.p, bytes.n, text));
  lua_setfield(L, -2, name);
}

/* What everybody may know of a key: strings. */
static int l_jwk(lua_State *L) {
  struct compute c = {.what = "jwk"};
  const struct operand *key = compute_operand(L, 1, &c);
  vm_burn(L, SIGNATURE_STEPS);
  struct crypto_public k;
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  const char *problem = crypto_public(key->bytes, &k);
  compute_end(&c);
  if (problem != NULL) return arg_failure(L, UV_EINVAL, "%s", problem);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, k.curve != NULL ? "EC" : "RSA");
  lua_setfield(L, -2, "kty");
  if (k.curve != NULL) {
    lua_pushstring(L, k.curve);
    lua_setfield(L, -2, "crv");
  }
  set_number(L, k.curve != NULL ? "x" : "n", k.first);
  set_number(L, k.curve != NULL ? "y" : "e", k.second);
  return 1;
}

static int l_equal(lua_State *L) {
  struct compute c = {.what = "equal"};
  const struct operand *a = compute_operand(L, 1, &c), *b = compute_operand(L, 2, &c);
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  bool same = crypto_equal(a->bytes, b->bytes);
  compute_end(&c);
  lua_pushboolean(L, same);
  return 1;
}

static int l_random(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "expected 0 to 1048576 bytes");
  luaL_Buffer b;
  random_bytes(luaL_buffinitsize(L, &b, (size_t)n), (size_t)n);
  luaL_pushresultsize(&b, (size_t)n);
  return 1;
}

static int l_hex(lua_State *L) {
  struct secret *secret = l_secret_test(L, 1);
  if (secret != NULL) {
    l_secret_push(L, secret_encode(secret, SECRET_HEX));
    return 1;
  }
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_typeerror(L, 1, "string or secret");
  struct str data;
  data.p = lua_tolstring(L, 1, &data.n);
  luaL_argcheck(L, data.n <= SIZE_MAX / 4, 1, "too long");
  luaL_Buffer b;
  hex_write((const uint8_t *)data.p, data.n, luaL_buffinitsize(L, &b, 2 * data.n));
  luaL_pushresultsize(&b, 2 * data.n);
  return 1;
}

static const luaL_Reg functions[] = {
    {"hash", l_hash},   {"hmac", l_hmac},     {"sign", l_sign}, {"verify", l_verify}, {"jwk", l_jwk},
    {"equal", l_equal}, {"random", l_random}, {"hex", l_hex},   {NULL, NULL},
};

int l_crypto_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
