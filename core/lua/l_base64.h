/* l_base64.h: jeton.base64: RFC 4648 base64 and base64url; encodings of opaque secrets stay opaque. */
#ifndef JETON_LUA_L_BASE64_H
#define JETON_LUA_L_BASE64_H

#include <lua.h>

int l_base64_open(lua_State *L); /* pushes the library's table */

#endif
