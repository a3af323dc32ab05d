/* pattern.h: string.find, match, gmatch and gsub, bounded by the time budget. */
#ifndef JETON_LUA_PATTERN_H
#define JETON_LUA_PATTERN_H

#include <lua.h>

/* Sets the four functions in the table on the top. */
void pattern_open(lua_State *L);

#endif
