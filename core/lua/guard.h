/* guard.h: what C owns while Lua may raise: memory tied to a userdata on the stack, freed by the collector unless handed over first. */
#ifndef JETON_LUA_GUARD_H
#define JETON_LUA_GUARD_H

#include <lua.h>
#include <stddef.h>

#include "base/buf.h"

/* Pushes a guard over `size` zeroed bytes, which it returns. When the guard is collected or closed, unmake(p) runs: it frees what p
 * holds, and p itself with free(). Never NULL. */
void *guard_new(lua_State *L, size_t size, void (*unmake)(void *p));
/* The guard at idx owns nothing any more: the memory is the caller's. */
void guard_release(lua_State *L, int idx);
/* Unmakes now instead of at the next collection. */
void guard_close(lua_State *L, int idx);
/* Pushes a guard over an empty, sensitive buffer. */
struct buf *guard_buf(lua_State *L);

#endif
