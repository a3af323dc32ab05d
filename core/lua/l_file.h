/* l_file.h: jeton.file: read, write, stat, exists, remove, watch. */
#ifndef JETON_LUA_L_FILE_H
#define JETON_LUA_L_FILE_H

#include <lua.h>

int l_file_open(lua_State *L);

#endif
