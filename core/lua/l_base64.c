/* l_base64.c: jeton.base64, over base/base64.h.
 *
 *   encode(s)      -> base64 with padding                  decode(text)      -> bytes, or nil, message, code
 *   encode_url(s)  -> base64url without padding            decode_url(text)  -> the same for base64url
 * Of an opaque secret each makes an opaque secret: the encoders one that is encoded as it is written, the decoders one of the bytes of now, since what is no base64 is
 * told here. */
#include "lua/lib.h"

#include <lauxlib.h>
#include <stdint.h>
#include <uv.h>

#include "base/base64.h"
#include "base/secmem.h"
#include "base/str.h"
#include "lua/arg.h"
#include "lua/compute.h"
#include "lua/l_secret.h"
#include "token/secret.h"

static int encode(lua_State *L, enum base64_form form, enum secret_encoding opaque) {
  struct secret *secret = l_secret_test(L, 1);
  if (secret != NULL) {
    l_secret_push(L, secret_encode(secret, opaque));
    return 1;
  }
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_typeerror(L, 1, "string or secret");
  size_t n;
  const char *s = lua_tolstring(L, 1, &n);
  luaL_argcheck(L, n <= SIZE_MAX / 2, 1, "too long");
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, base64_room(n));
  luaL_pushresultsize(&b, base64_encode(form, s, n, out));
  return 1;
}

static int decode_secret(lua_State *L, enum base64_form form) {
  struct compute c = {.what = "base64 decoded"};
  const struct operand *text = compute_operand(L, 1, &c);
  int status = compute_begin(L, &c);
  if (status != 0) return compute_fail(L, &c, status);
  size_t room = text->bytes.n / BASE64_GROUP_TEXT * BASE64_GROUP + BASE64_GROUP, made;
  char *out = secmem_alloc_passing(room);
  const char *problem = base64_decode(form, text->bytes, out, &made);
  struct secret *s = problem == NULL ? compute_secret(L, &c, out, made) : NULL;
  secmem_free_passing(out, room);
  compute_end(&c);
  if (problem != NULL) return arg_failure(L, UV_EINVAL, "%s", problem);
  l_secret_push(L, s);
  return 1;
}

static int decode(lua_State *L, enum base64_form form) {
  struct str s;
  if (l_secret_test(L, 1) != NULL) return decode_secret(L, form);
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_typeerror(L, 1, "string or secret");
  s.p = lua_tolstring(L, 1, &s.n);
  luaL_Buffer b;
  size_t made;
  char *out = luaL_buffinitsize(L, &b, s.n / 4 * 3 + 3);
  const char *problem = base64_decode(form, s, out, &made);
  luaL_pushresultsize(&b, problem == NULL ? made : 0);
  return problem == NULL ? 1 : arg_failure(L, UV_EINVAL, "%s", problem);
}

static int l_encode(lua_State *L) { return encode(L, BASE64_PADDED, SECRET_BASE64); }
static int l_encode_url(lua_State *L) { return encode(L, BASE64_URL, SECRET_BASE64URL); }
static int l_decode(lua_State *L) { return decode(L, BASE64_PADDED); }
static int l_decode_url(lua_State *L) { return decode(L, BASE64_URL); }

static const luaL_Reg functions[] = {
    {"encode", l_encode},         {"decode", l_decode}, {"encode_url", l_encode_url},
    {"decode_url", l_decode_url}, {NULL, NULL},
};

int l_base64_open(lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
