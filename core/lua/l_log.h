/* l_log.h: jeton.log(message), jeton.log.debug|info|warn|error(message, fields). */
#ifndef JETON_LUA_L_LOG_H
#define JETON_LUA_L_LOG_H

#include <lua.h>

int l_log_open(lua_State *L);

#endif
