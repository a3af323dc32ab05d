/* vm.h: one Lua state of one policy on one thread, with its memory cap, its time budget and its pooled coroutines.
 *
 * Owned by one thread. A policy's file runs once in each VM. Values never cross VMs. Refcounted by what runs in it: exchanges, tasks,
 * tunnels of an old policy keep their VM until they end. */
#ifndef JETON_LUA_VM_H
#define JETON_LUA_VM_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"

struct task;
struct vm;

enum vm_role { VM_CONTROL, VM_KEEPER, VM_WORKER };

struct vm_services; /* lua/services.h: what the thread offers to the library (loop, http origins, mailbox, …) */
struct vm_settings {
  enum vm_role role;
  uint64_t memory_max;  /* bytes; an allocation above it fails as Lua's "not enough memory" */
  int64_t budget_us;    /* uninterrupted Lua in one resume */
  bool wipe;            /* freed memory is zeroed (the keeper's VM, where token bytes pass) */
  struct vm_services *services;
};
/* The library is open and the sandbox in place (lua/sandbox.h); no policy loaded. NULL when out of memory. */
struct vm *vm_new(const struct vm_settings *s);
struct vm *vm_ref(struct vm *vm);
void vm_unref(struct vm *vm);
lua_State *vm_state(struct vm *vm);     /* the main thread of the state */
struct vm *vm_of(lua_State *L);         /* any coroutine's */
enum vm_role vm_role(const struct vm *vm);
struct vm_services *vm_services(const struct vm *vm);
/* After load, settings from the policy itself. */
void vm_limit(struct vm *vm, uint64_t memory_max, int64_t budget_us);
/* True while the policy's file itself runs (awaiting calls raise then). */
void vm_set_loading(struct vm *vm, bool loading);
bool vm_loading(const struct vm *vm);
/* No new task starts; every task is cancelled. For the keeper's old VM on reload and for shutdown. */
void vm_cancel_tasks(struct vm *vm);
uint64_t vm_memory(const struct vm *vm);

/* Runs fn (which may call any Lua API) in protected mode with budget, on the main thread: for set-up work, never yields.
 * Returns 0, ERR_SCRIPT, ERR_BUDGET or ERR_MEMORY; then *message (valid until the next vm_call) tells, with file and line. */
int vm_call(struct vm *vm, lua_CFunction fn, void *arg, const char **message);

/* --- tasks: coroutines of this program, not of the script --- */

/* Pushes the function's arguments onto L inside protected mode, returns how many. */
typedef int (*task_push_fn)(lua_State *L, void *arg);
/* Called exactly once when the coroutine has ended, unless task_cancel came first. status 0: results are L's top `nresults`;
 * else ERR_SCRIPT, ERR_BUDGET, ERR_MEMORY and `message` ("policy.lua:12: …", with traceback logged at debug). It runs outside of Lua, but
 * must read results only through raw access or vm_call-like protection (lua_toboolean, lua_tolstring of strings, lua_rawget…). */
typedef void (*task_done_fn)(void *arg, lua_State *L, int nresults, int status, const char *message);

/* Runs the function at registry reference `fn` in a pooled coroutine. done may be called before this returns.
 * *out (may be NULL) is the task while it is suspended, NULL when it has ended already. The task holds a reference to the VM. */
void task_start(struct vm *vm, int fn, task_push_fn push, task_done_fn done, void *arg, struct task **out);
/* Ends a suspended task: its await is cancelled, pending to-be-closed variables run, done is not called. */
void task_cancel(struct task *t);

/* --- awaiting: how a C function of the library suspends its task ---
 * start: check arguments, fill an op that embeds `struct await`, call await_begin (raises with a clear message when this coroutine may not wait:
 *        the policy's file is loading, or it is a coroutine of the script's own, or a non-yieldable place such as a metamethod or sort comparator),
 *        start the asynchronous work, `return await_yield(L, &op->await)`.
 * complete: await_finish(&op->await, push, arg): push runs protected on the task's stack; its count is what the Lua call returns. The op is over.
 * cancel: called when the task is cancelled first: stop the work; it must not call await_finish any more.
 * Completion must not happen before await_yield has returned to the task's runner: use await_finish from callbacks only; for a result that is there
 * at once simply return values without awaiting. */
struct await {
  struct task *task;
  void (*cancel)(struct await *a);
};
void await_begin(lua_State *L, struct await *a, void (*cancel)(struct await *a));
int await_yield(lua_State *L, struct await *a);
void await_finish(struct await *a, task_push_fn push, void *arg);
/* The nil, message, code triple of expected failure. Returns 3. */
int push_failure(lua_State *L, int code, const char *what);

#endif
