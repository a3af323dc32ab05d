/* task.h: tasks are coroutines of this program, not of the script; awaiting is how a function of the library suspends one.
 *
 * Part of vm.h. Everything belongs to the VM's thread. A suspended task waits for exactly one struct await. */
#ifndef JETON_LUA_TASK_H
#define JETON_LUA_TASK_H

#include <lua.h>

struct task;
struct vm;

/* Pushes the function's arguments onto L inside protected mode, and nothing else; returns how many (more than 16: luaL_checkstack first). */
typedef int (*task_push_fn)(lua_State *L, void *arg);
/* Called exactly once when the coroutine has ended, unless task_cancel came first. status 0: results are L's top `nresults`;
 * else ERR_SCRIPT, ERR_BUDGET, ERR_MEMORY and `message` ("policy.lua:12: …", valid during the call; a traceback has been logged at debug, the message
 * itself has not been logged). ERR_CLOSED: vm_cancel_tasks came before; ERR_LIMIT: tasks start one another too deeply. It runs outside of Lua, but must
 * read results only through raw access or vm_call-like protection (lua_toboolean, lua_tolstring of strings, lua_rawget…). */
typedef void (*task_done_fn)(void *arg, lua_State *L, int nresults, int status, const char *message);

/* Runs the function at registry reference `fn` in a pooled coroutine. push may be NULL. done may be called before this returns.
 * *out (may be NULL) is the task while it runs or is suspended, and NULL again, before done is called, when it ends before this returns. A task that
 * has been suspended writes to *out no more. The task holds a reference to the VM. */
void task_start(struct vm *vm, int fn, task_push_fn push, task_done_fn done, void *arg, struct task **out);
/* Ends a task: its await is cancelled, pending to-be-closed variables run, done is not called. Called from inside of Lua, where a cancelled task's variables
 * are being closed already or the C stack has little left, it puts the variables off until that is done, at the latest to the end of the outermost run.
 * A task that is running (the call comes from a C function that it called) goes on to its next wait, which raises, or to its end; push and done are
 * called no more. */
void task_cancel(struct task *t);
/* To be called by a task's push: what the task's own calls of jeton.http ask is added to *servers, which is NULL first and a reference of its owner's afterwards. The
 * owner outlives the task. */
struct audience;
void task_note_servers(lua_State *L, struct audience **servers);
struct audience **task_servers(lua_State *L); /* as noted for the task that runs, or NULL */
struct task *task_running(lua_State *L);      /* NULL: none */
/* To be called by a task's push: the tokens that the task uses are pinned (pins.h), and it may wait only for what await_begin_pinned begins; no_wait, static, says
 * why. *p is its owner's, who outlives the task. */
struct pins;
void task_pin(lua_State *L, struct pins *p, const char *no_wait);
struct pins *task_pins(lua_State *L); /* of the task that runs; NULL: its tokens are not pinned */
/* The same for what the task's own calls read, and what the secrets that it uses were read from. */
struct provenance;
void task_note_provenance(lua_State *L, struct provenance **provenance);
struct provenance **task_provenance(lua_State *L);

/* --- awaiting ---
 * start: check arguments, fill an op that embeds `struct await`, call await_begin (raises with a clear message when this coroutine may not wait:
 *        the policy's file is loading, or it is a coroutine of the script's own, or a non-yieldable place such as a metamethod or sort comparator),
 *        start the asynchronous work, `return await_yield(L, &op->await)`. Between the two nothing may raise that leaves the work behind.
 * complete: await_finish(&op->await, push, arg): push runs protected on the task's stack; its count is what the Lua call returns. The op is over.
 * cancel: called when the task is cancelled first: stop the work; it must not call await_finish any more.
 * Completion must not happen before await_yield has returned to the task's runner: use await_finish from callbacks only; for a result that is there
 * at once simply return values without awaiting. */
struct await {
  struct task *task;
  void (*cancel)(struct await *a);
};
void await_begin(lua_State *L, struct await *a, void (*cancel)(struct await *a));
/* The same, for what a task whose tokens are pinned may wait for as well. */
void await_begin_pinned(lua_State *L, struct await *a, void (*cancel)(struct await *a));
int await_yield(lua_State *L, struct await *a);
void await_finish(struct await *a, task_push_fn push, void *arg);

#endif
