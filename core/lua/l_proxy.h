/* l_proxy.h: a script's proxy = …: of jeton.http. */
#ifndef JETON_LUA_L_PROXY_H
#define JETON_LUA_L_PROXY_H

#include <lua.h>

#include "http/parent.h"

/* Reads the value at idx: "http://host:port", { url =, user =, password = }, "environment", false or nil. The new reference in *out, or NULL: no proxy. Raises for misuse.
 * Where the environment is of no use: pushes nil, message and code, and returns 3; else 0. */
int l_proxy_read(lua_State *L, int idx, const char *what, struct parents **out);

#endif
