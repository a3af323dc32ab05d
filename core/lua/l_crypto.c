/* l_crypto.c: jeton.crypto, over net/tls_crypto.h.
 *
 *   hash(alg, data)                 -> bytes          alg: "md5" "sha1" "sha256" "sha384" "sha512"
 *   hmac(alg, key, data)            -> bytes          key: string or opaque secret
 *   sign(alg, key, data)            -> bytes          alg: "RS256" "RS384" "RS512" "PS256" "ES256" "ES384" (RFC 7518);
 *                                                     key: private key in PEM, string or opaque secret
 *   verify(alg, key, data, sig)     -> boolean        key: public key or certificate in PEM
 *   equal(a, b)                     -> boolean        strings or opaque secrets, in constant time
 *   random(n) -> n bytes            hex(data) -> lower-case hex
 * A key that cannot be read, a token that has expired: nil, message, code. An unknown algorithm or a wrong type raises.
 *
 * Invariant: between the moment a secret's bytes are in a buffer and the moment they are wiped no Lua function that can
 * raise is called. So every function here first checks its arguments, then computes in C, then pushes. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/rand.h"
#include "lua/arg.h"
#include "lua/l_secret.h"
#include "lua/pins.h"
#include "lua/vm.h"
#include "net/tls_crypto.h"
#include "token/secret.h"

enum {
  RANDOM_MAX = 1024 * 1024,
  SECRET_STEPS = 1024,   /* of a secret's bytes, whose number is not known before they are there: at most 1 MiB */
  SIGNATURE_STEPS = 4096 /* enough for a check of the clock: RSA takes milliseconds */
};

/* A string argument, borrowed from the stack, or a secret's bytes. */
struct operand {
  struct secret *secret;
  struct str bytes;
  struct buf expanded;
};

static struct str check_bytes(lua_State *L, int idx) {
  struct str s;
  luaL_checktype(L, idx, LUA_TSTRING);
  s.p = lua_tolstring(L, idx, &s.n);
  return s;
}

/* May raise; takes nothing that needs giving back. */
static void operand_check(lua_State *L, int idx, struct operand *o) {
  *o = (struct operand){.secret = l_secret_test(L, idx)};
  if (o->secret != NULL) {
    l_secret_note(L, o->secret);
    vm_burn(L, SECRET_STEPS);
    return;
  }
  if (lua_type(L, idx) != LUA_TSTRING) luaL_typeerror(L, idx, "string or secret");
  o->bytes = check_bytes(L, idx);
}

/* Does not raise. After it, whatever it returns, operand_fini. */
static int operand_expand(lua_State *L, struct operand *o) {
  buf_init(&o->expanded);
  if (o->secret == NULL) return 0;
  struct secret_context target = {.any_target = true};
  o->expanded.sensitive = true;
  int status = pins_expand(L, o->secret, &target, &o->expanded);
  o->bytes = buf_str(&o->expanded);
  return status;
}

static void operand_fini(struct operand *o) { buf_fini(&o->expanded); }

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
  struct str data = check_bytes(L, 2);
  uint8_t out[CRYPTO_DIGEST_MAX];
  if (crypto_hash(d, data, out) != 0) return arg_failure(L, UV_ENOMEM, "not enough memory");
  lua_pushlstring(L, (const char *)out, crypto_digest_size(d));
  return 1;
}

static int l_hmac(lua_State *L) {
  const struct crypto_digest *d = check_digest(L, 1);
  struct operand key;
  operand_check(L, 2, &key);
  struct str data = check_bytes(L, 3);
  uint8_t out[CRYPTO_DIGEST_MAX];
  int status = operand_expand(L, &key);
  if (status == 0) status = crypto_hmac(d, key.bytes, data, out);
  operand_fini(&key);
  if (status != 0) return pins_failure(L, status);
  lua_pushlstring(L, (const char *)out, crypto_digest_size(d));
  return 1;
}

static int l_sign(lua_State *L) {
  const struct crypto_jwa *a = check_jwa(L, 1);
  struct operand key;
  operand_check(L, 2, &key);
  struct str data = check_bytes(L, 3);
  vm_burn(L, SIGNATURE_STEPS);
  uint8_t sig[CRYPTO_SIGNATURE_MAX];
  size_t n = 0;
  const char *problem = NULL;
  int status = operand_expand(L, &key);
  if (status == 0) problem = crypto_sign(a, key.bytes, data, sig, &n);
  operand_fini(&key);
  if (status != 0) return pins_failure(L, status);
  if (problem != NULL) return arg_failure(L, UV_EINVAL, "%s", problem);
  lua_pushlstring(L, (const char *)sig, n);
  return 1;
}

static int l_verify(lua_State *L) {
  const struct crypto_jwa *a = check_jwa(L, 1);
  struct str pem = check_bytes(L, 2), data = check_bytes(L, 3), sig = check_bytes(L, 4);
  vm_burn(L, SIGNATURE_STEPS);
  bool good = false;
  const char *problem = crypto_verify(a, pem, data, sig, &good);
  if (problem != NULL) return arg_failure(L, UV_EINVAL, "%s", problem);
  lua_pushboolean(L, good);
  return 1;
}

static int l_equal(lua_State *L) {
  struct operand a, b;
  operand_check(L, 1, &a);
  operand_check(L, 2, &b);
  int status = operand_expand(L, &a);
  int second = operand_expand(L, &b);
  if (status == 0) status = second;
  bool same = status == 0 && crypto_equal(a.bytes, b.bytes);
  operand_fini(&a);
  operand_fini(&b);
  if (status != 0) return pins_failure(L, status);
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
  static const char digits[] = "0123456789abcdef";
  struct str data = check_bytes(L, 1);
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, 2 * data.n);
  for (size_t i = 0; i < data.n; i++) {
    unsigned char c = (unsigned char)data.p[i];
    out[2 * i] = digits[c >> 4];
    out[2 * i + 1] = digits[c & 15];
  }
  luaL_pushresultsize(&b, 2 * data.n);
  return 1;
}

static const luaL_Reg functions[] = {
    {"hash", l_hash},   {"hmac", l_hmac},     {"sign", l_sign}, {"verify", l_verify},
    {"equal", l_equal}, {"random", l_random}, {"hex", l_hex},   {NULL, NULL},
};

int l_crypto_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
