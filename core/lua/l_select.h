/* l_select.h: jeton.select: waits for the first of several channels. */
#ifndef JETON_LUA_L_SELECT_H
#define JETON_LUA_L_SELECT_H

#include <lua.h>

int l_select_open(lua_State *L); /* pushes jeton.select: a table that can be called, with `seed` */

#endif
