/* l_http.h: jeton.http: request, and get, head, post, put, patch, delete. */
#ifndef JETON_LUA_L_HTTP_H
#define JETON_LUA_L_HTTP_H

#include <lua.h>

int l_http_open(lua_State *L);

#endif
