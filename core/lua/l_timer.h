/* l_timer.h: jeton.sleep, jeton.spawn, jeton.every. */
#ifndef JETON_LUA_L_TIMER_H
#define JETON_LUA_L_TIMER_H

#include <lua.h>

int l_sleep(lua_State *L);
int l_spawn(lua_State *L);
int l_every(lua_State *L);

#endif
