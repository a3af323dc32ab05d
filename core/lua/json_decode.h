/* json_decode.h: JSON (RFC 8259) to Lua values. */
#ifndef JETON_LUA_JSON_DECODE_H
#define JETON_LUA_JSON_DECODE_H

#include <lua.h>
#include <stddef.h>

#include "base/str.h"

enum { JSON_DEPTH_MAX = 100 };
/* Pushes the value of the text, whose first byte behind the end is NUL, as in a Lua string. 0; or where it is wrong, counted from 1, and nothing is pushed;
 * JSON_TOO_DEEP: nested in more than JSON_DEPTH_MAX. null is the light userdata NULL; whole numbers are integers where they fit one; an empty list is given to
 * `mark`, on the top of the stack. Raises out-of-memory, and when the time budget is over. */
#define JSON_TOO_DEEP SIZE_MAX
size_t json_decode(lua_State *L, struct str text, void (*mark)(lua_State *L));

#endif
