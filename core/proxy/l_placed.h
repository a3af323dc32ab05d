/* l_placed.h: methods of `req` that put secrets, or text, into its query, its cookies and its body. */
#ifndef JETON_PROXY_L_PLACED_H
#define JETON_PROXY_L_PLACED_H

#include <lauxlib.h>

extern const luaL_Reg l_placed_methods[];

#endif
