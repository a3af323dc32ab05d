/* l_crypto.h: jeton.crypto: hashes, HMAC, signatures and random bytes for scripts; keys may be opaque secrets. */
#ifndef JETON_LUA_L_CRYPTO_H
#define JETON_LUA_L_CRYPTO_H

#include <lua.h>

int l_crypto_open(lua_State *L); /* pushes the library's table */

#endif
