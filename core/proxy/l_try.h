/* l_try.h: what scripts see of a try, and ask for: the arguments of on_send, req.target, req:retry. */
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

/* Does on_response call this, which may have the request sent again? */
bool l_try_may_retry(lua_State *L, const struct exchange *ex);
void l_try_changed(lua_State *L, struct exchange *ex); /* a script has changed the request */
int l_try_retry(lua_State *L, struct exchange *ex);    /* req:retry; its arguments from index 1 on */
void l_try_forget(struct exchange *ex);                /* the exchange ends */

#endif
