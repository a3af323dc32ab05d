/* work.h: blocking work of the library (files, TLS settings) on libuv's thread pool, while the task that asked for it waits. */
#ifndef JETON_LUA_WORK_H
#define JETON_LUA_WORK_H

#include <lua.h>
#include <stdbool.h>
#include <uv.h>

#include "lua/vm.h"

/* Embedded at the start of an op that guard_new made. */
struct work {
  uv_work_t request;
  struct await await;
  void (*run)(struct work *w);               /* on a pool thread: no Lua */
  int (*push)(lua_State *L, struct work *w); /* pushes what the call returns */
  void (*unmake)(void *p);                   /* frees the op */
  bool must_run;                             /* also when its task ends before the pool has begun it */
  bool cancelled;
};
/* The op's guard is on top of the stack; everything else that it needs is set. The value to return from the C function. */
int work_await(lua_State *L, struct work *w);

#endif
