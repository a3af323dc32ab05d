/* l_json.h: jeton.json, and JSON bodies that hold opaque secrets. */
#ifndef JETON_LUA_L_JSON_H
#define JETON_LUA_L_JSON_H

#include <lua.h>

#include "lua/parts.h"

/* Appends the value at idx. Returns NULL, or what is wrong (static). Opaque secrets become string values.
 * May raise out-of-memory; p is then valid and partly filled. */
const char *l_json_add(lua_State *L, int idx, struct parts *p);
/* The string at idx decoded: pushes the value, or nil, message, code. Returns how many. */
int l_json_decode_at(lua_State *L, int idx);

#endif
