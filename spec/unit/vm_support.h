/* vm_support.h: what the tests of VMs share: a VM, Lua text as a task, and a function that waits until the test says so. */
#ifndef JETON_SPEC_VM_SUPPORT_H
#define JETON_SPEC_VM_SUPPORT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "check.h"
#include "http/services.h"
#include "lua/sandbox.h"
#include "lua/vm.h"

struct outcome { /* of one task */
  int calls, status, nresults;
  bool truth; /* of the first result */
  char message[1024], result[256];
};

struct compile {
  const char *text;
  int ref;
};

static inline int l_compile(lua_State *L) {
  struct compile *c = lua_touserdata(L, 1);
  if (luaL_loadbufferx(L, c->text, strlen(c->text), "@test.lua", "t") != LUA_OK) return lua_error(L);
  c->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

/* The text as a function, at a reference that lives as long as the VM. */
static inline int vm_compile(struct vm *vm, const char *text) {
  struct compile c = {text, LUA_NOREF};
  const char *message = "";
  int status = vm_call(vm, l_compile, &c, &message);
  if (status != 0) fprintf(stderr, "%s\n", message);
  CHECK(status == 0);
  return c.ref;
}

static inline void on_outcome(void *arg, lua_State *L, int nresults, int status, const char *message) {
  struct outcome *o = arg;
  o->calls++;
  o->status = status;
  o->nresults = nresults;
  o->truth = nresults > 0 && lua_toboolean(L, -nresults);
  (void)snprintf(o->message, sizeof o->message, "%s", message != NULL ? message : "");
  (void)snprintf(o->result, sizeof o->result, "%s",
                 nresults > 0 && lua_type(L, -nresults) == LUA_TSTRING ? lua_tostring(L, -nresults) : "");
}

static inline struct vm *vm_for_test(uint64_t memory_max, int64_t budget_us) {
  static struct services services; /* nothing here starts any work */
  struct vm_settings s = {VM_WORKER, memory_max, budget_us, false, &services};
  struct vm *vm = vm_new(&s);
  CHECK(vm != NULL);
  return vm;
}

/* Runs the text as a task, which may be waiting when this returns: calls is 0 then. */
static inline void vm_start(struct vm *vm, const char *text, struct outcome *o, struct task **out) {
  memset(o, 0, sizeof *o);
  task_start(vm, vm_compile(vm, text), NULL, on_outcome, o, out);
}

static inline struct outcome vm_run(struct vm *vm, const char *text) {
  struct outcome o;
  vm_start(vm, text, &o, NULL);
  CHECK(o.calls == 1);
  return o;
}

/* The text returns true. */
static inline void vm_expect(struct vm *vm, const char *text) {
  struct outcome o = vm_run(vm, text);
  if (o.status != 0 || !o.truth) fprintf(stderr, "%s\n-- gave %d %s %s\n", text, o.status, o.message, o.result);
  CHECK(o.status == 0 && o.truth);
}

/* The text ends with this status and a message that has `part` in it. */
static inline void vm_refuses(struct vm *vm, const char *text, int status, const char *part) {
  struct outcome o = vm_run(vm, text);
  bool good = o.status == status && strstr(o.message, part) != NULL;
  if (!good) fprintf(stderr, "%s\n-- gave %d %s\n-- expected %d %s\n", text, o.status, o.message, status, part);
  CHECK(good);
}

struct declaration {
  const char *name;
  lua_CFunction fn;
};

static inline int l_declare(lua_State *L) {
  const struct declaration *d = lua_touserdata(L, 1);
  lua_pushcfunction(L, d->fn);
  sandbox_declare(L, d->name);
  return 0;
}

static inline void vm_declare(struct vm *vm, const char *name, lua_CFunction fn) {
  struct declaration d = {name, fn};
  CHECK(vm_call(vm, l_declare, &d, NULL) == 0);
}

#endif
