/* l_base64.c: jeton.base64 (RFC 4648).
 *
 *   encode(s)      -> base64 with padding (section 4)      decode(text)      -> bytes, or nil, message, code
 *   encode_url(s)  -> base64url without padding, as        decode_url(text)  -> the same for base64url
 *                     JWS and PKCE write it (section 5)
 * Of an opaque secret the encoders make an opaque secret. Decoding takes text with its padding or without, and refuses all
 * else that is not canonical: other characters, white space, and left-over bits that are not zero (section 3.5), so
 * that no two texts decode to the same bytes but for the padding. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/str.h"
#include "lua/arg.h"
#include "lua/l_secret.h"
#include "token/secret.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Encodes the 1 to 3 bytes at p; returns how many characters carry bits of them: one more than there are bytes. */
static size_t encode_group(const char *alphabet, const unsigned char *p, size_t n, char *out) {
  uint32_t bits = (uint32_t)p[0] << 16;
  if (n > 1) bits |= (uint32_t)p[1] << 8;
  if (n > 2) bits |= p[2];
  for (size_t i = 0; i <= n; i++) out[i] = alphabet[bits >> (18 - 6 * i) & 63];
  return n + 1;
}

static int encode(lua_State *L, const char *alphabet, bool pad, enum secret_encoding opaque) {
  struct secret *secret = l_secret_test(L, 1);
  if (secret != NULL) {
    l_secret_push(L, secret_encode(secret, opaque));
    return 1;
  }
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_typeerror(L, 1, "string or secret");
  size_t n, made = 0;
  const char *s = lua_tolstring(L, 1, &n);
  luaL_argcheck(L, n <= SIZE_MAX / 2, 1, "too long");
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, n / 3 * 4 + 4);
  for (size_t i = 0; i < n; i += 3)
    made += encode_group(alphabet, (const unsigned char *)s + i, n - i < 3 ? n - i : 3, out + made);
  while (pad && made % 4 != 0) out[made++] = '=';
  luaL_pushresultsize(&b, made);
  return 1;
}

static int digit_value(const char *alphabet, char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == alphabet[62]) return 62;
  return c == alphabet[63] ? 63 : -1;
}

/* Without its padding; false when the padding is there but wrong. */
static bool strip_padding(struct str *s) {
  size_t whole = s->n;
  while (s->n > 0 && whole - s->n < 2 && s->p[s->n - 1] == '=') s->n--;
  return whole == s->n || whole % 4 == 0;
}

/* out has room for 3 bytes for every 4 characters begun. Returns NULL, or what is wrong. */
static const char *decode_all(const char *alphabet, struct str s, char *out, size_t *made) {
  uint32_t bits = 0;
  unsigned have = 0;
  *made = 0;
  if (!strip_padding(&s)) return "base64 with wrong padding";
  if (s.n % 4 == 1) return "base64 that ends too early";
  for (size_t i = 0; i < s.n; i++) {
    int v = digit_value(alphabet, s.p[i]);
    if (v < 0) return "not base64: a character that does not belong there";
    bits = bits << 6 | (uint32_t)v;
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out[(*made)++] = (char)(bits >> have & 255);
  }
  return (bits & ((1u << have) - 1)) != 0 ? "base64 with bits left over at its end" : NULL;
}

static int decode(lua_State *L, const char *alphabet) {
  struct str s;
  luaL_checktype(L, 1, LUA_TSTRING);
  s.p = lua_tolstring(L, 1, &s.n);
  luaL_Buffer b;
  size_t made;
  char *out = luaL_buffinitsize(L, &b, s.n / 4 * 3 + 3);
  const char *problem = decode_all(alphabet, s, out, &made);
  luaL_pushresultsize(&b, problem == NULL ? made : 0);
  return problem == NULL ? 1 : arg_failure(L, UV_EINVAL, "%s", problem);
}

static int l_encode(lua_State *L) { return encode(L, standard, true, SECRET_BASE64); }
static int l_encode_url(lua_State *L) { return encode(L, url_safe, false, SECRET_BASE64URL); }
static int l_decode(lua_State *L) { return decode(L, standard); }
static int l_decode_url(lua_State *L) { return decode(L, url_safe); }

static const luaL_Reg functions[] = {
    {"encode", l_encode},         {"decode", l_decode}, {"encode_url", l_encode_url},
    {"decode_url", l_decode_url}, {NULL, NULL},
};

int l_base64_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
