/* task.c: see task.h.
 *
 * One proxied request is one task_start of a small hook, so that is the path to keep short: a coroutine from the pool, one lua_resume, nothing taken
 * from malloc, no reference made, no clock read.
 *
 * The coroutine runs task_main, which pushes the function and its arguments and calls it by lua_pcallk: an error is then caught inside of the coroutine,
 * its to-be-closed variables run with the hook on, and the coroutine can be used again. An error outside of that call (in push, or no memory for the
 * call itself) ends the coroutine, which is thrown away.
 *
 * States: idle (in the pool) -> running -> suspended (in vm->suspended, with its await) -> running -> … -> idle. vm->running is the innermost running
 * task; a C function that a task calls may start another, which has the first behind it. A task that is not idle holds a reference to its VM.
 *
 * One that is cancelled while it is suspended goes suspended -> cancelled (in vm->cancelled, its await over) -> idle, once its variables are closed.
 * Closing runs Lua, which may cancel another task: that one waits in the list until the first is closed, so that a row of tasks that cancel one another takes
 * no more C stack than one of them. All of them share the budget of the run that cancelled the first.
 *
 * Owned by the VM's thread. */
#include "lua/task.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "lua/vm.h"
#include "lua/vm_internal.h"

enum {
  IDLE_MAX = 256, /* coroutines kept for use again */
  DEPTH_MAX = 16, /* tasks inside of one another on the C stack */
  PUSH_ROOM = 20
};
enum task_state { TASK_IDLE, TASK_RUNNING, TASK_SUSPENDED, TASK_CANCELLED };

struct task {
  struct link link; /* in vm->suspended or vm->cancelled */
  struct vm *vm;
  lua_State *L;
  int ref; /* of the coroutine, in the registry */
  int fn;
  task_push_fn push; /* of the function's arguments; later of the await's results */
  void *push_arg;
  task_done_fn done;
  void *arg;
  struct task **out;              /* until task_start returns */
  struct await *await;            /* while suspended */
  struct audience **servers;      /* task_note_servers; NULL: nobody asks */
  struct pins *pins;              /* task_pin; NULL: its tokens are not pinned */
  const char *no_wait;            /* of the same */
  struct provenance **provenance; /* the same of task_note_provenance */
  struct task *next;              /* idle: in the pool; running: the task it interrupts */
  enum task_state state;
  int lua_status; /* of the protected call inside */
  bool cancelled;
};

/* --- the coroutine's own side --- */

static int on_main_end(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - 1;
  vm_at(L)->running->lua_status = status;
  return 1;
}

static int task_main(lua_State *L) {
  struct task *t = vm_at(L)->running;
  lua_pushcfunction(L, vm_on_error);
  lua_rawgeti(L, LUA_REGISTRYINDEX, t->fn);
  int n = t->push != NULL ? t->push(L, t->push_arg) : 0;
  assert(lua_gettop(L) == 2 + n);
  return on_main_end(L, lua_pcallk(L, n, LUA_MULTRET, 1, 0, on_main_end), 0);
}

static int on_await_end(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  struct task *t = vm_at(L)->running;
  luaL_checkstack(L, PUSH_ROOM, NULL);
  return t->push != NULL ? t->push(L, t->push_arg) : 0;
}

/* --- the pool --- */

