/* library.h: the table `jeton`, made for each VM. */
#ifndef JETON_LUA_LIBRARY_H
#define JETON_LUA_LIBRARY_H

#include <lua.h>
#include <stdbool.h>

/* Pushes it; raises when a part cannot be opened. vm_of(L) has to work already. Returns 1. */
int library_open(lua_State *L);
/* Sets a field of it to the value on the top, which it pops: scripts cannot. */
void library_set(lua_State *L, const char *name);
/* Whether it has that field. Not by way of the global `jeton`, in front of which a script may have put something, and which raises for what it has not. */
bool library_has(lua_State *L, const char *name);

#endif
