/* l_token_await.h: the operations of a token's handle that change its slot or wait for it: set, refresh, wait. */
#ifndef JETON_LUA_L_TOKEN_AWAIT_H
#define JETON_LUA_L_TOKEN_AWAIT_H

#include <lua.h>
#include <stdint.h>

struct audience;
struct slot;
/* token:set(value, options), arguments at 2 and 3, by a policy that lets `audience` have it. Pushes true, or nil, message, code. */
int token_set(lua_State *L, struct slot *slot, struct audience *audience);
/* Awaits the outcome of a refresh: true, or nil, message, code. */
int token_refresh(lua_State *L, struct slot *slot, unsigned max_waiters);
/* Awaits a valid token, `ms` at the most: true, or nil, message, code. */
int token_wait(lua_State *L, struct slot *slot, int64_t ms, unsigned max_waiters);

#endif
