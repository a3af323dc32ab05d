/* l_env.h: jeton.env(name), jeton.env.NAME: this process's environment, read only. */
#ifndef JETON_LUA_L_ENV_H
#define JETON_LUA_L_ENV_H

#include <lua.h>

int l_env_open(lua_State *L);

#endif
