/* vm.c: see vm.h. Protected calls on a VM's main thread, their failures, and facts. How a VM is made and ends is in vm_open.c, tasks are in
 * task.c.
 *
 * The VM's address is in the extra space of every Lua thread (vm_internal.h), so that vm_of costs one load. Owned by the VM's thread. */
#include "lua/vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "lua/vm_internal.h"

/* --- errors --- */

static void push_described(lua_State *L) { /* for what is no string: error({}), error(nil) */
  char place[PLACE_SIZE];
  lua_place(L, place);
  const char *colon = place[0] != '\0' ? ": " : "";
  if (lua_isnil(L, 1))
    lua_pushfstring(L, "%s%serror raised without a message", place, colon);
  else
    lua_pushfstring(L, "%s%serror raised with a %s value", place, colon, luaL_typename(L, 1));
}

int vm_on_error(lua_State *L) {
  struct vm *vm = vm_at(L);
  if (vm->refused && vm->refused_at[0] == '\0') lua_place(L, vm->refused_at);
  if (lua_type(L, 1) == LUA_TNUMBER || luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL)
    luaL_tolstring(L, 1, NULL);
  else if (lua_type(L, 1) != LUA_TSTRING)
    push_described(L);
  else
    lua_settop(L, 1);
  if (log_wants(LOG_DEBUG)) {
    luaL_traceback(L, L, lua_tostring(L, -1), 1);
    log_debug("%s", lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return 1;
}

static int budget_failure(const struct vm *vm, char out[FAILURE_SIZE]) {
  char limit[32];
  const char *place = vm->budget.place[0] != '\0' ? vm->budget.place : vm->refused_at;
  budget_text(&vm->budget, limit, sizeof limit);
  (void)snprintf(out, FAILURE_SIZE, "%s%stime budget of %s exceeded", place, place[0] != '\0' ? ": " : "", limit);
  return ERR_BUDGET;
}

static int memory_failure(const struct vm *vm, char out[FAILURE_SIZE]) {
  const char *place = vm->refused_at;
  (void)snprintf(out, FAILURE_SIZE, "%s%snot enough memory: the limit is %" PRIu64 " KiB", place,
                 place[0] != '\0' ? ": " : "", vm->alloc.max / 1024);
  return ERR_MEMORY;
}

int vm_failure(struct vm *vm, lua_State *L, int lua_status, char out[FAILURE_SIZE], const char **message) {
  const char *text = lua_gettop(L) > 0 && lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  /* luaL_Buffer raises a plain error where the rest of Lua has a status for it */
  bool memory = lua_status == LUA_ERRMEM || (vm->refused && text != NULL && strcmp(text, "not enough memory") == 0);
  *message = out;
  if (vm->budget.over) return budget_failure(vm, out);
  if (memory) return memory_failure(vm, out);
  if (text == NULL)
    (void)snprintf(out, FAILURE_SIZE, "error raised with a %s value", lua_gettop(L) > 0 ? luaL_typename(L, -1) : "nil");
  if (text != NULL) *message = text;
  return ERR_SCRIPT;
}

/* --- the collector --- */

void vm_collect(struct vm *vm) {
  const struct alloc *a = &vm->alloc;
  lua_gc(vm->L, LUA_GCCOLLECT);
  vm->collect_above = a->max == 0 ? UINT64_MAX : a->used >= a->max ? a->used : a->used + (a->max - a->used) / 2;
}

bool vm_collect_rarely(struct vm *vm) {
  enum {
    REST = 4,
    AHEAD_US = 20 * 1000
  }; /* a rest is that many times as long as the collection took; so much of it need not have come yet */
  const int64_t before = clock_mono_us();
  if (before < vm->collect_from - AHEAD_US) return false;
  vm_collect(vm);
  const int64_t after = clock_mono_us();
  vm->collect_from = (vm->collect_from > after ? vm->collect_from : after) + REST * (after - before);
  return true;
}

void vm_collect_step(struct vm *vm) {
  enum { STEP_KB = 64 };
  if (vm->budget.depth == 0) lua_gc(vm->L, LUA_GCSTEP, STEP_KB);
}

void vm_reserve(lua_State *L, uint64_t n) {
  struct vm *vm = vm_at(L);
  const uint64_t max = vm->alloc.max;
  if (max != 0 && n <= max && vm->alloc.used > max - n) vm_collect(vm);
}

/* --- protected calls --- */

static void keep_message(struct vm *vm, const char *message) {
  free(vm->message);
  vm->message = strdup(message);
}

int vm_call(struct vm *vm, lua_CFunction fn, void *arg, const char **message) {
  lua_State *L = vm->L;
  char text[FAILURE_SIZE];
  const char *what = "not enough memory for a call";
  int status = ERR_MEMORY;
  vm_ref(vm);
  vm_enter(vm);
  if (vm->budget.count != BUDGET_COUNT) budget_keep_pace(L, &vm->budget);
  int top = lua_gettop(L);
  if (lua_checkstack(L, 4)) {
    lua_pushcfunction(L, vm_on_error);
    lua_pushcfunction(L, fn);
    lua_pushlightuserdata(L, arg);
    int lua_status = lua_pcall(L, 1, 0, top + 1);
    status = 0;
    if (lua_status != LUA_OK || vm->budget.over) status = vm_failure(vm, L, lua_status, text, &what);
  }
  if (status != 0) keep_message(vm, what);
  if (status != 0 && message != NULL) *message = vm->message != NULL ? vm->message : "not enough memory";
  lua_settop(L, top);
  if (lua_gethookcount(L) != BUDGET_COUNT) budget_arm(L, &vm->budget);
  vm_leave(vm);
  vm_unref(vm);
  return status;
}

int push_failure(lua_State *L, int code, const char *what) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s%s%s", what != NULL ? what : "", what != NULL ? ": " : "", err_text(code));
  lua_pushstring(L, err_name(code));
  return 3;
}

/* --- facts --- */

lua_State *vm_state(struct vm *vm) { return vm->L; }
struct vm *vm_of(lua_State *L) {
  return vm_at(L);
}
enum vm_role vm_role(const struct vm *vm) { return vm->role; }
struct services *vm_services(const struct vm *vm) {
  return vm->services;
}
void vm_set_loading(struct vm *vm, bool loading) { vm->loading = loading; }
bool vm_loading(const struct vm *vm) { return vm->loading; }
void vm_on_warning(struct vm *vm, void (*tell)(void *arg, const char *text), void *arg) {
  vm->warn = tell;
  vm->warn_arg = arg;
}
void vm_warn(const struct vm *vm, const char *text) {
  if (vm->warn != NULL)
    vm->warn(vm->warn_arg, text);
  else
    log_warn("%s", text);
}
void vm_on_problem(struct vm *vm, void (*tell)(void *arg, const char *chunk, unsigned line, const char *text),
                   void *arg) {
  vm->problem = tell;
  vm->problem_arg = arg;
}
/* A script that catches the error has another way: pcall and xpcall, or a coroutine of its own. */
static bool is_caught(lua_State *L) {
  static const char *const catchers[] = {"pcall", "xpcall"};
  lua_Debug d;
  bool main = lua_pushthread(L) == 1, caught = false;
  lua_pop(L, 1);
  for (int level = 1; main && !caught && lua_getstack(L, level, &d) != 0; level++) {
    (void)lua_getinfo(L, "f", &d);
    for (size_t i = 0; i < 2; i++) {
      lua_getglobal(L, catchers[i]);
      caught = caught || lua_rawequal(L, -1, -2);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  return caught || !main;
}
bool vm_problem(lua_State *L, const char *text) {
  const struct vm *vm = vm_of(L);
  lua_Debug d;
  luaL_checkstack(L, 4, "a problem");
  if (vm->problem == NULL || !vm->loading || is_caught(L)) return false;
  if (lua_getstack(L, 1, &d) == 0 || lua_getinfo(L, "Sl", &d) == 0 || d.currentline <= 0) return false;
  vm->problem(vm->problem_arg, d.short_src, (unsigned)d.currentline, text);
  return true;
}
void vm_cancel_tasks(struct vm *vm) { tasks_cancel(vm); }
void vm_burn(lua_State *L, size_t steps) { budget_burn(L, &vm_at(L)->budget, steps); }
bool vm_next(lua_State *L, int idx) {
  vm_burn(L, 1);
  return lua_next(L, idx) != 0;
}
uint64_t vm_memory(const struct vm *vm) { return vm->alloc.used; }

bool vm_long_run(const struct vm *vm) {
  enum { LONG_US = 1000 };
  const struct budget *b = &vm->budget;
  if (b->start_us == 0) return false; /* too short for a check of the clock */
  int64_t limit = b->limit_us > 0 && b->limit_us / 2 < LONG_US ? b->limit_us / 2 : LONG_US;
  return clock_mono_us() - b->start_us >= limit;
}
