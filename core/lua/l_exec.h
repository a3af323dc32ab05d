/* l_exec.h: jeton.exec: runs a child process and awaits its end. */
#ifndef JETON_LUA_L_EXEC_H
#define JETON_LUA_L_EXEC_H

#include <lua.h>

int l_exec(lua_State *L); /* jeton.exec{ argv…, stdin =, env =, cwd =, timeout =, limits = { stdout =, stderr = } } */

#endif
