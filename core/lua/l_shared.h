/* l_shared.h: jeton.shared: values that all workers share. */
#ifndef JETON_LUA_L_SHARED_H
#define JETON_LUA_L_SHARED_H

#include <lua.h>

/* jeton.shared(name, { max = size }) */
int l_shared(lua_State *L);

#endif
