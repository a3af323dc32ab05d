/* vm.h: one Lua state of one policy on one thread, with its memory cap, its time budget and its pooled coroutines.
 *
 * Owned by one thread. A policy's file runs once in each VM. Values never cross VMs. Refcounted by what runs in it: exchanges, tasks,
 * tunnels of an old policy keep their VM until they end. */
#ifndef JETON_LUA_VM_H
#define JETON_LUA_VM_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "lua/task.h"

struct vm;

enum vm_role { VM_CONTROL, VM_KEEPER, VM_WORKER };

struct services; /* http/services.h: what the thread offers to the library (loop, http origins, mailbox, …) */
struct vm_settings {
  enum vm_role role;
  uint64_t memory_max; /* bytes; an allocation above it fails as Lua's "not enough memory"; 0: no cap */
  int64_t budget_us;   /* uninterrupted Lua in one resume; 0: no limit */
  bool wipe;           /* freed memory is zeroed (the keeper's VM, where token bytes pass) */
  struct services *services;
};
/* The library is open and the sandbox in place (lua/sandbox.h); no policy loaded. NULL when out of memory (or above memory_max), which is logged. */
struct vm *vm_new(const struct vm_settings *s);
struct vm *vm_ref(struct vm *vm);
void vm_unref(struct vm *vm);       /* the last one closes the state: what runs in it holds a reference */
lua_State *vm_state(struct vm *vm); /* the main thread of the state */
struct vm *vm_of(lua_State *L);     /* any coroutine's */
enum vm_role vm_role(const struct vm *vm);
struct services *vm_services(const struct vm *vm);
/* After load, settings from the policy itself. */
void vm_limit(struct vm *vm, uint64_t memory_max, int64_t budget_us);
/* True while the policy's file itself runs (awaiting calls raise then). */
void vm_set_loading(struct vm *vm, bool loading);
bool vm_loading(const struct vm *vm);
/* Warnings about a policy while its file runs go to `tell`, or to the log when it is NULL. */
void vm_on_warning(struct vm *vm, void (*tell)(void *arg, const char *text), void *arg);
void vm_warn(const struct vm *vm, const char *text);
/* What is wrong with a policy and yet lets its file run on, so that its other mistakes show as well; the load fails in the end. `chunk` and `line` are the script's
 * place. vm_problem is false when nobody gathers them: then raise it. */
void vm_on_problem(struct vm *vm, void (*tell)(void *arg, const char *chunk, unsigned line, const char *text),
                   void *arg);
bool vm_problem(lua_State *L, const char *text);
/* No new task starts; every task is cancelled. For the keeper's old VM on reload and for shutdown. */
void vm_cancel_tasks(struct vm *vm);
uint64_t vm_memory(const struct vm *vm);
/* Charges `steps` of a loop in C, a few ns each, to the time budget; raises when it is over. For loops that a script can make long. */
void vm_burn(lua_State *L, size_t steps);
/* lua_next, charged: it goes over the empty places of a table, which may have been large. For every walk over a script's table. */
bool vm_next(lua_State *L, int idx);
/* For a resource that garbage may hold (a family's places, memory outside of the state): collects everything, so that it is free again. What a stranger can bring about
 * must not cost a whole collection each time, so these take a fifth of the thread's time at the most, a few short ones aside: false, and nothing is done, when
 * the last ones were just now. */
bool vm_collect_rarely(struct vm *vm);
/* True: the run of Lua that this is called from has lasted a while, up to half of its budget. An operation that a script could repeat without ever waiting
 * should then wait for an iteration of the loop. */
bool vm_long_run(const struct vm *vm);
/* A short step of the collector, for a timer of the owner's, outside of Lua: garbage holds references (slots, secrets), and a VM that rests makes none that
 * would get it collected. */
void vm_collect_step(struct vm *vm);

/* Runs fn (which may call any Lua API) in protected mode with budget, on the main thread: for set-up work, never yields. fn finds arg
 * as a light userdata at index 1. Returns 0, ERR_SCRIPT, ERR_BUDGET or ERR_MEMORY; then *message (valid until the next vm_call that fails) says why, with file
 * and line. */
int vm_call(struct vm *vm, lua_CFunction fn, void *arg, const char **message);

/* Pushes the nil, message, code triple of expected failure: "what: text of the code". what may be NULL. Returns 3. */
int push_failure(lua_State *L, int code, const char *what);

#endif
