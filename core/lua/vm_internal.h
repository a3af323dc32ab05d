/* vm_internal.h: the inside of a VM, for the files that make it: vm.c, vm_open.c, task.c, sandbox*.c, pattern.c. */
#ifndef JETON_LUA_VM_INTERNAL_H
#define JETON_LUA_VM_INTERNAL_H

#include <stdint.h>

#include "base/thread.h"
#include "lua/alloc.h"
#include "lua/budget.h"
#include "lua/vm.h"

/* A Lua thread's extra space holds its VM's address and, in the low bits, what it is. Lua copies it from the main thread, which has no mark. */
enum {
  MARK_TASK = 1, /* a task's coroutine: no script may resume or close it */
  MARK_DEAD = 2, /* died of the time budget: its hook is off for good, so nothing of it may run again */
  MARKS = 7
};

struct account; /* charge.h */
struct vm {
  unsigned refs;
  enum vm_role role;
  bool loading, stopping;
  void (*warn)(void *arg, const char *text); /* NULL: the log */
  void *warn_arg;
  void (*problem)(void *arg, const char *chunk, unsigned line, const char *text); /* NULL: it is raised */
  void *problem_arg;
  lua_State *L;
  struct services *services;
  struct budget budget;
  struct alloc alloc;
  struct account *outside;     /* what C holds for this VM's scripts */
  int64_t collect_from;        /* CLOCK_MONOTONIC us: when the rests of vm_collect_rarely are over */
  uint64_t collect_above;      /* bytes in use with which no run begins: garbage must not make the cap look reached */
  char refused_at[PLACE_SIZE]; /* where memory was refused last in this run, or "" */
  bool refused;                /* in this run */
  char *message;               /* of the last vm_call that failed */

  char warning[256]; /* what Lua's own warnings have said so far; they come in pieces */

  /* task.c */
  struct task *running; /* the innermost; tasks that it interrupts are behind it */
  lua_State *resumed;   /* sandbox_coroutine.c: the innermost coroutine of a script's own that runs, or NULL */
  struct link suspended;
  struct link cancelled; /* their variables are still to be closed */
  bool closing;          /* those of one are being closed */
  struct task *idle;     /* pooled */
  unsigned idle_count;
};

static inline uintptr_t vm_marks(lua_State *L) { return *(uintptr_t *)lua_getextraspace(L) & MARKS; }
static inline void vm_mark(lua_State *L, uintptr_t mark) { *(uintptr_t *)lua_getextraspace(L) |= mark; }
static inline struct vm *vm_at(lua_State *L) {
  return (struct vm *)(*(uintptr_t *)lua_getextraspace(L) & ~(uintptr_t)MARKS);
}

/* Lua bounds the C calls that are inside of one another (200), but begins to count anew in a coroutine that is closed, in some versions of 5.4, and in a task
 * that is cancelled. So whoever is about to begin a new count asks first whether the C stack still has room for a whole one. The most that a script gets out of 200
 * calls is some 550 KiB: each of them a gsub, whose matcher and buffer are on the stack, with a coroutine or a protected call between every two. */
enum { STACK_OF_A_COUNT = THREAD_FRAMES * 1536 * 1024 };
static inline bool vm_has_stack(void) { return thread_stack_left() >= STACK_OF_A_COUNT; }

/* Lua 5.4.4 keeps the address of the stack while a __concat runs: once that has moved, the operands are lost ("attempt to concatenate a nil value", "error in
 * error handling"), of secrets as of a script's own tables. A stack moves when it grows, and when the collector finds it more than three times as large as what
 * its calls hold, which is after almost any call that needed more than the 40 slots of a new one. So each has room from the beginning, held by its outermost call:
 * it neither grows for that many slots, nor is it shrunk until it was three times as large. The number fills a block of 4 KiB. Calls within one another that
 * take more than the room can still move the stack within a join. False: no memory. Call it where nothing of L runs. */
enum { STACK_ROOM = 250 };
static inline bool vm_make_stack_room(lua_State *L) {
#if LUA_VERSION_RELEASE_NUM < 50406
  return lua_checkstack(L, STACK_ROOM - lua_gettop(L)) != 0;
#else
  (void)L;
  return true;
#endif
}

/* Collects, and sets the mark halfway between what lives and the cap. */
void vm_collect(struct vm *vm);
/* Collects when n bytes more would not fit under the cap. For C functions that know the size of what they make: a luaL_Buffer does not collect when
 * the allocator refuses it. */
void vm_reserve(lua_State *L, uint64_t n);

/* How many instructions may pass between two looks at the clock, so that they take some 100 ms at the most. Measured: strcoll of two strings of zeros, which is
 * `<`, takes 6 ns a byte, and an instruction that jumps stands between two of them; `next` in an emptied table 0.05 ns a byte, a call with as many arguments as
 * fit the same. */
static inline int vm_pace(const struct vm *vm) {
  enum { STRINGS = 25, OTHERS = 30 }; /* log2 of the bytes that such a number of instructions may go over */
  const unsigned strings = alloc_level(&vm->alloc, ALLOC_STRING) + 1, others = alloc_level(&vm->alloc, ALLOC_OTHER) + 1;
  int count = BUDGET_COUNT;
  if (strings > STRINGS - 10) count = strings >= STRINGS ? 1 : 1 << (STRINGS - strings);
  if (others > OTHERS - 10 && (others >= OTHERS ? 1 : 1 << (OTHERS - others)) < count)
    count = others >= OTHERS ? 1 : 1 << (OTHERS - others);
  return count;
}

/* Around everything that runs Lua. */
static inline void vm_enter(struct vm *vm) {
  int count = BUDGET_COUNT;
  if (vm->budget.depth == 0) {
    if ((vm->alloc.levels[ALLOC_STRING] | vm->alloc.levels[ALLOC_OTHER]) != 0) count = vm_pace(vm);
    if (vm->alloc.used > vm->collect_above) vm_collect(vm);
    vm->refused = false;
    vm->refused_at[0] = vm->budget.place[0] = '\0';
  }
  budget_enter(&vm->budget, count);
}
void tasks_close_cancelled(struct vm *vm);
static inline void vm_leave(struct vm *vm) {
  if (vm->budget.depth == 1 && !list_empty(&vm->cancelled)) tasks_close_cancelled(vm);
  budget_leave(&vm->budget);
}

/* The message handler of every protected call of ours: makes a string of what was raised, with its place, and logs a traceback at debug. */
int vm_on_error(lua_State *L);
/* The kind of a protected call's failure: ERR_BUDGET, ERR_MEMORY or ERR_SCRIPT. *message is in `out`, or is the string on top of L; valid while both are. */
enum { FAILURE_SIZE = PLACE_SIZE + 96 };
int vm_failure(struct vm *vm, lua_State *L, int lua_status, char out[FAILURE_SIZE], const char **message);

void tasks_init(struct vm *vm);
void tasks_fini(struct vm *vm); /* none is running or suspended */
void tasks_cancel(struct vm *vm);
lua_State *tasks_running(
    const struct vm
        *vm); /* what runs: a coroutine of a script's own, else the innermost task's, else the main thread */

#endif
