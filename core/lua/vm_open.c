/* vm_open.c: how a VM is made and how it ends.
 *
 * A file of its own, since it alone knows what is put into a state: the sandbox and the library, which stand on vm.h themselves. What a VM gives to
 * the parts below it is here, too: the count hook to budget.c, and the answers to the questions of alloc.c. Owned by the VM's thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/log.h"
#include "lua/charge.h"
#include "lua/library.h"
#include "lua/sandbox.h"
#include "lua/vm.h"
#include "lua/vm_internal.h"

static void on_count(lua_State *L, lua_Debug *ar) {
  (void)ar;
  budget_on_count(L, &vm_at(L)->budget);
}

/* --- callbacks of the allocator --- */

static bool on_heavy(void *arg, size_t size) {
  (void)size;
  return !budget_spent(&((struct vm *)arg)->budget);
}

static void hurry(struct vm *vm, int count) {
  if (vm->budget.depth > 0 && vm->L != NULL) budget_hurry(tasks_running(vm), &vm->budget, count);
}

static void on_grown(void *arg) { hurry(arg, vm_pace(arg)); }

/* Lua gives no place when memory ends, so it is noted here. A block that grows may be a Lua stack that is being moved and must not be read. Lua collects
 * everything before it gives up: where little is garbage each allocation may cost that, a tenth of a second and more. */
static void on_refused(void *arg, bool fresh) {
  struct vm *vm = arg;
  vm->refused = true;
  hurry(vm, 1);
  if (vm->L == NULL || !fresh) return;
  lua_place(tasks_running(vm), vm->refused_at);
}

/* --- life --- */

static int on_panic(lua_State *L) { /* an error outside of any protected call: a bug of ours */
  log_error("Lua raised outside of a protected call: %s", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?");
  return 0; /* Lua aborts */
}

static int l_open(lua_State *L) {
  sandbox_open(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushcfunction(L, library_open);
  lua_call(L, 0, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "jeton");
  sandbox_declare_fixed(L, "jeton");
  return 0;
}

static bool open_state(struct vm *vm) {
  lua_State *L = lua_newstate(alloc_lua, &vm->alloc);
  if (L == NULL) {
    log_error("a Lua state cannot be made: not enough memory");
    return false;
  }
  vm->L = L;
  *(struct vm **)lua_getextraspace(L) = vm;
  lua_atpanic(L, on_panic);
  budget_arm(L, &vm->budget);
  const char *message;
  if (!vm_make_stack_room(L)) {
    log_error("a Lua state cannot be made: not enough memory");
    return false;
  }
  if (vm_call(vm, l_open, NULL, &message) == 0) return true;
  log_error("a Lua state cannot be made: %s", message);
  return false;
}

static void vm_close(struct vm *vm) {
  assert(vm->budget.depth == 0); /* what runs holds a reference */
  tasks_fini(vm);
  if (vm->L != NULL) lua_close(vm->L);
  alloc_fini(&vm->alloc);
  account_unref(vm->outside);
  free(vm->message);
  free(vm);
}

struct vm *vm_new(const struct vm_settings *s) {
  struct vm *vm = calloc(1, sizeof *vm);
  if (vm == NULL) return NULL;
  vm->refs = 1;
  vm->role = s->role;
  vm->services = s->services;
  vm->budget.hook = on_count;
  alloc_init(&vm->alloc, s->memory_max, s->wipe);
  vm->outside = account_new(s->memory_max);
  vm->alloc.heavy = on_heavy;
  vm->alloc.grown = on_grown;
  vm->alloc.refused = on_refused;
  vm->alloc.arg = vm;
  vm->collect_above = UINT64_MAX;
  tasks_init(vm);
  if (open_state(vm)) {
    vm_limit(vm, s->memory_max, s->budget_us);
    return vm;
  }
  vm_close(vm);
  return NULL;
}

struct vm *vm_ref(struct vm *vm) {
  vm->refs++;
  return vm;
}

void vm_unref(struct vm *vm) {
  assert(vm->refs > 0);
  if (--vm->refs == 0) vm_close(vm);
}

void vm_limit(struct vm *vm, uint64_t memory_max, int64_t budget_us) {
  vm->alloc.max = memory_max;
  account_limit(vm->outside, memory_max);
  vm->collect_above = memory_max == 0 ? UINT64_MAX : memory_max / 2;
  vm->budget.limit_us = budget_us;
}
