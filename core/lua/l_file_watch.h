/* l_file_watch.h: jeton.file.watch(path, fn). */
#ifndef JETON_LUA_L_FILE_WATCH_H
#define JETON_LUA_L_FILE_WATCH_H

#include <lua.h>

int l_file_watch(lua_State *L);

#endif
