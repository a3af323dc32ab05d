/* l_token_await.h: what a token's handle does with its slot beyond looking at it: set, refresh, wait. */
#ifndef JETON_LUA_L_TOKEN_AWAIT_H
#define JETON_LUA_L_TOKEN_AWAIT_H

#include <lua.h>
#include <stdint.h>

struct slot;
/* token:set(value, options), arguments at 2 and 3. Pushes true, or nil, message, code. */
int token_set(lua_State *L, struct slot *slot);
/* Awaits the outcome of a refresh: true, or nil, message, code. */
int token_refresh(lua_State *L, struct slot *slot, unsigned max_waiters);
/* Awaits a valid token, `ms` at the most: true, or nil, message, code. */
int token_wait(lua_State *L, struct slot *slot, int64_t ms, unsigned max_waiters);

#endif
