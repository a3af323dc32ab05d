/* l_try.h: what scripts see of a try: the arguments of on_send, and req.target. */
#ifndef JETON_PROXY_L_TRY_H
#define JETON_PROXY_L_TRY_H

#include <lua.h>
#include <stdbool.h>

struct exchange;
struct request;

void l_try_open(lua_State *L); /* makes the metatable; pushes nothing */
int l_try_push(lua_State *L,
               void *arg); /* req, tokens, try; pins the task's tokens. task_push_fn, arg: struct exchange */
void l_try_push_target(lua_State *L, struct exchange *ex); /* raises while the route is not known */
/* Does the run of on_send call this, for that exchange? */
bool l_try_runs(lua_State *L, const struct exchange *ex);
/* The request that a script sees and changes: in on_send the copy that goes out, else the exchange's own. */
struct request *l_try_request(lua_State *L, struct exchange *ex);

#endif