static int l_new_coroutine(lua_State *L) {
  struct task *t = lua_touserdata(L, 1);
  t->L = lua_newthread(L);
  vm_mark(t->L, MARK_TASK);
  t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static void retire(struct task *t) {
  (void)lua_checkstack(t->vm->L, 4);
  luaL_unref(t->vm->L, LUA_REGISTRYINDEX, t->ref);
  free(t);
}

static struct task *task_new(struct vm *vm) {
  struct task *t = calloc(1, sizeof *t);
  if (t == NULL) return NULL;
  t->vm = vm;
  list_init(&t->link);
  const char *message;
  if (vm_call(vm, l_new_coroutine, t, &message) != 0) {
    free(t);
    return NULL;
  }
  if (vm_make_stack_room(t->L)) return t;
  retire(t);
  return NULL;
}

static struct task *pool_take(struct vm *vm) {
  struct task *t = vm->idle;
  if (t == NULL) return task_new(vm);
  vm->idle = t->next;
  vm->idle_count--;
  return t;
}

static void pool_give(struct task *t, bool reusable) {
  struct vm *vm = t->vm;
  if (!reusable || vm->idle_count >= IDLE_MAX) {
    retire(t);
    return;
  }
  lua_settop(t->L, 0);
  if (!vm_make_stack_room(t->L)) { /* it was given up when the coroutine was closed */
    retire(t);
    return;
  }
  if (lua_gethookcount(t->L) != BUDGET_COUNT) budget_arm(t->L, &vm->budget);
  t->state = TASK_IDLE;
  t->next = vm->idle;
  vm->idle = t;
  vm->idle_count++;
}

/* --- the end of a task --- */

static void close_coroutine(struct task *t) {
  struct vm *vm = t->vm;
  bool cancelled = t->cancelled;
  t->next = vm->running;
  t->state = TASK_RUNNING;
  t->cancelled = true; /* a closing variable may not wait */
  vm->running = t;
  vm_enter(vm);
  budget_keep_pace(t->L, &vm->budget);
#if LUA_VERSION_RELEASE_NUM >= 50406
  (void)lua_closethread(t->L, NULL);
#else
  (void)lua_resetthread(t->L);
#endif
  vm_leave(vm);
  vm->running = t->next;
  t->cancelled = cancelled;
}

static void cancel_await(struct task *t) {
  struct await *a = t->await;
  t->await = NULL;
  if (a != NULL) a->cancel(a);
}

/* Ends a coroutine that has yielded. Called inside of its run when the budget is over, so that the closing of variables is not given another. */
static void abandon(struct task *t) {
  cancel_await(t);
  close_coroutine(t);
}

/* The place where memory ran out is not always known (vm_open.c); the function that was started is. */
static void place_by_function(struct task *t) {
  if (t->vm->refused && t->vm->refused_at[0] == '\0') lua_place_of(t->L, t->fn, t->vm->refused_at);
}

static void call_done(struct task *t, int lua_status, int nresults) {
  char text[FAILURE_SIZE];
  const char *message = NULL;
  int status = 0;
  if (t->vm->budget.over || lua_status != LUA_OK) {
    place_by_function(t);
    status = vm_failure(t->vm, t->L, lua_status, text, &message);
    nresults = 0;
  }
  if (t->out != NULL) *t->out = NULL;
  t->out = NULL;
  t->done(t->arg, t->L, nresults, status, message);
}

static void finish(struct task *t, int resumed, int nresults) {
  struct vm *vm = t->vm;
  bool cancelled = t->cancelled, reusable = resumed == LUA_OK || resumed == LUA_YIELD;
  int lua_status = resumed == LUA_OK ? t->lua_status : resumed == LUA_YIELD ? LUA_ERRRUN : resumed;
  if (!cancelled) call_done(t, lua_status, nresults);
  pool_give(t, reusable);
  vm_unref(vm);
}

/* --- running --- */

static void suspend(struct task *t) {
  t->state = TASK_SUSPENDED;
  t->out = NULL;
  list_push(&t->vm->suspended, &t->link);
}

static void run(struct task *t, int nargs) {
  struct vm *vm = t->vm;
  int nresults = 0;
  lua_State *resumed = vm->resumed, *from = vm->running != NULL ? tasks_running(vm) : NULL; /* whose C calls count on */
  t->next = vm->running;
  t->state = TASK_RUNNING;
  vm->running = t;
  vm->resumed = NULL;
  vm_enter(vm);
  if (vm->budget.count != BUDGET_COUNT) budget_keep_pace(t->L, &vm->budget);
  int status = lua_resume(t->L, from, nargs, &nresults);
  vm->running = t->next;
  vm->resumed = resumed;
  assert(status != LUA_YIELD ||
         t->await != NULL); /* coroutine.yield refuses to yield from here (sandbox_coroutine.c) */
  bool ends = status != LUA_YIELD || vm->budget.over || t->cancelled;
  if (status == LUA_YIELD && ends) abandon(t);
  vm_leave(vm);
  if (ends)
    finish(t, status, nresults);
  else
    suspend(t);
}

static int refuse(struct vm *vm, const char **message) {
  *message = "the policy of this task has ended";
  if (vm->stopping) return ERR_CLOSED;
  *message = "tasks start one another too deeply";
  return vm->budget.depth >= DEPTH_MAX || (vm->budget.depth > 0 && !vm_has_stack()) ? ERR_LIMIT : 0;
}

void task_start(struct vm *vm, int fn, task_push_fn push, task_done_fn done, void *arg, struct task **out) {
  const char *message;
  int refused = refuse(vm, &message);
  struct task *t = refused == 0 ? pool_take(vm) : NULL;
  if (out != NULL) *out = t;
  if (t == NULL) {
    if (refused == 0) message = "no memory left for a coroutine: the memory limit is reached";
    done(arg, vm->L, 0, refused != 0 ? refused : ERR_MEMORY, message);
    return;
  }
  t->fn = fn;
  t->push = push;
  t->push_arg = t->arg = arg;
  t->done = done;
  t->out = out;
  t->lua_status = LUA_OK;
  t->servers = NULL;
  t->pins = NULL;
  t->provenance = NULL;
  t->cancelled = false;
  vm_ref(vm);
  lua_pushcfunction(t->L, task_main);
  run(t, 0);
}

void tasks_close_cancelled(struct vm *vm) {
  vm_ref(vm);
  vm->closing = true;
  vm_enter(vm);
  for (struct link *l; (l = list_pop(&vm->cancelled)) != NULL;) {
    struct task *t = CONTAINER_OF(l, struct task, link);
    close_coroutine(t);
    pool_give(t, true);
    vm_unref(vm);
  }
  vm_leave(vm);
  vm->closing = false;
  vm_unref(vm);
}

void task_cancel(struct task *t) {
  assert(t->state == TASK_RUNNING || t->state == TASK_SUSPENDED);
  struct vm *vm = t->vm;
  t->out = NULL;
  if (t->state == TASK_RUNNING) {
    t->cancelled = true;
    return;
  }
  list_remove(&t->link);
  cancel_await(t);
  t->state = TASK_CANCELLED;
  list_push(&vm->cancelled, &t->link);
  if (!vm->closing && (vm->budget.depth == 0 || vm_has_stack())) tasks_close_cancelled(vm);
}

void task_note_servers(lua_State *L, struct audience **servers) { vm_at(L)->running->servers = servers; }

struct audience **task_servers(lua_State *L) {
  const struct task *t = vm_at(L)->running;
  return t != NULL ? t->servers : NULL;
}

struct task *task_running(lua_State *L) {
  return vm_at(L)->running;
}

void task_pin(lua_State *L, struct pins *p, const char *no_wait) {
  struct task *t = vm_at(L)->running;
  t->pins = p;
  t->no_wait = no_wait;
}

struct pins *task_pins(lua_State *L) {
  const struct task *t = vm_at(L)->running;
  return t != NULL ? t->pins : NULL;
}

void task_note_provenance(lua_State *L, struct provenance **provenance) { vm_at(L)->running->provenance = provenance; }

struct provenance **task_provenance(lua_State *L) {
  const struct task *t = vm_at(L)->running;
  return t != NULL ? t->provenance : NULL;
}

/* --- awaiting --- */

static int refuse_to_wait(lua_State *L, const char *why) {
  lua_Debug ar;
  bool named = lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name != NULL;
  return luaL_error(L, "%s%s%s cannot wait here: %s", named ? "'" : "", named ? ar.name : "this function",
                    named ? "'" : "", why);
}

void await_begin_pinned(lua_State *L, struct await *a, void (*cancel)(struct await *a)) {
  struct vm *vm = vm_at(L);
  struct task *t = vm->running;
  if (vm->loading)
    refuse_to_wait(L, "the policy's file is loading; move the call into on_start or into a function of `tasks`");
  if (t == NULL) refuse_to_wait(L, "no task runs, so what calls it has to answer at once");
  if (t->L != L)
    refuse_to_wait(
        L,
        "this is a coroutine of your own; call it outside of coroutine.create and coroutine.wrap, or give the "
        "function to jeton.spawn");
  if (t->cancelled || vm->stopping) refuse_to_wait(L, "this task has been cancelled");
  if (!lua_isyieldable(L))
    refuse_to_wait(L,
                   "a metamethod, a sort comparator or a function given to gsub or load must return at once; get the "
                   "value before");
  a->task = t;
  a->cancel = cancel;
}

void await_begin(lua_State *L, struct await *a, void (*cancel)(struct await *a)) {
  if (task_pins(L) != NULL) refuse_to_wait(L, vm_at(L)->running->no_wait);
  await_begin_pinned(L, a, cancel);
}

int await_yield(lua_State *L, struct await *a) {
  struct task *t = a->task;
  assert(t == vm_at(L)->running && t->L == L && t->await == NULL);
  t->await = a;
  return lua_yieldk(L, 0, 0, on_await_end);
}

void await_finish(struct await *a, task_push_fn push, void *arg) {
  struct task *t = a->task;
  assert(t->state == TASK_SUSPENDED && t->await == a);
  t->await = NULL;
  t->push = push;
  t->push_arg = arg;
  list_remove(&t->link);
  run(t, 0);
}

/* --- all tasks of a VM --- */

void tasks_init(struct vm *vm) {
  list_init(&vm->suspended);
  list_init(&vm->cancelled);
}

void tasks_fini(struct vm *vm) {
  assert(vm->running == NULL && list_empty(&vm->suspended) && list_empty(&vm->cancelled));
  while (vm->idle != NULL) {
    struct task *t = vm->idle;
    vm->idle = t->next;
    free(t);
  }
}

lua_State *tasks_running(const struct vm *vm) {
  if (vm->resumed != NULL) return vm->resumed;
  return vm->running != NULL ? vm->running->L : vm->L;
}

void tasks_cancel(struct vm *vm) {
  vm_ref(vm);
  vm->stopping = true;
  for (struct task *t = vm->running; t != NULL; t = t->next) task_cancel(t);
  while (!list_empty(&vm->suspended)) task_cancel(CONTAINER_OF(vm->suspended.next, struct task, link));
  vm_unref(vm);
}
